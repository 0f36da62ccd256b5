"""Which meshes are left alone, why, and until when; and what is remembered of them for the next time. Pure.

Times are milliseconds on the steady scale of `ravesvc.common.steady_clock`; every question brings its own.

Each entry knows the revision of the list in which it last changed. So a list that somebody has edited by hand can be
taken over without losing what has happened since they began: see `BlocklistModel.adopt`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
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
WORDS = {
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

# What a later and lesser reason must not replace: a process that fails while an operator stops it stays held.
_RANKS = {Reason.HELD: 1, Reason.OPERATOR: 2, Reason.KICKED: 3}

# What went wrong with the mesh, as far as we can tell; such blocks are counted until a connection has held.
_TROUBLE = frozenset({Reason.CONNECTION_FAILURES, Reason.REJECTED, Reason.CRASHES, Reason.TOO_LARGE})

# Until somebody lifts them.
FOR_EVER = frozenset({Reason.KICKED, Reason.HELD})

# A mesh whose process keeps failing is tried less and less often: down to once in so many milliseconds.
LONGEST_QUARANTINE = 24 * 3600 * 1000

# Who has blocked or unblocked a mesh, when it was no person.
SERVICE = "service"
# Whoever has edited the file.
EDITOR = "blocklist.json"

# More than anything here is ever counted to, and what every program reads as it was written.
MOST_COUNT = 2**32 - 1
# A revision that somebody has typed may be one more with every save.
_MOST_REVISION = 2**31

_MOST_EVENTS = 10
_MOST_MEMORIES = 1000
# A hand-edited time is another one when it differs by more than a clock that is corrected a little.
_SAME = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One entry. `until` None means for ever.

    `count` is how often in a row the mesh has been in trouble, `revision` that of the list in which the entry last
    changed; 0 for one that somebody has typed.
    """

    mesh: str
    reason: Reason
    since: int
    until: int | None
    detail: str = ""
    actor: str = SERVICE
    count: int = 1
    revision: int = 0

    @property
    def state(self) -> str:
        """The state of a mesh that it keeps from running, in a word."""
        return "held" if self.reason is Reason.HELD else "blocked"

    def describe(self) -> str:
        """Why the mesh is left alone, in words."""
        return f"{WORDS[self.reason]}: {self.detail}" if self.detail else WORDS[self.reason]

    def says(self, other: Block) -> bool:
        """Whether another entry says the same to people."""
        if None in (self.until, other.until):
            same_end = self.until is other.until
        else:
            assert self.until is not None
            assert other.until is not None
            same_end = abs(self.until - other.until) <= _SAME
        return same_end and (self.reason, self.detail) == (other.reason, other.detail)

    def is_over(self, now: int) -> bool:
        """Whether it blocks no more; it does in its last millisecond."""
        return self.until is not None and self.until < now

    def outdoes(self, other: Block) -> bool:
        """Whether it says more than another entry: by its reason, or else because it lasts longer."""
        rank, other_rank = (_RANKS.get(each.reason, 0) for each in (self, other))
        if rank != other_rank or other.until is None:
            return rank > other_rank
        return self.until is None or self.until > other.until + _SAME


class What(StrEnum):
    """What has happened to the block of a mesh."""

    BLOCKED = "blocked"
    RELEASED = "released"  # Its time was over.
    UNBLOCKED = "unblocked"  # Somebody has lifted it.


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEvent:
    """Something in the history of a mesh."""

    at: int
    what: What
    reason: Reason
    actor: str = SERVICE
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshMemory:
    """What is remembered of a mesh, blocked or not, until a connection has held.

    Attributes:
        failures: attempts to connect that have failed in a row.
        failing_since: when the first of them did; None when there are none, or an earlier version has counted them.
        last_error: why the last one did.
        blocks: how often in a row it was blocked for trouble.
        quarantines: how often of these for crashes.
        alone: whether the bot has left the mesh because it was alone there, and waits for company.
        at: when anything of this last changed.
        history: the last events; the one part that a connection that held does not end.
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
    def troubled(self) -> bool:
        """Whether there is anything that a connection would end by holding."""
        return bool(self.failures or self.last_error or self.blocks or self.quarantines)


NOTHING = MeshMemory()


class Once(NamedTuple):
    """What is remembered of a mesh that was blocked this once, `at` that time, and of which no more is known.

    So it is with most of a long list, of which a start need not make a `MeshMemory` and a history each.
    """

    block: Block
    at: int
    blocks: int
    quarantines: int

    def memory(self) -> MeshMemory:
        """The same as a memory."""
        block = self.block
        event = HistoryEvent(
            at=self.at, what=What.BLOCKED, reason=block.reason, actor=block.actor, detail=block.detail
        )
        return MeshMemory(blocks=self.blocks, quarantines=self.quarantines, at=self.at, history=(event,))


# What a connection that has held leaves of it.
_NO_TROUBLE = {"failures": 0, "failing_since": None, "last_error": "", "blocks": 0, "quarantines": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class BlocklistChange:
    """An entry that came, or went, by whose doing."""

    what: What
    block: Block
    actor: str


class BlocklistModel:
    """The entries, each in force until its time is over, and the memories.

    Attributes:
        revision: of the text that was written last. What changes from then on belongs to the next one.
    """

    def __init__(
        self,
        blocks: Iterable[Block] = (),
        memories: Mapping[str, MeshMemory | Once] | None = None,
        revision: int = 0,
    ) -> None:
        self.revision = revision
        self._blocks = {block.mesh: block for block in blocks}
        self._memories: dict[str, MeshMemory | Once] = dict(memories or {})
        self._crowded = _MOST_MEMORIES
        # The first revision without an entry that somebody has lifted, by mesh id. Editors are not open for ever.
        self._lifted: dict[str, int] = {}

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks.values())

    @property
    def memories(self) -> dict[str, MeshMemory]:
        """What is remembered, by mesh id."""
        return {mesh: self.memory(mesh) for mesh in self._memories}

    @property
    def remembered(self) -> Mapping[str, MeshMemory | Once]:
        """The same as it is kept."""
        return self._memories

    def memory(self, mesh: str) -> MeshMemory:
        """What is remembered of a mesh."""
        kept = self._memories.get(mesh, NOTHING)
        return kept.memory() if isinstance(kept, Once) else kept

    def get(self, mesh: str, now: int) -> Block | None:
        """The entry that blocks a mesh at `now`."""
        block = self._blocks.get(mesh)
        return None if block is None or block.is_over(now) else block

    def in_force(self, now: int) -> dict[str, Block]:
        """Every entry that blocks at `now`, by mesh id."""
        return {mesh: block for mesh, block in self._blocks.items() if not block.is_over(now)}

    def next_end(self) -> int | None:
        """When the next entry is over."""
        return min((block.until for block in self if block.until is not None), default=None)

    def add(
        self, mesh: str, reason: Reason, now: int, duration: int | None, *, detail: str = "", actor: str = SERVICE
    ) -> BlocklistChange | None:
        """Block a mesh for `duration` milliseconds, None for ever; a kick and a hold are for ever whatever it says.

        A kick stays a kick, and what an operator says gives way to a kick only: `remove` ends them. None when an
        entry stays as it is. Crashes block for twice as long each time, until a connection has held.
        """
        old = self.get(mesh, now)
        if old and (_says_already(old, reason) or _RANKS.get(old.reason, 0) > _RANKS.get(reason, 0)):
            return None
        memory = self.memory(mesh)
        blocks = min(memory.blocks + (reason in _TROUBLE), MOST_COUNT)
        quarantines = min(memory.quarantines + (reason is Reason.CRASHES), MOST_COUNT)
        if reason in FOR_EVER or duration is None:
            until = None
        elif reason is Reason.CRASHES:
            until = now + quarantine(duration, quarantines)
        else:
            until = now + duration
        block = Block(
            mesh=mesh,
            reason=reason,
            since=now,
            until=until,
            detail=detail,
            actor=actor,
            count=blocks if reason in _TROUBLE else 1,
            revision=self.revision + 1,
        )
        # The attempts are used up; what is tried after the block is tried anew.
        self._remember(mesh, now, failures=0, failing_since=None, blocks=blocks, quarantines=quarantines)
        return self._put(block, now)

    def take(self, block: Block, now: int) -> BlocklistChange | None:
        """Put an entry of another list here as it is; None if it is over, or says no more than one that is here."""
        old = self.get(block.mesh, now)
        if block.is_over(now) or (old and not block.outdoes(old)):
            return None
        # That one may have been written by a clock that was ahead.
        return self._put(dataclasses.replace(block, since=min(block.since, now), revision=self.revision + 1), now)

    def remove(self, mesh: str, now: int, actor: str) -> BlocklistChange | None:
        """Unblock a mesh on somebody's word, who trusts it anew; None if nothing blocked it."""
        block = self.get(mesh, now)
        if block is None:
            return None
        self._remember(mesh, now, **_NO_TROUBLE)
        self._lifted.pop(mesh, None)
        self._lifted[mesh] = self.revision + 1
        if len(self._lifted) > _MOST_MEMORIES:
            del self._lifted[next(iter(self._lifted))]
        return self._drop(block, What.UNBLOCKED, actor, now)

    def expire(self, now: int) -> list[BlocklistChange]:
        """Remove the entries whose time is over."""
        over = [block for block in self if block.is_over(now)]
        return [self._drop(block, What.RELEASED, SERVICE, now) for block in over]

    def failed(self, mesh: str, failures: int, error: str, now: int) -> bool:
        """The last of so many attempts in a row to connect has failed, for this reason; false if that was known."""
        memory = self.memory(mesh)
        if (memory.failures, memory.last_error) == (failures, error):
            return False
        first = now if memory.failing_since is None else memory.failing_since
        since = first if failures else None
        self._remember(mesh, now, failures=failures, failing_since=since, last_error=error)
        return True

    def held(self, mesh: str, now: int) -> bool:
        """A connection has held: whatever went wrong before is over. Tells whether anything had to be forgotten."""
        if not self.memory(mesh).troubled:
            return False
        self._remember(mesh, now, **_NO_TROUBLE)
        return True

    @property
    def alone(self) -> set[str]:
        """The meshes that the bot has left because it was alone there."""
        return {mesh for mesh, memory in self._memories.items() if isinstance(memory, MeshMemory) and memory.alone}

    def set_alone(self, mesh: str, now: int, *, alone: bool) -> bool:
        """The bot has left a mesh because it was alone there, or is to be there again; false if that was known."""
        if self.memory(mesh).alone is alone:
            return False
        self._remember(mesh, now, alone=alone)
        return True

    def adopt(self, edit: BlocklistModel, now: int) -> tuple[list[BlocklistChange], list[Block], list[Block]]:
        """Take over a list that somebody has made from the text of `edit.revision`.

        What has changed here since that revision they can't have known: it stays. Returns the changes, the entries
        that stayed against what the edit says, and those that stayed out, because they were lifted (by `remove`, as
        long as this list has lived) since our own text had them. An edit without a revision knows nothing of ours.
        """
        changes = self.expire(now)
        kept: list[Block] = []
        refused: list[Block] = []
        if self.revision == 0:
            # There is nothing of ours: it is all that is known.
            self.revision, self._memories = min(edit.revision, _MOST_REVISION), dict(edit._memories)
        # A number that we have never written is none of ours: an old backup has it, of a list that was begun anew.
        base = edit.revision if edit.revision <= self.revision else 0
        for mesh in list(self._blocks | edit._blocks):
            ours, theirs = self._blocks.get(mesh), edit.get(mesh, now)
            if ours and theirs and ours.says(theirs):
                continue
            if ours and ours.revision > base:
                kept.append(ours)
            elif theirs and theirs.revision and not ours and self._lifted.get(mesh, 0) > base:
                refused.append(theirs)
            elif theirs:
                # One that our own text had keeps its author, unless it was changed; what was typed has none.
                actor = theirs.actor if theirs.revision and not ours else EDITOR
                changes.append(self._put(dataclasses.replace(theirs, actor=actor, revision=self.revision + 1), now))
            elif ours:
                changes.append(self._drop(ours, What.UNBLOCKED, EDITOR, now))
        for mesh, memory in edit._memories.items():
            self._memories.setdefault(mesh, memory)
        return changes, kept, refused

    def snapshot(self) -> BlocklistModel:
        """A list that stays as this one is now, as the next revision."""
        self.revision += 1
        return BlocklistModel(self._blocks.values(), self._memories, self.revision)

    def without_history(self) -> BlocklistModel:
        """The same list with nothing in it but what something is decided by."""
        memories = {mesh: dataclasses.replace(memory, history=()) for mesh, memory in self.memories.items()}
        troubled = {mesh: memory for mesh, memory in memories.items() if memory.troubled or memory.alone}
        return BlocklistModel(self._blocks.values(), troubled, self.revision)

    def _put(self, block: Block, now: int) -> BlocklistChange:
        self._blocks[block.mesh] = block
        if block.mesh in self._memories:
            self._tell(block, What.BLOCKED, block.actor, now)
        else:
            self._keep(block.mesh, Once(block, now, blocks=0, quarantines=0))
        return BlocklistChange(what=What.BLOCKED, block=block, actor=block.actor)

    def _drop(self, block: Block, what: What, actor: str, now: int) -> BlocklistChange:
        del self._blocks[block.mesh]
        self._tell(block, what, actor, now)
        return BlocklistChange(what=what, block=block, actor=actor)

    def _tell(self, block: Block, what: What, actor: str, now: int) -> None:
        event = HistoryEvent(at=now, what=what, reason=block.reason, actor=actor, detail=block.detail)
        self._remember(block.mesh, now, history=(*self.memory(block.mesh).history, event)[-_MOST_EVENTS:])

    def _remember(self, mesh: str, now: int, **changes: object) -> None:
        self._keep(mesh, dataclasses.replace(self.memory(mesh), at=now, **changes))  # type: ignore[arg-type]

    def _keep(self, mesh: str, memory: MeshMemory | Once) -> None:
        # The one that changed last stands last.
        self._memories.pop(mesh, None)
        self._memories[mesh] = memory
        if len(self._memories) > self._crowded:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Make room for some more, so that this is seldom needed; what is waited for stays, blocked or empty."""
        alone = self.alone
        idle = [mesh for mesh in self._memories if mesh not in self._blocks and mesh not in alone]
        for mesh in idle[: max(0, len(idle) - _MOST_MEMORIES)]:
            del self._memories[mesh]
        self._crowded = len(self._memories) + _MOST_MEMORIES // 4


def _says_already(old: Block, reason: Reason) -> bool:
    """Whether an entry in force says all that another one would.

    A mesh that is blocked does not run, so trouble of the same kind is the same trouble: learnt once more, by a
    parent that follows one which has saved it and was killed.
    """
    # An editor may have given an end to what has none.
    return old.reason is reason and (reason in _TROUBLE or (reason in FOR_EVER and old.until is None))


def quarantine(duration: int, number: int) -> int:
    """For how many milliseconds the `number`-th quarantine in a row is, where the first is for `duration`."""
    return min(duration << min(number - 1, 32), max(duration, LONGEST_QUARANTINE))
