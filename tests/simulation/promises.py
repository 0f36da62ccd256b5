"""What the service promises, whatever happens: checked at each event, and every few minutes.

A broken promise ends the run. Each is a sentence of `Promise`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from ravesvc.api.models import Listing
from ravesvc.blocklist.model import SERVICE, Block, BlocklistChange, Reason, What, quarantine_ms
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import STABLE_AFTER_S
from ravesvc.core.inventory import ROUNDS_TO_FORGET
from ravesvc.core.outages import LEAST_MESHES
from ravesvc.core.run_state import RunPhase
from ravesvc.errors import RaveError
from ravesvc.names import ExitStatus
from tests.simulation.parent import MAX_MEMORIES, Parent, sizes

if TYPE_CHECKING:
    from tests.simulation.site import Site

# Seconds. An order by hand counts as the reason for what the service does so soon after it.
_BY_HAND_S = 60.0
# Later the bots are tried again one by one, and then only one of them may fail.
_ALL_FAIL_WITHIN_S = 180.0
# A block that was a mistake is taken back until then.
_TAKEN_BACK_S = 120.0
_EXAMINED_WITHIN_S = 300.0
# A block ends this much later at most: its timer is set anew so often, and a save may have to be tried again.
_BLOCK_ENDS_WITHIN_S = 660.0
# Until a mesh whose block is over runs, once nothing is in its way.
RUNS_WITHIN_S = 1500.0
# Times that are told by two clocks.
_TOLERANCE_S = 2.0
# An outage of all programs is tried again and again, and each try is a loop of crashes.
_MAX_PROCESSES_PER_HOUR = 200
# Collections of the service whose size the number of meshes does not bound, and what does.
_BOUNDED = {"_memories": 4 * MAX_MEMORIES, "_unblocked_in_revision": MAX_MEMORIES + 1, "_ended": 256}
_MAX_PER_MESH = 12
_MAX_TASKS_PER_MESH = 6
# A round is begun to find out whether Rave answers, each time that a bot could not get in.
_MAX_LISTS_PER_HOUR = 600
# These end by no one but an operator.
_BY_PEOPLE = frozenset({Reason.KICKED, Reason.HELD, Reason.OPERATOR})


class Promise(StrEnum):
    """One each; the value is what is promised."""

    ONE_BOT = "no mesh ever has two bots"
    KICKED = "a mesh that has kicked the bot is not joined again until it is unblocked"
    BLOCKED = "a mesh that is blocked is not joined"
    HELD = "a mesh that an operator holds stays stopped"
    STOPPED_BY_HAND = "a mesh that an operator stops by hand is held"
    UNRELATED = "what happens in one mesh stops or restarts the bot of no other"
    SUDDEN_LOSS = "the sudden loss of most meshes stops no bot"
    BLOCK_ENDS = "a block ends when it should, neither earlier nor later"
    BLOCK_LENGTH = "a block lasts as long as its reason demands"
    RUNS_AGAIN = "each listed, unblocked mesh has a bot again soon after faults cease"
    QUIET = "while nothing happens nothing is started or stopped"
    PACE = "no more bots are started in a minute than starts_per_minute"
    SHARED = "a failure that all meshes share blocks none of them"
    SENT_AWAY = "a mesh that has sent the bot away is not joined again until it invites the bot anew"
    LIMIT = "there are never more bots than max_processes"
    NOT_RESTLESS = "a mesh whose bot keeps ending has none for longer and longer"
    SAVED = "nothing that was announced as saved is lost when the service dies"
    END_COUNTS = "how a bot has ended decides about its mesh, also when the service was away"
    POLITE = "Rave is not asked for its list all the time"
    UNHEALTHY = "a bot that does not answer is replaced"
    SHOWN = "what is shown of a mesh is what is true"
    BOUNDED = "what the service keeps is bounded"
    NO_CIRCLE = "the service comes to rest"
    NO_FAULT = "no step fails by a fault of the program"
    UNBLOCKED_FILE = "what is in force is what blocklist.json says"


@dataclass(frozen=True, slots=True)
class Entry:
    """A block that was announced: `until` by the monotonic clock, None for ever; `saved` whether it was on disk."""

    block: Block
    until: float | None
    saved: bool


class Promises:
    """Judges one simulation.

    Attributes:
        calm_since: since when there are no faults, by the monotonic clock; None while there are.
    """

    def __init__(
        self,
        settings: Config,
        site: Site,
        now: Callable[[], float],
        broken: Callable[[Promise, str, str], None],
        trace: Callable[[str, str], None],
    ) -> None:
        self.calm_since: float | None = None
        self.checked: Counter[Promise] = Counter()
        self._settings = settings
        self._site = site
        self._now = now
        self._broken = broken
        self._trace = trace
        self.entries: dict[str, Entry] = {}
        self._kicked: dict[str, float] = {}  # when it was kicked last, by mesh
        self._left: set[str] = set()
        self._absent: Counter[str] = Counter()
        self._hand_at: dict[str, float] = {}
        self._restart_ordered: dict[str, float] = {}
        self._starts: deque[float] = deque()
        self._begun: dict[str, deque[float]] = {}
        self._ended_for: dict[str, tuple[Reason, float]] = {}
        self._eligible_since: dict[str, float] = {}
        self._lifted: set[str] = set()  # by an operator, and not announced yet
        self._lifted_at = -RUNS_WITHIN_S  # when any block was over last
        self._begun_by: dict[str, str] = {}
        self._asked: deque[float] = deque(maxlen=_MAX_LISTS_PER_HOUR)
        self._to_be_held: dict[str, float] = {}
        self._blocked_bots: dict[str, float] = {}  # since when a bot runs in a mesh that is blocked
        self._ended_at: dict[str, float] = {}
        self._shared: tuple[Reason, float] | None = None  # why all bots fail, and since when
        self._fine: set[str] = set()  # the meshes whose bots were fine before all failed
        self._unjust: dict[str, float] = {}  # those of them that were blocked for that, and when
        self._file_edited = False
        self.rolling = False

    # What operators do.

    def by_hand(self, mesh: str) -> None:
        """An operator does something with the unit of a mesh."""
        self._hand_at[mesh] = self._now()
        self._to_be_held.pop(mesh, None)

    def lifted(self, mesh: str) -> None:
        """An operator starts a mesh, which lifts what is no kick and no block of an operator."""
        entry = self.entries.get(mesh)
        if entry is None or entry.block.reason not in (Reason.KICKED, Reason.OPERATOR):
            self._lifted.add(mesh)
            self._to_be_held.pop(mesh, None)

    def stopped_by_hand(self, mesh: str) -> None:
        """An operator stops a bot that runs, behind the back of a service that looks."""
        self.by_hand(mesh)
        self._to_be_held[mesh] = self._now()

    def restart_ordered(self, mesh: str) -> None:
        """An operator wants another process for a mesh."""
        self._restart_ordered[mesh] = self._now()

    def unblocked(self, mesh: str) -> None:
        """An operator takes a mesh off the blocklist."""
        self._kicked.pop(mesh, None)
        self._lifted.add(mesh)
        self._ended_for.pop(mesh, None)
        self._to_be_held.pop(mesh, None)

    def all_unblocked(self) -> None:
        """An operator begins with an empty list."""
        self._kicked.clear()
        self._ended_for.clear()
        self._lifted.update(self.entries)

    def edited_out(self, mesh: str, opened_at: float) -> None:
        """An operator saves the file without a kick that it had when it was opened: a later one is to stay."""
        if self._kicked.get(mesh, opened_at) <= opened_at:
            self.unblocked(mesh)

    def file_edited(self, *, taken: bool = False) -> None:
        """An operator has changed the file: what it lacks by then need not be in force, until that is `taken`."""
        self._file_edited = not taken

    def confirmed(self) -> None:
        """An operator says that what lists lack is gone."""
        for mesh in self._site.rave.troubles.hidden:
            self._absent[mesh] = 100

    def all_fail(self, reason: Reason | None) -> None:
        """From now on all bots fail, for which `reason` would block one alone; None when that is over."""
        if reason is None:
            self._shared = None
            return
        now = self._now()
        self._shared = reason, now
        fine = {mesh for mesh in self._site.machine.present() if self._is_fine(mesh, now)}
        self._fine = fine if len(fine) >= LEAST_MESHES else set()

    def _is_fine(self, mesh: str, now: float) -> bool:
        bot = self._site.machine.bot_of(mesh)
        since = bot.connected_since if bot else None
        return since is not None and now - since > STABLE_AFTER_S and mesh not in self._site.machine.broken

    # What the machine does.

    def process_begins(self, mesh: str, by: str) -> None:
        """See `Witness`."""
        now = self._now()
        begun = self._begun.setdefault(mesh, deque(maxlen=_MAX_PROCESSES_PER_HOUR))
        if by != "hand" and not self.rolling:
            if len(begun) == _MAX_PROCESSES_PER_HOUR and now - begun[0] < 3600.0:
                self._broken(Promise.NOT_RESTLESS, mesh, f"{len(begun)} processes within an hour")
            begun.append(now)
        if by != "again":
            self._begun_by[mesh] = by
        if by == "hand":
            self._hand_at[mesh] = now
            self.lifted(mesh)
            if self._site.parent is None and self._ended_for.get(mesh, (None, 0.0))[0] is not Reason.KICKED:
                # The service was away for both, and the start is the newer word.
                self._ended_for.pop(mesh, None)
        elif by == "service":
            self._check_block(mesh, now)

    def _check_block(self, mesh: str, now: float) -> None:
        if mesh in self._kicked:
            self._broken(Promise.KICKED, mesh, "a bot starts")
        entry = self.entries.get(mesh)
        parent = self._site.parent
        if entry is None or parent is None or mesh in self._lifted:
            return
        if entry.block.reason not in _BY_PEOPLE and parent.blocklist.get(mesh) is None:
            # Just lifted; an announcement will say so.
            return
        if entry.until is None or entry.until > now + _TOLERANCE_S:
            promise = {Reason.HELD: Promise.HELD, Reason.KICKED: Promise.KICKED}.get(
                entry.block.reason, Promise.BLOCKED
            )
            self._broken(promise, mesh, f"a bot starts, though: {entry.block.describe()}")

    def process_ended(self, mesh: str, status: ExitStatus | None, *, ordered: bool) -> None:
        """See `Witness`."""
        self._ended_at[mesh] = self._now()
        if status is ExitStatus.KICKED:
            self._kicked[mesh] = self._now()
        if status in (ExitStatus.KICKED, ExitStatus.LEFT, ExitStatus.GONE):
            self._left.add(mesh)
        reason = {
            ExitStatus.KICKED: Reason.KICKED,
            ExitStatus.LEFT: Reason.LEFT,
            ExitStatus.TOO_LARGE: Reason.TOO_LARGE,
        }.get(status or ExitStatus.CRASHED)
        if reason:
            self._ended_for[mesh] = (reason, self._now())

    # What the service does.

    def process_died(self, parent: Parent) -> None:
        """The service is no more; what it has lifted in its last moment may be safe without being announced."""
        for mesh, entry in self.entries.items():
            if entry.saved and parent.blocklist.get(mesh) is None:
                self.entries[mesh] = replace(entry, saved=False)

    def process_started(self, parent: Parent) -> None:
        """The service runs again, and has read what is on disk."""
        self._starts.clear()
        self._absent.clear()
        troubles = self._site.rave.troubles
        lost = [mesh for mesh in self._site.machine.present() if mesh in troubles.sudden]
        if 2 * len(lost) <= len(self._site.rave.rooms) - len(troubles.hidden) + len(lost):
            # A service that is new knows those that run alone: for it this is no loss of most.
            troubles.sudden.clear()
        now = self._now()
        if self._file_edited or parent.blocklist.error:
            self._file_edited = bool(parent.blocklist.error)
            self.entries = {}
            self._take_over(parent)
            return
        for mesh, entry in list(self.entries.items()):
            if entry.until is not None and entry.until < now + _TOLERANCE_S:
                continue
            block = parent.blocklist.get(mesh)
            kick_lost = block and entry.block.reason is Reason.KICKED is not block.reason
            if entry.saved and (block is None or kick_lost):
                self._broken(Promise.SAVED, mesh, f"its block is lost: {entry.block.describe()}")
        self._take_over(parent)

    def _take_over(self, parent: Parent) -> None:
        """What is in force now is what was saved last."""
        known, self.entries = self.entries, {}
        for mesh, block in parent.blocklist.in_force().items():
            entry = known.get(mesh)
            same = entry and entry.saved and entry.block.revision == block.revision
            self.entries[mesh] = entry if entry and same else self._entry(block, saved=True)

    def _entry(self, block: Block, *, saved: bool) -> Entry:
        left_ms = None if block.until is None else block.until - self._site.steady_now()
        return Entry(block, None if left_ms is None else self._now() + left_ms / 1000, saved)

    def ordered(self, verb: str, mesh: str) -> None:
        """The service gives an order to the machine."""
        now = self._now()
        run = self._site.machine.run_of(mesh)
        self._trace(mesh, f"the service orders: {verb}")
        eligible = self._eligible_since.get(mesh)
        calm = self.calm_since is not None and now > self.calm_since + self._site.patience_s + RUNS_WITHIN_S
        if self._settings.max_processes is not None and now - self._lifted_at < RUNS_WITHIN_S:
            # A mesh whose block is over may take the place of another.
            calm = False
        if calm and eligible is not None and now - eligible > RUNS_WITHIN_S:
            self._broken(Promise.QUIET, mesh, f"the service orders a {verb}")
        match verb:
            case "start":
                if run.present and now - self._hand_at.get(mesh, -_BY_HAND_S) > _TOLERANCE_S:
                    self._broken(Promise.ONE_BOT, mesh, f"it is started while it is {run.phase}")
                self._check_pace(mesh, now)
                self._check_limit(mesh, now)
            case "stop":
                self._check_stop(mesh)
            case "restart":
                self._check_restart(mesh, now)

    def _check_pace(self, mesh: str, now: float) -> None:
        per_minute = self._settings.starts_per_minute
        if not per_minute:
            return
        starts = self._starts
        starts.append(now)
        while starts[0] <= now - 60.0:
            starts.popleft()
        burst = max(1, int(per_minute / 60 * 10))
        if len(starts) > per_minute + burst:
            self._broken(Promise.PACE, mesh, f"{len(starts)} starts within a minute")

    def _check_limit(self, mesh: str, now: float) -> None:
        limit = self._settings.max_processes
        if limit is None or any(now - at < 2 * _BY_HAND_S for at in self._hand_at.values()):
            return
        others = [each for each in self._site.machine.present() if each != mesh]
        if len(others) >= limit:
            self._broken(Promise.LIMIT, mesh, f"it is started as the {len(others) + 1}th of {limit}")

    def _check_stop(self, mesh: str) -> None:
        site = self._site
        parent = site.parent
        assert parent
        if (
            parent.blocklist.get(mesh)
            or mesh in self._left
            or self._begun_by.get(mesh) == "hand"
            or self._settings.max_processes is not None
        ):
            return
        if self._absent[mesh] >= ROUNDS_TO_FORGET and mesh not in site.rave.troubles.sudden:
            return
        promise = Promise.SUDDEN_LOSS if mesh in site.rave.troubles.sudden else Promise.UNRELATED
        lists = f"lists in a row that lack it: {self._absent[mesh]}"
        self._broken(promise, mesh, f"its bot is stopped without a reason; {lists}")

    def _check_restart(self, mesh: str, now: float) -> None:
        bot = self._site.machine.bot_of(mesh)
        asked = now - self._restart_ordered.get(mesh, -1e9) < 300.0
        if not (self.rolling or asked or (bot and bot.hangs)):
            self._broken(Promise.UNRELATED, mesh, "its bot is restarted, though it answers")

    def announced(self, change: BlocklistChange, *, saved: bool) -> None:
        """See `Judge`."""
        mesh, block, now = change.block.mesh, change.block, self._now()
        self._trace(mesh, f"{change.what} ({block.reason}, by {change.actor}{'' if saved else ', not saved'})")
        entry = self.entries.get(mesh)
        self._lifted.discard(mesh)
        if change.what is What.BLOCKED:
            self.entries[mesh] = self._entry(block, saved=saved)
            self._check_length(mesh, block)
            if block.reason is Reason.KICKED:
                self._kicked.setdefault(mesh, now)
            self._check_shared(mesh, block, now)
            return
        self.entries.pop(mesh, None)
        self._lifted_at = now
        if change.what is What.RELEASED:
            same = entry and entry.saved and entry.block.reason is block.reason
            if same and (entry.until is None or entry.until > now + _TOLERANCE_S):
                self._broken(Promise.BLOCK_ENDS, mesh, "it is released early")
            return
        if block.reason is Reason.KICKED and change.actor == SERVICE:
            self._broken(Promise.KICKED, mesh, "the service lifts the block by itself")
        room = self._site.rave.rooms.get(mesh)
        if block.reason is Reason.LEFT and change.actor == SERVICE and room and not room.invited:
            self._broken(Promise.SENT_AWAY, mesh, "the service lifts the block, though no user invites the bot")
        self.unblocked(mesh)
        self._lifted.discard(mesh)

    def _check_shared(self, mesh: str, block: Block, now: float) -> None:
        parent = self._site.parent
        assert parent
        if self._shared is None or block.actor != SERVICE:
            return
        reason, since = self._shared
        at_first = now - since < _ALL_FAIL_WITHIN_S and parent.started_at < since
        if block.reason is reason and at_first and mesh in self._fine:
            self._unjust[mesh] = now

    def _check_length(self, mesh: str, block: Block) -> None:
        if block.actor != SERVICE:
            return
        length = None if block.until is None else block.until - block.since
        usual = int(self._settings.blocklist_duration * 1000)
        if block.reason is Reason.KICKED:
            wanted = {None}
        elif block.reason is Reason.CRASHES:
            wanted = {quarantine_ms(usual, number) for number in range(1, 40)}
        else:
            wanted = {usual}
        if length not in wanted:
            self._broken(Promise.BLOCK_LENGTH, mesh, f"{block.reason} for {length} ms")

    def asked(self) -> None:
        """The service asks Rave for its list."""
        now = self._now()
        self._asked.append(now)
        if len(self._asked) == _MAX_LISTS_PER_HOUR and now - self._asked[0] < 3600.0:
            self._broken(Promise.POLITE, "", f"{_MAX_LISTS_PER_HOUR} within {now - self._asked[0]:.0f} s")

    def listed(self, listing: Listing) -> None:
        """See `Judge`."""
        if not listing.complete:
            return
        ids = {mesh.id for mesh in listing.meshes}
        for mesh in self._site.rave.rooms:
            self._absent[mesh] = 0 if mesh in ids else self._absent[mesh] + 1
            if mesh not in ids:
                continue
            self._left.discard(mesh)

    def rolled(self, error: RaveError | None) -> None:
        """See `Judge`."""
        self.rolling = False
        self._trace("", f"the roll is over ({error.code if error else 'done'})")

    # From time to time.

    def check(self) -> None:
        """What must be true at any time."""
        parent, now = self._site.parent, self._now()
        if parent is None or not parent.started or now - parent.started_at < _BLOCK_ENDS_WITHIN_S:
            self._eligible_since.clear()
            return
        if parent.blocklist.error is None and not self._site.disk.full:
            self._check_ends(parent, now)
            self._check_decided(parent, now)
        self._check_unjust(parent, now)
        self._check_examined(parent, now)
        self._check_held(parent, now)
        self._check_blocked_bots(parent, now)
        self._check_health(now)
        self._check_bounds(parent)
        if self.calm_since is not None:
            self._check_calm(parent, now)

    def _check_ends(self, parent: Parent, now: float) -> None:
        in_force = parent.blocklist.in_force()
        for mesh, entry in self.entries.items():
            over = entry.until is not None and entry.until + _BLOCK_ENDS_WITHIN_S < now
            if over:
                self._broken(Promise.BLOCK_ENDS, mesh, "it is not released")
            elif mesh not in in_force and (entry.until is None or entry.until > now + _TOLERANCE_S):
                self._broken(Promise.BLOCK_ENDS, mesh, f"it is not in force: {entry.block.describe()}")

    def _check_decided(self, parent: Parent, now: float) -> None:
        for mesh, (reason, at) in list(self._ended_for.items()):
            if now - max(at, parent.started_at, self._site.disk.freed_at) < _BLOCK_ENDS_WITHIN_S:
                continue
            del self._ended_for[mesh]
            block = parent.blocklist.get(mesh)
            history = parent.blocklist.memory(mesh).history
            if block is None and not any(event.reason is reason for event in history[-4:]):
                self._broken(Promise.END_COUNTS, mesh, f"its bot has ended ({reason}), and it is not blocked")

    def _check_unjust(self, parent: Parent, now: float) -> None:
        """A block for what all meshes have may be taken back, but soon."""
        for mesh, at in list(self._unjust.items()):
            if now - at > _TAKEN_BACK_S:
                del self._unjust[mesh]
                block = parent.blocklist.get(mesh)
                if block and block.actor == SERVICE and parent.started_at < at:
                    self._broken(Promise.SHARED, mesh, f"it is blocked: {block.describe()}")

    def _check_examined(self, parent: Parent, now: float) -> None:
        """An end is examined at once; only one that could not be saved then waits for the next list."""
        if self._site.disk.full or parent.blocklist.error or parent.blocklist.save_error:
            return
        saved_since = max(parent.started_at, self._site.disk.freed_at)
        for mesh, unit in self._site.machine.units.items():
            ended_at = self._ended_at.get(mesh, now)
            late = unit.run.phase is RunPhase.ENDED and ended_at < now - _EXAMINED_WITHIN_S
            if late and ended_at > saved_since:
                self._broken(Promise.END_COUNTS, mesh, f"nothing follows from its end by {unit.run.last_exit}")

    def _check_held(self, parent: Parent, now: float) -> None:
        for mesh, at in list(self._to_be_held.items()):
            if parent.started_at > at:
                del self._to_be_held[mesh]
            elif now - at > _BY_HAND_S:
                del self._to_be_held[mesh]
                if parent.blocklist.get(mesh) is None:
                    self._broken(Promise.STOPPED_BY_HAND, mesh, "it is not")

    def _check_blocked_bots(self, parent: Parent, now: float) -> None:
        in_force = parent.blocklist.in_force()
        bots = {mesh for mesh in self._site.machine.present() if mesh in in_force}
        self._blocked_bots = {mesh: self._blocked_bots.get(mesh, now) for mesh in bots}
        for mesh, since in self._blocked_bots.items():
            if now - since > 2 * _BY_HAND_S:
                self._broken(Promise.BLOCKED, mesh, f"its bot goes on: {in_force[mesh].describe()}")

    def _check_health(self, now: float) -> None:
        silence = max(60.0, 2 * self._settings.status_poll_interval)
        patience = silence + 2 * self._settings.status_poll_interval + 240.0
        parent = self._site.parent
        assert parent
        for mesh in self._site.machine.present():
            bot = self._site.machine.bot_of(mesh)
            running = self._site.machine.run_of(mesh).phase is RunPhase.RUNNING
            if bot and bot.hangs and running and now - max(bot.hangs_since, parent.started_at) > patience:
                self._broken(Promise.UNHEALTHY, mesh, f"it has not answered for {now - bot.hangs_since:.0f} s")

    def _check_bounds(self, parent: Parent) -> None:
        meshes = len(self._site.rave.rooms) + len(self._site.machine.units)
        known = meshes + min(len(parent.blocklist.announced), 400)
        if len(parent.reconciler.records) > known + 20:
            self._broken(Promise.BOUNDED, "", f"{len(parent.reconciler.records)} records of {known} meshes")
        tasks = len(self._site.process.tasks) if self._site.process else 0
        if tasks > _MAX_TASKS_PER_MESH * meshes + 40:
            self._broken(Promise.BOUNDED, "", f"{tasks} tasks")

    def check_sizes(self) -> None:
        """What grows must have a bound that has to do with the meshes that there are."""
        parent = self._site.parent
        if parent is None or not parent.started:
            return
        meshes = len(self._site.rave.rooms) + len(self._site.machine.units) + len(self.entries)
        parts = (parent.reconciler, parent.discovery, parent.starts, parent.blocklist, parent.rave, parent.roll)
        for part in parts:
            for path, size in sizes(part).items():
                most = _BOUNDED.get(path.rpartition(".")[2], _MAX_PER_MESH * meshes // 4 + 100)
                if size > most:
                    self._broken(Promise.BOUNDED, "", f"{path} has {size} entries for {meshes} meshes")

    # In the calm.

    def _check_calm(self, parent: Parent, now: float) -> None:
        """Each mesh that may run does, within a bound of the time since when it may."""
        assert self.calm_since is not None
        wanted = self._wanted(parent)
        for mesh in list(self._eligible_since):
            if mesh not in wanted:
                del self._eligible_since[mesh]
        for mesh in wanted:
            self._eligible_since.setdefault(mesh, now)
        if now < self.calm_since + self._site.patience_s:
            return
        machine = self._site.machine
        late = [mesh for mesh, at in self._eligible_since.items() if now - at > RUNS_WITHIN_S]
        missing = [mesh for mesh in late if not self._is_in(mesh)]
        limit = self._settings.max_processes
        if limit is not None:
            running = len(machine.present())
            if missing and running < limit:
                self._broken(Promise.RUNS_AGAIN, missing[0], f"it has no bot; {running} of {limit} places are taken")
            return
        for mesh in missing:
            self._broken(Promise.RUNS_AGAIN, mesh, f"it has no bot that is connected: {machine.run_of(mesh).phase}")
        for mesh in late:
            record = parent.reconciler.records.get(mesh)
            if record is None or record.state != "connected":
                self._broken(Promise.SHOWN, mesh, f"it is shown as {record.state if record else 'unknown'}")

    def _is_in(self, mesh: str) -> bool:
        bot = self._site.machine.bot_of(mesh)
        return bot is not None and bot.connected_since is not None

    def _wanted(self, parent: Parent) -> set[str]:
        rave, every = self._site.rave, self._settings.mesh_mode == "all"
        in_force = parent.blocklist.in_force()
        return {
            room.id
            for room in rave.rooms.values()
            if rave.lists(room, all_sources=every) and room.members and room.id not in in_force
        }
