from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ravesvc.api.models import Mesh
from ravesvc.blocklist.file import from_json, to_json
from ravesvc.blocklist.model import SERVICE, Block, BlocklistModel, Reason, What
from ravesvc.common.steady_clock import Clock
from ravesvc.core.exit_policy import why_ended
from ravesvc.core.inventory import ROUNDS_TO_FORGET, ROUNDS_TO_FORGET_MANY, Inventory
from ravesvc.core.plan import Action, BotLimits, Decision, PlanInput, plan
from ravesvc.names import ExitStatus
from ravesvc.orchestrator.unit_run import run_state
from ravesvc.systemd.unit_state import UnitState

MESHES = tuple(f"{number}0000000-2222-4333-8444-555555555555" for number in range(6))
INVITED = MESHES[::2]
HOUR = 3600 * 1000

ACTIVE = UnitState(active="active", sub="running", main_pid=7)
STARTING = UnitState(active="activating", sub="start", main_pid=7)
STOPPING = UnitState(active="deactivating", sub="stop-sigterm", main_pid=7)
# A unit that systemd will start again passes through these.
DEAD = UnitState(active="inactive", sub="dead-before-auto-restart")
CRASHED = UnitState(active="failed", sub="failed-before-auto-restart", result="exit-code")
WAITING = UnitState(active="activating", sub="auto-restart", result="exit-code")
# Those that have a process, or are about to have one.
RUNNING = (ACTIVE, STARTING, CRASHED, DEAD, WAITING)
PRESENT = (*RUNNING, STOPPING)
NEXT = {STARTING: ACTIVE, CRASHED: WAITING, DEAD: WAITING, WAITING: STARTING, STOPPING: UnitState()}


def ended(status: int, *, restarts: int = 0, result: str = "exit-code") -> UnitState:
    """A unit that failed for good."""
    return UnitState(
        active="failed",
        sub="failed",
        result=result,
        exec_main_code=1,
        exec_main_status=status,
        n_restarts=restarts,
    )


KICKED = ended(ExitStatus.KICKED)
GAVE_UP = ended(ExitStatus.CRASHED, restarts=5)
STOPPED = UnitState(exec_main_code=1)
# The bot has left these, or there is nothing to be in.
OUT = (Reason.KICKED, Reason.LEFT, Reason.GONE)
ENDS = (
    STOPPED,
    CRASHED,
    DEAD,
    ended(ExitStatus.UNREACHABLE),
    ended(ExitStatus.REJECTED),
    ended(ExitStatus.LEFT),
    ended(ExitStatus.GONE),
    ended(ExitStatus.CONFIG),
    ended(ExitStatus.LOGIN_NEEDED),
    GAVE_UP,
)


class Death(Enum):
    """When a parent is killed that learns from a failed unit."""

    NEVER = "never"
    BEFORE_SAVING = "before saving"
    BETWEEN_FILES = "between writing the file and writing its copy"
    BEFORE_RESET = "before the unit is reset"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that was in the file: the number of each kick of which it knew, and when each block ends."""

    text: str
    kicks: dict[str, int]
    ends: dict[str, int | None]


LEARNT = st.sampled_from([True, True, False])
DEATHS = st.sampled_from([*[Death.NEVER] * 5, *Death])
PICKS = st.integers(0, len(MESHES) - 1)
# None, or all, one or two, or any.
LOSSES = (
    st.sampled_from([frozenset[str](), frozenset(MESHES)])
    | st.frozensets(st.sampled_from(MESHES), min_size=1, max_size=2)
    | st.frozensets(st.sampled_from(MESHES), min_size=3)
)
LISTS = LOSSES.map(lambda lost: [mesh for mesh in MESHES if mesh not in lost])
LIMITS = st.sampled_from([None, None, None, 4, 3, 2, 1])
# Until the end that an editor gives to an entry.
LEFT = st.none() | st.sampled_from([-HOUR, HOUR, 48 * HOUR])
# What an editor does to an entry: None takes it out.
ENTRIES = st.none() | st.tuples(st.sampled_from(Reason), LEFT)
# As often as not nothing but a save of what was opened long ago.
EDITS = st.booleans().flatmap(lambda some: st.dictionaries(st.sampled_from(MESHES), ENTRIES, max_size=3 * some))


class Lifecycle(RuleBasedStateMachine):
    """What the parent does, without any waiting: its pure parts, between systemd, a disk, Rave, and people."""

    def __init__(self) -> None:
        super().__init__()
        self.wall, self.boottime = 1_700_000_000.0, 1000.0
        self.units: dict[str, UnitState] = {}
        # Whose start is decided, and waits for its turn.
        self.starting: set[str] = set()
        # Started by hand, or there before the limit was.
        self.excused: set[str] = set()
        # The disk. The kicks in `author` are those that the last writer of the file knew of.
        self.full = False
        self.file: str | None = None
        self.author: dict[str, int] = {}
        self.copy: Text | None = None
        self.texts: list[Text] = []
        # Every kick that no operator has lifted, by number; 0 as long as only the failed unit knows of it.
        self.kicks: dict[str, int] = {}
        self.number = 0
        self.typed: set[int] = set()
        self.up = False

    # The parent.

    @initialize(limit=LIMITS, listed=LISTS)
    def first_start(self, limit: int | None, listed: list[str]) -> None:
        self.begin(limit)
        self.one_round(listed)
        self.turns(0, everywhere=True)
        self.progress(0, everywhere=True)

    def begin(self, limit: int | None) -> None:
        self.up = True
        self.limit = limit
        self.excused = set(self.present())
        self.clock = Clock(wall=lambda: self.wall, boottime=lambda: self.boottime, boot="this")
        self.resting: set[str] = set()
        self.starting = set()
        self.blocks = BlocklistModel()
        if self.copy:
            self.blocks = from_json(self.copy.text, "it", self.clock)
            assert self.ends() == self.copy.ends, "a restart or a jump of the clock moves the end of a block"
            # That an operator has lifted a kick may not have been saved.
            self.kicks |= {mesh: number for mesh, number in self.copy.kicks.items() if not self.kicks.get(mesh)}
        self.seen: str | None = None
        if self.file is not None:
            self.adopt()
            self.save()
        running = [mesh for mesh, unit in self.units.items() if unit in RUNNING]
        self.inventory = Inventory()
        self.inventory.adopt(running)
        # What the inventory has to believe, as far as we can tell.
        self.believed = set(running)
        self.missed = dict.fromkeys(MESHES, 0)
        self.lost: tuple[frozenset[str], int] = frozenset(), 0
        # Those that were left, and by how many lists since then they were mentioned.
        self.left: dict[str, int] = {}
        self.last_list: list[str] = []
        for mesh, block in self.blocks.in_force(self.now).items():
            if block.reason in OUT:
                self.leave(mesh)
        self.learn_all()

    def die(self) -> None:
        self.up = False
        saved = [self.author, self.copy.kicks if self.copy else {}]
        for mesh, number in list(self.kicks.items()):
            if any(kicks.get(mesh) == number for kicks in saved):
                continue
            # It was in memory only, and one that an operator typed is still in the file, or overwritten by another.
            if self.units.get(mesh) == KICKED:
                self.kicks[mesh] = 0
            else:
                assert number in self.typed, "the only trace of a kick is gone"
                del self.kicks[mesh]

    @property
    def now(self) -> int:
        return self.clock.now()

    def present(self) -> Iterator[str]:
        return (mesh for mesh, unit in self.units.items() if unit in PRESENT)

    def pick(self, number: int, fits: Callable[[UnitState], object]) -> str | None:
        """One of the meshes whose unit fits."""
        fitting = [mesh for mesh in MESHES if fits(self.units.get(mesh, UnitState()))]
        return fitting[number % len(fitting)] if fitting else None

    def ends(self) -> dict[str, int | None]:
        """When each block ends, in milliseconds since the boot."""
        begun = self.now - int(self.boottime * 1000)
        return {block.mesh: None if block.until is None else block.until - begun for block in self.blocks}

    def save(self, death: Death = Death.NEVER) -> bool:
        if self.file != self.seen:
            self.adopt()
        self.blocks.revision += 1
        if self.full:
            return False
        kicks = {mesh: number for mesh, number in self.kicks.items() if number}
        text = Text(to_json(self.blocks, self.clock), kicks, self.ends())
        self.texts.append(text)
        self.file = self.seen = text.text
        self.author = text.kicks
        if death is Death.BETWEEN_FILES:
            return False
        self.copy = text
        found = from_json(text.text, "it", self.clock)
        assert text.kicks.keys() == {block.mesh for block in found if for_ever(block)}, "a kick is not saved"
        return True

    def notice(self) -> None:
        """Take over an edit, so that it is known what comes after it."""
        if self.file != self.seen:
            self.save()

    def adopt(self) -> None:
        assert self.file is not None
        edit = from_json(self.file, "it", self.clock)
        self.seen = self.file
        changes, _, _ = self.blocks.merge_edit(edit, self.now)
        theirs = edit.in_force(self.now)
        for mesh, number in list(self.kicks.items()):
            if number and self.author.get(mesh) == number and not for_ever(theirs.get(mesh)):
                self.lift(mesh)
        for change in changes:
            if change.what is What.BLOCKED and for_ever(change.block):
                self.count_kick(change.block.mesh)
                self.typed.add(self.number)

    def count_kick(self, mesh: str) -> None:
        self.number += 1
        self.kicks[mesh] = self.number

    def lift(self, mesh: str) -> None:
        """An operator has lifted a kick; but as long as its unit has failed it will be learnt of again."""
        if self.units.get(mesh) == KICKED:
            self.kicks[mesh] = 0
        else:
            self.kicks.pop(mesh, None)

    def kick_is_known(self, mesh: str) -> None:
        if self.blocks.add(mesh, Reason.KICKED, self.now, HOUR):
            self.count_kick(mesh)
        assert self.kicks[mesh], "it was known already"
        self.leave(mesh)

    def leave(self, mesh: str) -> None:
        """The bot is in a mesh no more, and its invitation is deleted."""
        self.inventory.leave(mesh)
        self.believed.discard(mesh)
        self.left[mesh] = 0
        assert mesh not in (self.inventory.meshes or {}), "it is in the inventory still"

    def learn(self, mesh: str, death: Death = Death.NEVER) -> None:
        assert self.units[mesh] not in PRESENT, "systemd starts it again"
        end = run_state(self.units[mesh]).end
        assert end
        reason, detail = why_ended(end)
        if reason is None:
            self.resting.add(mesh)
            del self.units[mesh]
            return
        if reason is Reason.KICKED:
            self.kick_is_known(mesh)
        else:
            self.blocks.add(mesh, reason, self.now, HOUR, detail=detail)
        if reason in OUT:
            self.leave(mesh)
        if death is Death.BEFORE_SAVING:
            self.die()
            return
        saved = self.save(death)
        if death is not Death.NEVER:
            self.die()
        elif saved:
            del self.units[mesh]

    def learn_all(self) -> None:
        for mesh in [mesh for mesh, unit in self.units.items() if unit.failed]:
            if mesh not in self.starting:
                self.learn(mesh)

    def plan(self) -> dict[str, Decision]:
        """What is decided now, which has to be right at any time."""
        blocks = self.blocks.in_force(self.now)
        decisions = plan(
            PlanInput(
                listed=self.inventory.meshes,
                missing=self.inventory.missing,
                unread=self.inventory.unread,
                whole=self.inventory.whole,
                blocks=blocks,
                runs={mesh: run_state(unit) for mesh, unit in self.units.items()},
                starting=self.starting,
                resting=self.resting,
                limits=BotLimits(self.limit),
            )
        )
        starts = 0
        for decision in decisions:
            mesh, unit = decision.mesh, self.units.get(decision.mesh, UnitState())
            if decision.action is Action.START:
                starts += 1
                assert mesh not in blocks, "a blocked mesh is started"
                assert mesh not in self.kicks, "a kick is forgotten"
                assert unit not in PRESENT, "two bots for one mesh"
                assert mesh not in self.starting, "two starts of one mesh"
                assert not unit.failed, "nobody has learnt why it failed"
                assert mesh not in self.resting
                assert mesh in self.last_list, "a mesh is started that the last list lacks"
                assert mesh not in self.left, "a mesh is joined again that was left"
            if decision.action is Action.STOP and mesh not in blocks and "max_processes" not in decision.reason:
                assert mesh not in self.believed, "a mesh is stopped though it may be there"
        if starts and self.limit is not None:
            assert len({*self.present(), *self.starting}) + starts <= self.limit, "too many bots"
        return {decision.mesh: decision for decision in decisions}

    def carry_out(self) -> None:
        for mesh, decision in self.plan().items():
            if decision.action is Action.START:
                self.starting.add(mesh)
            elif decision.action is Action.STOP:
                self.units[mesh] = STOPPING

    # Discovery.

    @precondition(lambda self: self.up)
    @rule(
        lists=st.lists(LISTS, min_size=1, max_size=2),
        times=st.sampled_from([1, 1, 1, 2, 3, 4, ROUNDS_TO_FORGET_MANY + 2]),
    )
    def good_rounds(self, lists: list[list[str]], times: int) -> None:
        for number in range(times):
            self.one_round(lists[number % len(lists)])

    def one_round(self, listed: list[str]) -> None:
        before, kept = set(self.believed), self.plan()
        self.last_list = listed
        late = self.late(listed)
        lost = frozenset(before - set(listed))
        self.lost = (lost, self.lost[1] + 1 if lost == self.lost[0] else 1)
        held_back = 2 * len(lost) > len(before)
        for mesh in MESHES:
            if mesh in listed and mesh not in late:
                self.missed[mesh] = 0
            elif not held_back:
                self.missed[mesh] += 1

        self.inventory.observe([Mesh(mesh, None, "", invited=mesh in INVITED, users=()) for mesh in listed])
        assert self.inventory.meshes is not None
        gone = before - self.inventory.meshes.keys()
        assert gone <= lost
        if held_back:
            insisted = set(listed) - late and self.lost[1] >= ROUNDS_TO_FORGET_MANY
            assert not gone or insisted, "the loss of most is believed"
        else:
            assert all(self.missed[mesh] >= ROUNDS_TO_FORGET for mesh in gone), "a mesh is forgotten too early"
        self.believed = before - gone | (set(listed) - late)
        assert not late & self.inventory.meshes.keys(), "what was left is back though no list lacked it"
        if not held_back:
            self.left = {mesh: times for mesh, times in self.left.items() if mesh in listed}
        for mesh, decision in self.plan().items():
            if decision.action is Action.STOP and kept[mesh].action is Action.KEEP and mesh in lost:
                # Others may have come that are to run before it.
                assert "max_processes" in decision.reason or mesh in gone, (
                    "a round that lacks too much stops something"
                )

        self.after_a_round()

    def late(self, listed: list[str]) -> set[str]:
        """Those that a list has though they were left, and that it may be late with."""
        late = set()
        for mesh in self.left.keys() & set(listed):
            self.left[mesh] += 1
            if self.left[mesh] < ROUNDS_TO_FORGET:
                late.add(mesh)
            else:
                del self.left[mesh]
        return late

    @precondition(lambda self: self.up)
    @rule(listed=LISTS)
    def half_a_round(self, listed: list[str]) -> None:
        """A list that breaks off, or that is not read to its end."""
        before, kept = set(self.believed), self.plan()
        # Of what runs at its start a parent knows that the one before has seen it listed.
        earlier = self.believed if self.inventory.meshes is None else self.last_list
        self.last_list = [*earlier, *listed]
        news = set(listed) - self.late(listed)
        self.lost = self.lost[0] - news, self.lost[1]
        self.inventory.observe_beginning([Mesh(mesh, None, "", invited=mesh in INVITED, users=()) for mesh in listed])
        assert self.inventory.meshes is not None
        assert self.inventory.meshes.keys() == before | news
        self.believed = before | news
        for mesh in news:
            self.missed[mesh] = 0
        for mesh, decision in self.plan().items():
            if decision.action is Action.STOP and kept[mesh].action is Action.KEEP:
                assert "max_processes" in decision.reason, "half a round stops something"
        self.inventory.forget_unread({mesh for mesh, unit in self.units.items() if unit in PRESENT})
        dropped = self.believed - self.inventory.meshes.keys()
        assert not dropped & set(listed)
        assert not dropped & set(self.present())
        self.believed -= dropped
        self.after_a_round()

    def after_a_round(self) -> None:
        assert self.inventory.meshes is not None
        for mesh, block in self.blocks.in_force(self.now).items():
            again = block.reason is Reason.GONE or (block.reason is Reason.LEFT and mesh in INVITED)
            if again and block.actor == SERVICE and mesh in self.inventory.meshes:
                self.blocks.remove(mesh, self.now, SERVICE)
                self.save()
        self.resting.clear()
        self.learn_all()
        self.carry_out()

    @precondition(lambda self: self.up)
    @rule()
    def failed_round(self) -> None:
        # Nothing is fed, so all that could be decided anew is what has not been carried out yet.
        before = self.plan()
        self.carry_out()
        for mesh, decision in before.items():
            if decision.action is Action.KEEP and mesh not in self.starting:
                assert self.units[mesh] in RUNNING, "a failed round stops something"

    @precondition(lambda self: self.up)
    @rule()
    def an_operator_confirms_losses(self) -> None:
        before = set(self.believed)
        count = self.inventory.confirm_losses()
        if self.inventory.meshes is not None:
            self.believed &= self.inventory.meshes.keys()
        assert len(before - self.believed) <= count
        self.carry_out()

    # Units.

    @precondition(lambda self: self.up)
    @rule(number=PICKS, everywhere=st.booleans())
    def turns(self, number: int, everywhere: bool) -> None:
        """Starts that were decided get their turns."""
        waiting = sorted(self.starting)
        for mesh in waiting if everywhere else waiting[number : number + 1]:
            self.starting.discard(mesh)
            blocked = self.blocks.get(mesh, self.now)
            unit = self.units.get(mesh, UnitState())
            if not (blocked or unit.present or unit.failed) and self.inventory.lists(mesh):
                self.units[mesh] = STARTING
            self.learn_all()
            if not self.up:
                return
            self.carry_out()

    @rule(number=PICKS, everywhere=st.booleans())
    def progress(self, number: int, everywhere: bool) -> None:
        """Units go on to what comes next."""
        if everywhere:
            for mesh in [mesh for mesh, unit in self.units.items() if unit in NEXT]:
                self.go_on(mesh)
        elif one := self.pick(number, lambda unit: unit in NEXT):
            self.go_on(one)

    def go_on(self, mesh: str) -> None:
        self.units[mesh] = NEXT[self.units[mesh]]
        if self.units[mesh] not in PRESENT:
            del self.units[mesh]
            if self.up:
                self.carry_out()

    @rule(number=PICKS, heard=st.booleans(), learnt=LEARNT, death=DEATHS)
    def kick(self, number: int, heard: bool, learnt: bool, death: Death) -> None:
        mesh = self.pick(number, lambda unit: unit == ACTIVE)
        if mesh is None:
            return
        self.kicks.setdefault(mesh, 0)
        self.units[mesh] = KICKED
        if self.up and heard:
            self.kick_is_known(mesh)
            self.save()
        if self.up and learnt and mesh not in self.starting:
            self.learn(mesh, death)

    @rule(number=PICKS, unit=st.sampled_from(ENDS), learnt=LEARNT, death=DEATHS)
    def end(self, number: int, unit: UnitState, learnt: bool, death: Death) -> None:
        mesh = self.pick(number, lambda old: old in (ACTIVE, STARTING) or (old == WAITING and unit == GAVE_UP))
        if mesh is None:
            return
        self.units[mesh] = unit
        if unit == STOPPED and self.up:
            self.resting.add(mesh)
        elif self.up and learnt and unit.failed and mesh not in self.starting:
            self.learn(mesh, death)

    @precondition(lambda self: self.up)
    @rule(number=PICKS, failures=st.integers(0, 3))
    def connect(self, number: int, failures: int) -> None:
        mesh = self.pick(number, lambda unit: unit == ACTIVE)
        if mesh is None:
            return
        if failures:
            self.blocks.record_failure(mesh, failures, "refused", self.now)
        else:
            self.blocks.reset_failures(mesh, self.now)
        self.save()

    # People.

    @rule(number=PICKS)
    def systemctl_start(self, number: int) -> None:
        mesh = self.pick(number, lambda unit: unit.active == "inactive" and unit not in PRESENT)
        if mesh is None:
            return
        self.units[mesh] = STARTING
        self.excused.add(mesh)
        if not self.up:
            return
        self.notice()
        block = self.blocks.get(mesh, self.now)
        if block and block.reason is Reason.HELD:
            self.blocks.remove(mesh, self.now, "systemctl")
            self.save()
        elif block:
            self.carry_out()
            assert self.units[mesh] not in RUNNING, "a blocked mesh runs on"

    @rule(number=PICKS)
    def systemctl_stop(self, number: int) -> None:
        mesh = self.pick(number, lambda unit: unit in RUNNING)
        if mesh is None:
            return
        self.units[mesh] = STOPPING
        if self.up:
            self.notice()
            self.blocks.add(mesh, Reason.HELD, self.now, None, actor="systemctl")
            self.save()
            assert self.blocks.get(mesh, self.now), "a stop is no hold"

    @precondition(lambda self: self.up)
    @rule(
        mesh=st.sampled_from(MESHES), verb=st.sampled_from(["start", "stop", "block", "block for an hour", "unblock"])
    )
    def ravectl(self, mesh: str, verb: str) -> None:
        self.notice()
        block = self.blocks.get(mesh, self.now)
        if verb == "start":
            if (block and block.reason in (Reason.KICKED, Reason.OPERATOR)) or mesh not in (
                self.inventory.meshes or {}
            ):
                return
            self.resting.discard(mesh)
            self.blocks.remove(mesh, self.now, "root")
        elif verb == "unblock":
            if self.blocks.remove(mesh, self.now, "root"):
                self.lift(mesh)
            assert not self.blocks.get(mesh, self.now)
        elif verb == "stop":
            self.blocks.add(mesh, Reason.HELD, self.now, None, actor="root")
        else:
            self.blocks.add(mesh, Reason.OPERATOR, self.now, None if verb == "block" else HOUR, actor="root")
        self.save()
        self.carry_out()
        if verb in ("stop", "block", "block for an hour"):
            assert self.units.get(mesh) not in RUNNING, "a blocked mesh runs on"

    @precondition(lambda self: self.texts)
    @rule(
        age=st.integers(0, 7),
        entries=EDITS,
        forgets_the_revision=st.sampled_from([False, False, False, True]),
        noticed=st.booleans(),
    )
    def edit(
        self,
        age: int,
        entries: dict[str, tuple[Reason, int | None] | None],
        forgets_the_revision: bool,
        noticed: bool,
    ) -> None:
        if not self.up and self.copy != self.texts[-1]:
            # The parent was killed between both files. It would give the same revision to another text, if it
            # were never shown the one that is in the file.
            return
        base = self.texts[max(0, len(self.texts) - 1 - age)]
        document: dict[str, Any] = json.loads(base.text)
        blocked = document["blockedMeshes"]
        for mesh, change in entries.items():
            if change is None:
                blocked.pop(mesh, None)
                continue
            reason, end = change
            now = int(self.wall) * 1000
            typed = {"reason": reason.value, "blockedAt": now, "blockedUntil": None if end is None else now + end}
            blocked[mesh] = blocked.get(mesh, {}) | typed
        self.author = base.kicks
        if forgets_the_revision:
            del document["revision"]
            self.author = {}
        self.file = json.dumps(document)
        if self.up and noticed:
            self.notice()
            self.carry_out()

    # The ground.

    @rule(seconds=st.sampled_from([1, 60, 1800, 3601, 25 * 3600]), jump=st.sampled_from([0, 24 * 3600, -24 * 3600]))
    def time_passes(self, seconds: int, jump: int) -> None:
        before = self.plan() if self.up else {}
        self.wall += jump
        if self.up:
            assert self.blocks.expire(self.now) == [], "a jump of the clock releases somebody"
            assert self.plan() == before, "a jump of the clock changes the plan"
        self.wall += seconds
        self.boottime += seconds
        if self.up and self.blocks.expire(self.now):
            self.save()

    @rule()
    def the_disk_fills_up_or_is_emptied(self) -> None:
        self.full = not self.full
        if self.up and not self.full:
            self.save()
            self.learn_all()

    @precondition(lambda self: self.up)
    @rule()
    def the_parent_dies(self) -> None:
        self.die()

    @precondition(lambda self: not self.up)
    @rule(limit=LIMITS)
    def the_parent_starts(self, limit: int | None) -> None:
        self.begin(limit)

    # What is true at any time.

    @invariant()
    def no_kick_is_forgotten(self) -> None:
        for mesh, number in self.kicks.items():
            if not number:
                assert self.units.get(mesh) == KICKED, "the only trace of a kick is gone"
            elif self.up:
                assert for_ever(self.blocks.get(mesh, self.now)), "a kick is forgotten"

    @invariant()
    def what_is_decided_now_is_right(self) -> None:
        if self.up:
            self.plan()

    @invariant()
    def there_are_never_too_many_bots(self) -> None:
        present = set(self.present())
        self.excused &= present
        if self.up and self.limit is not None:
            assert len(present - self.excused) <= self.limit, "too many bots"


def for_ever(block: Block | None) -> bool:
    """Whether an entry is a kick as the service notes it."""
    return block is not None and block.reason is Reason.KICKED and block.until is None


TestLifecycle = Lifecycle.TestCase
TestLifecycle.pytestmark = [pytest.mark.slow]
TestLifecycle.settings = hypothesis.settings(max_examples=200, stateful_step_count=50)


def test_a_mesh_that_is_gone_before_the_first_round_is_not_back_because_of_a_round_without_it() -> None:
    inventory = Inventory()
    inventory.adopt(MESHES[:3])
    inventory.leave(MESHES[0])
    inventory.observe([Mesh(mesh, None, "", invited=True, users=()) for mesh in MESHES[1:3]])
    assert inventory.meshes is not None
    assert MESHES[0] not in inventory.meshes
