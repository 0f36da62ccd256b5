"""Which meshes are blocked, why, and until when; and the failures and the history of each mesh. Pure.

Times are milliseconds on the steady scale of `ravesvc.common.steady_clock`; callers pass the present one as `now`.

Each entry has the revision of the list in which it last changed. So an edit of the file can be merged without losing
what has changed since the editor was opened: see `BlocklistModel.merge_edit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a mesh is blocked. The first two are those of the reference implementation."""

    CONNECTION_FAILURES = "connection_failures"
    KICKED = "kicked"
    REJECTED = "rejected"
    CRASHES = "crashes"
    TOO_LARGE = "too_large"
    LEFT = "left"
    GONE = "gone"
    HELD = "held"
    OPERATOR = "operator"


# What a reason means to people.
REASON_TEXTS = {
    Reason.CONNECTION_FAILURES: "it could not be reached",
    Reason.KICKED: "the bot was kicked",
    Reason.REJECTED: "the server turned the bot away",
    Reason.CRASHES: "its process failed too often",
    Reason.TOO_LARGE: "its messages are too large",
    Reason.LEFT: "the bot left it",
    Reason.GONE: "the mesh is gone",
    Reason.HELD: "it was stopped by an operator",
    Reason.OPERATOR: "it was blocked by an operator",
}

# A reason must not replace one of a higher rank: a process that fails while an operator stops it stays held.
_RANKS = {Reason.HELD: 1, Reason.OPERATOR: 2, Reason.KICKED: 3}

# Reasons that are failures. Such blocks are counted until a connection was stable.
_FAILURE_REASONS = frozenset({Reason.CONNECTION_FAILURES, Reason.REJECTED, Reason.CRASHES, Reason.TOO_LARGE})

# How a bot may end. The end of one bot may be seen several times.
_END_REASONS = _FAILURE_REASONS | {Reason.LEFT, Reason.GONE}

# Blocks that only an operator can lift.
PERMANENT_REASONS = frozenset({Reason.KICKED, Reason.HELD})

# A mesh whose process keeps failing is tried less and less often, but at least once in this time.
MAX_QUARANTINE_MS = 24 * 3600 * 1000

# The actor of a change that the service has made by itself.
SERVICE = "service"
# The actor of a change that an operator has made in the file.
EDITOR = "blocklist.json"

# No count here ever gets this far, and every JSON parser reads it without loss.
MAX_COUNT = 2**32 - 1
# The limit of a revision that an operator has typed: each save adds one to it.
_MAX_REVISION = 2**31

_MAX_HISTORY_EVENTS = 10
_MAX_MEMORIES = 1000
# Two times that differ by less are the same: NTP corrects the clock by a little between a save and an edit.
_CLOCK_TOLERANCE_MS = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One entry. `until` None means for ever.

    `count` is how often in a row the mesh has been in trouble, `revision` that of the list in which the entry last
    changed; 0 for an entry that an operator has typed. `title` is the title that the mesh had when it was blocked;
    empty if that was not known.
    """

    mesh: str
    reason: Reason
    since: int
    until: int | None
    detail: str = ""
    actor: str = SERVICE
    count: int = 1
    revision: int = 0
    title: str = ""

    @property
    def state(self) -> str:
        """The state of a mesh with this block: "held" or "blocked"."""
        return "held" if self.reason is Reason.HELD else "blocked"

    def describe(self) -> str:
        """Why the mesh is blocked, in words."""
        return f"{REASON_TEXTS[self.reason]}: {self.detail}" if self.detail else REASON_TEXTS[self.reason]

    def is_same_as(self, other: Block) -> bool:
        """Whether another entry has the same reason, detail and, within the tolerance, end."""
        if None in (self.until, other.until):
            same_end = self.until is other.until
        else:
            assert self.until is not None
            assert other.until is not None
            same_end = abs(self.until - other.until) <= _CLOCK_TOLERANCE_MS
        return same_end and (self.reason, self.detail) == (other.reason, other.detail)

    def is_over(self, now: int) -> bool:
        """Whether it has ended; it still blocks in its last millisecond."""
        return self.until is not None and self.until < now

    def outranks(self, other: Block) -> bool:
        """Whether its reason ranks higher than that of another entry, or ranks the same and it lasts longer."""
        rank, other_rank = (_RANKS.get(each.reason, 0) for each in (self, other))
        if rank != other_rank or other.until is None:
            return rank > other_rank
        return self.until is None or self.until > other.until + _CLOCK_TOLERANCE_MS


class What(StrEnum):
    """What has happened to the block of a mesh."""

    BLOCKED = "blocked"
    RELEASED = "released"  # Its time was over.
    UNBLOCKED = "unblocked"  # An operator has lifted it.


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEvent:
    """One event in the history of a mesh."""

    at: int
    what: What
    reason: Reason
    actor: str = SERVICE
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshMemory:
    """The failures and the history of a mesh, blocked or not. A stable connection resets the failures.

    Attributes:
        failures: attempts to connect that have failed in a row.
        failing_since: when the first of them failed; None when there are none, or an earlier version counted them.
        last_error: why the last one failed.
        blocks: how often in a row the mesh was blocked for a failure.
        quarantines: how many of these blocks were for crashes.
        alone: whether the bot has left the mesh because it was alone there, and waits for company.
        at: when anything of this last changed.
        history: the last events; a stable connection does not clear them.
    """

    failures: int = 0
    failing_since: int | None = None
    last_error: str = ""
    blocks: int = 0
    quarantines: int = 0
    alone: bool = False
    at: int = 0
    history: tuple[HistoryEvent, ...] = ()

    @property
    def has_failures(self) -> bool:
        """Whether there is anything that a stable connection would reset."""
        return bool(self.failures or self.last_error or self.blocks or self.quarantines)


NO_MEMORY = MeshMemory()


class Once(NamedTuple):
    """The memory of a mesh that was blocked once, `at` that time, and has no other history.

    Most entries of a long list are like that. Reading the file makes this tuple for them, which is cheaper than a
    `MeshMemory` with a history.
    """

    block: Block
    at: int
    blocks: int
    quarantines: int

    def memory(self) -> MeshMemory:
        """The same as a `MeshMemory`."""
        block = self.block
        event = HistoryEvent(
            at=self.at, what=What.BLOCKED, reason=block.reason, actor=block.actor, detail=block.detail
        )
        return MeshMemory(blocks=self.blocks, quarantines=self.quarantines, at=self.at, history=(event,))


# The values that a stable connection resets.
_FAILURES_RESET = {"failures": 0, "failing_since": None, "last_error": "", "blocks": 0, "quarantines": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class BlocklistChange:
    """An entry that was added or removed, and who did it."""

    what: What
    block: Block
    actor: str


class BlocklistModel:
    """The entries, each in force until its time is over, and the memories.

    Attributes:
        revision: of the text that was written last. What changes from then on belongs to the next one.
        title_of: returns the title of a mesh, for an entry that comes without one; empty if it is not known.
    """

    def __init__(
        self,
        blocks: Iterable[Block] = (),
        memories: Mapping[str, MeshMemory | Once] | None = None,
        revision: int = 0,
    ) -> None:
        self.revision = revision
        self.title_of: Callable[[str], str] = lambda _mesh: ""
        self._blocks = {block.mesh: block for block in blocks}
        self._memories: dict[str, MeshMemory | Once] = dict(memories or {})
        self._prune_above = _MAX_MEMORIES
        # By mesh id, the first revision without an entry that an operator has lifted. An edit that began from an
        # earlier revision still has that entry, and must not bring it back. The oldest are dropped.
        self._unblocked_in_revision: dict[str, int] = {}

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    @property
    def memories(self) -> dict[str, MeshMemory]:
        """The memories of all meshes, by mesh id."""
        return {mesh: self.memory(mesh) for mesh in self._memories}

    @property
    def remembered(self) -> Mapping[str, MeshMemory | Once]:
        """The memories as they are kept, some of them short."""
        return self._memories

    def memory(self, mesh: str) -> MeshMemory:
        """The memory of a mesh; an empty one if there is none."""
        kept = self._memories.get(mesh, NO_MEMORY)
        return kept.memory() if isinstance(kept, Once) else kept

    def get(self, mesh: str, now: int) -> Block | None:
        """The entry that blocks a mesh at `now`."""
        block = self._blocks.get(mesh)
        return None if block is None or block.is_over(now) else block

    def in_force(self, now: int) -> dict[str, Block]:
        """Every entry that blocks at `now`, by mesh id."""
        return {mesh: block for mesh, block in self._blocks.items() if not block.is_over(now)}

    def next_end(self) -> int | None:
        """When the next entry ends; None if none does."""
        return min((block.until for block in self if block.until is not None), default=None)

    def add(
        self, mesh: str, reason: Reason, now: int, duration: int | None, *, detail: str = "", actor: str = SERVICE
    ) -> BlocklistChange | None:
        """Block a mesh for `duration` milliseconds, None for ever; a kick and a hold are always for ever.

        A reason replaces one of the same or a lower rank only. Returns None when the entry in force stays. Each block
        for crashes is twice as long as the one before, until a connection was stable.
        """
        old = self.get(mesh, now)
        if old and (_is_covered(old, reason) or _RANKS.get(old.reason, 0) > _RANKS.get(reason, 0)):
            return None
        memory = self.memory(mesh)
        blocks = min(memory.blocks + (reason in _FAILURE_REASONS), MAX_COUNT)
        quarantines = min(memory.quarantines + (reason is Reason.CRASHES), MAX_COUNT)
        if reason in PERMANENT_REASONS or duration is None:
            until = None
        elif reason is Reason.CRASHES:
            until = now + quarantine_ms(duration, quarantines)
        else:
            until = now + duration
        block = Block(
            mesh=mesh,
            reason=reason,
            since=now,
            until=until,
            detail=detail,
            actor=actor,
            count=blocks if reason in _FAILURE_REASONS else 1,
            revision=self.revision + 1,
        )
        # After the block the attempts are counted from the beginning.
        self._update_memory(mesh, now, failures=0, failing_since=None, blocks=blocks, quarantines=quarantines)
        return self._insert(block, now)

    def import_entry(self, block: Block, now: int) -> BlocklistChange | None:
        """Add an entry of another list unchanged; None if it has ended or does not outrank the entry that is here."""
        old = self.get(block.mesh, now)
        if block.is_over(now) or (old and not block.outranks(old)):
            return None
        # The clock of the other machine may have been ahead.
        return self._insert(dataclasses.replace(block, since=min(block.since, now), revision=self.revision + 1), now)

    def remove(self, mesh: str, now: int, actor: str) -> BlocklistChange | None:
        """Unblock a mesh for an operator, and reset its failures; None if it was not blocked."""
        block = self.get(mesh, now)
        if block is None:
            return None
        self._update_memory(mesh, now, **_FAILURES_RESET)
        self._unblocked_in_revision.pop(mesh, None)
        self._unblocked_in_revision[mesh] = self.revision + 1
        if len(self._unblocked_in_revision) > _MAX_MEMORIES:
            del self._unblocked_in_revision[next(iter(self._unblocked_in_revision))]
        return self._delete(block, What.UNBLOCKED, actor, now)

    def expire(self, now: int) -> list[BlocklistChange]:
        """Remove the entries whose time is over."""
        over = [block for block in self if block.is_over(now)]
        return [self._delete(block, What.RELEASED, SERVICE, now) for block in over]

    def record_failure(self, mesh: str, failures: int, error: str, now: int) -> bool:
        """Remember that so many attempts in a row to connect have failed, and why; False if that was known."""
        memory = self.memory(mesh)
        if (memory.failures, memory.last_error) == (failures, error):
            return False
        first = now if memory.failing_since is None else memory.failing_since
        since = first if failures else None
        self._update_memory(mesh, now, failures=failures, failing_since=since, last_error=error)
        return True

    def reset_failures(self, mesh: str, now: int) -> bool:
        """Forget the failures of a mesh after a stable connection; False if there were none."""
        if not self.memory(mesh).has_failures:
            return False
        self._update_memory(mesh, now, **_FAILURES_RESET)
        return True

    @property
    def alone(self) -> set[str]:
        """The meshes that the bot has left because it was alone there."""
        return {mesh for mesh, memory in self._memories.items() if isinstance(memory, MeshMemory) and memory.alone}

    def set_alone(self, mesh: str, now: int, *, alone: bool) -> bool:
        """Set whether the bot has left a mesh because it was alone there; False if that was known."""
        if self.memory(mesh).alone is alone:
            return False
        self._update_memory(mesh, now, alone=alone)
        return True

    def merge_edit(self, edit: BlocklistModel, now: int) -> tuple[list[BlocklistChange], list[Block], list[Block]]:
        """Merge a list that an operator has edited from the text of `edit.revision`.

        Entries that have changed here since that revision win over the edit. Scenario: an operator opens revision 7
        in an editor; a bot is kicked and revision 8 is saved; the operator writes the file, still without the kick.
        The kick stays, because its entry is of revision 8. In the same way an entry that was lifted (by `remove`) in
        revision 8 does not come back with the edit. An edit without a revision counts as older than all entries here.

        Returns the changes, the entries that stayed against the edit, and those that the edit did not bring back.
        """
        changes = self.expire(now)
        kept: list[Block] = []
        refused: list[Block] = []
        if self.revision == 0:
            # Nothing was saved yet, so the edit is all that is known.
            self.revision, self._memories = min(edit.revision, _MAX_REVISION), dict(edit._memories)
        # A revision that this list never had comes from another one, such as a backup from before a new beginning.
        base = edit.revision if edit.revision <= self.revision else 0
        for mesh in list(self._blocks | edit._blocks):
            ours, theirs = self._blocks.get(mesh), edit.get(mesh, now)
            if ours and theirs and ours.is_same_as(theirs):
                continue
            if ours and ours.revision > base:
                kept.append(ours)
            elif theirs and theirs.revision and not ours and self._unblocked_in_revision.get(mesh, 0) > base:
                refused.append(theirs)
            elif theirs:
                # An entry that comes back from an older text of ours keeps its actor. One that was typed or changed
                # has the editor as its actor.
                actor = theirs.actor if theirs.revision and not ours else EDITOR
                changes.append(
                    self._insert(dataclasses.replace(theirs, actor=actor, revision=self.revision + 1), now)
                )
            elif ours:
                changes.append(self._delete(ours, What.UNBLOCKED, EDITOR, now))
        for mesh, memory in edit._memories.items():
            self._memories.setdefault(mesh, memory)
        return changes, kept, refused

    def snapshot(self) -> BlocklistModel:
        """A copy of this list as it is now, with the next revision."""
        self.revision += 1
        return BlocklistModel(self._blocks.values(), self._memories, self.revision)

    def without_history(self) -> BlocklistModel:
        """A copy with only those memories that a decision may depend on, and no histories."""
        memories = {mesh: dataclasses.replace(memory, history=()) for mesh, memory in self.memories.items()}
        troubled = {mesh: memory for mesh, memory in memories.items() if memory.has_failures or memory.alone}
        return BlocklistModel(self._blocks.values(), troubled, self.revision)

    def _insert(self, block: Block, now: int) -> BlocklistChange:
        if not block.title:
            block = dataclasses.replace(block, title=self.title_of(block.mesh))
        self._blocks[block.mesh] = block
        if block.mesh in self._memories:
            self._add_event(block, What.BLOCKED, block.actor, now)
        else:
            self._set_memory(block.mesh, Once(block, now, blocks=0, quarantines=0))
        return BlocklistChange(what=What.BLOCKED, block=block, actor=block.actor)

    def _delete(self, block: Block, what: What, actor: str, now: int) -> BlocklistChange:
        del self._blocks[block.mesh]
        self._add_event(block, what, actor, now)
        return BlocklistChange(what=what, block=block, actor=actor)

    def _add_event(self, block: Block, what: What, actor: str, now: int) -> None:
        event = HistoryEvent(at=now, what=what, reason=block.reason, actor=actor, detail=block.detail)
        self._update_memory(block.mesh, now, history=(*self.memory(block.mesh).history, event)[-_MAX_HISTORY_EVENTS:])

    def _update_memory(self, mesh: str, now: int, **changes: object) -> None:
        self._set_memory(mesh, dataclasses.replace(self.memory(mesh), at=now, **changes))  # type: ignore[arg-type]

    def _set_memory(self, mesh: str, memory: MeshMemory | Once) -> None:
        # Order of the last change, so that the oldest can be dropped first.
        self._memories.pop(mesh, None)
        self._memories[mesh] = memory
        if len(self._memories) > self._prune_above:
            self._prune_memories()

    def _prune_memories(self) -> None:
        """Drop the oldest memories of meshes that are neither blocked nor left alone.

        The next pruning comes only after a quarter more has been added, so that it is rare.
        """
        alone = self.alone
        idle = [mesh for mesh in self._memories if mesh not in self._blocks and mesh not in alone]
        for mesh in idle[: max(0, len(idle) - _MAX_MEMORIES)]:
            del self._memories[mesh]
        self._prune_above = len(self._memories) + _MAX_MEMORIES // 4


def _is_covered(old: Block, reason: Reason) -> bool:
    """Whether an entry in force makes a new block for a reason superfluous.

    A blocked mesh does not run, so an end for the same reason is the same end. Scenario: the service saves the block
    and is killed; the next process sees the exit status of the unit again. Or: the disk is full, and the exit status
    is looked at again after each round of discovery, until the block is saved.
    """
    # An operator may have typed an end for a kick or a hold. Then a new one replaces it.
    return old.reason is reason and (reason in _END_REASONS or (reason in PERMANENT_REASONS and old.until is None))


def quarantine_ms(duration: int, number: int) -> int:
    """How long the `number`-th quarantine in a row is, where the first lasts `duration` milliseconds."""
    return min(duration << min(number - 1, 32), max(duration, MAX_QUARANTINE_MS))
