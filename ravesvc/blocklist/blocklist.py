"""The parent's blocklist: what is in force now, and every change of it saved before anybody is told.

What changes while a save is under way goes into the next one, so that a fleet in trouble costs few writes, and none
of them holds up the event loop. What somebody does to the file by hand is taken over, see `BlocklistModel.adopt`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ravesvc.blocklist.file import LONGEST_WORDS, BlockFile, EditedMeanwhile
from ravesvc.blocklist.model import (
    MOST_COUNT,
    SERVICE,
    Block,
    BlocklistChange,
    BlocklistModel,
    MeshMemory,
    Reason,
    What,
)
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.steady_clock import Clock
from ravesvc.common.text import count, printable
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# Seconds until what could not be saved is tried again, without a change that tries it anyway.
_RETRY = 10.0
# Seconds until what is only remembered is saved, with all of that kind that comes until then. A child may fail again
# and again in no time, and each save writes the whole list twice.
_PACE = 1.0
# Timers don't count while the machine sleeps, so the end of a block is looked at that often.
_LONGEST_TIMER = 600.0
# So many changes are announced in one turn of the event loop, which has others to serve.
_TURN = 50
# So many changes are announced one by one when they are found at the start.
_MOST_TOLD_AT_START = 100


class Blocklist:
    """Holds the blocklist and its file.

    Changes are in force at once. The future that each returns tells, when that is decided, whether it is safe on
    disk; one that is not is saved as soon as that works. What is only remembered of a mesh may wait a bit for that.

    Attributes:
        error: why the file can't be used, or None. Nothing may be joined then, and nothing is written, until the file
            is mended or `restore` is called.
        unsaved: why the last save has failed, or None.
        shown: the entries that have been announced, by mesh id; it changes with each announcement.
        untold: how many changes are announced right after the one that is being announced.
    """

    def __init__(
        self,
        path: Path,
        duration: float,
        clock: Clock,
        *,
        announce: Callable[[BlocklistChange], None],
        changed: Callable[[], None],
        advice: Advice = FOR_SERVICE,
        retry: float = _RETRY,
        pace: float = _PACE,
    ) -> None:
        """`duration` is that of a block that ends by itself, in seconds.

        `announce` hears of every change when it is saved, or when saving it has failed; `changed` when `error` or
        `unsaved` has.
        """
        self.error: RaveError | None = None
        self.unsaved: RaveError | None = None
        self.shown: dict[str, Block] = {}
        self.untold = 0
        self._advice = advice
        self._duration = int(duration * 1000)
        self._clock = clock
        self._announce = announce
        self._changed = changed
        self._retry = retry
        self._pace = pace
        self._file = BlockFile(path, clock, advice)
        self._list = BlocklistModel()
        self._news: list[BlocklistChange] = []
        self._waiting: list[asyncio.Future[bool]] = []
        self._dirty = False
        self._closed = False
        self._wake = asyncio.Event()
        self._io = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Read the file; what is wrong with it is noted in `error`."""
        self._list = await asyncio.to_thread(self._file.load_copy)
        async with self._io:
            await self._reread()
        if len(self._news) > _MOST_TOLD_AT_START:
            # As when a list is taken over from elsewhere. Who looks at the list sees them.
            log.info("%d entries of the blocklist have changed since they were last read", len(self._news))
            self._news.clear()
        self.shown.update(self.in_force())
        self._changed()
        self._writer = asyncio.create_task(self._write())
        self._set_timer()

    async def work(self) -> None:
        """Save what changes, until we are closed. Raises whatever has ended that: nothing is saved any more then."""
        if self._writer:
            # Whoever cancels this wants the last changes saved all the same.
            await asyncio.shield(self._writer)

    async def close(self) -> None:
        """Save what is not saved yet, if that can be done at all."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._due:
            self._soil()
        if self._writer:
            self._wake.set()
            await asyncio.gather(self._writer, return_exceptions=True)

    def get(self, mesh: str) -> Block | None:
        """What blocks a mesh now."""
        return self._list.get(mesh, self._clock.now())

    def in_force(self) -> dict[str, Block]:
        """Every block that is in force now, by mesh id."""
        return self._list.in_force(self._clock.now())

    def memory(self, mesh: str) -> MeshMemory:
        """What is remembered of a mesh."""
        return self._list.memory(mesh)

    def blocked_for(self, mesh: str) -> float:
        """For how many seconds a mesh has been blocked; 0 when it is not."""
        block = self.get(mesh)
        return max(0, self._clock.now() - block.since) / 1000 if block else 0.0

    def begun(self, reason: Reason, seconds: float) -> list[float]:
        """When the blocks for a reason that are in force have begun, in seconds since the epoch, the oldest first.

        Of those that have begun within the last `seconds`.
        """
        first, ahead = self._clock.now() - int(seconds * 1000), self._clock.jump()
        blocks = self.in_force().values()
        return sorted(
            (block.since + ahead) / 1000 for block in blocks if block.reason is reason and block.since > first
        )

    def failing_for(self, mesh: str) -> float:
        """Seconds since the first of the failures in a row to connect to a mesh; 0 when there are none."""
        since = self._list.memory(mesh).failing_since
        return 0.0 if since is None else max(0, self._clock.now() - since) / 1000

    def wall(self, time: int) -> int:
        """A time of an entry as the wall clock has it: microseconds since the epoch, within what D-Bus can tell."""
        return min(max(0, time + self._clock.jump()), 2**53) * 1000

    def steady(self, wall: int) -> int:
        """The other way round: a time by the wall clock, in microseconds, as entries have it."""
        return min(wall // 1000, 2**53) - self._clock.jump()

    def add(
        self, mesh: str, reason: Reason, *, detail: str = "", actor: str = SERVICE, seconds: float | None = None
    ) -> asyncio.Future[bool]:
        """Block a mesh, for `seconds` (math.inf: for ever) or as long as its reason demands; see `BlocklistModel`."""
        if seconds is None:
            duration: int | None = self._duration
        else:
            duration = None if seconds == math.inf else int(seconds * 1000)
        # As they are read again from the file, so that what an editor has left alone is no edit.
        detail, actor = printable(detail, LONGEST_WORDS), printable(actor, LONGEST_WORDS)
        return self._note(self._list.add(mesh, reason, self._clock.now(), duration, detail=detail, actor=actor))

    def take(self, blocks: Sequence[Block]) -> tuple[int, int, asyncio.Future[bool]]:
        """Put entries of another list here, see `BlocklistModel.take`; returns how many were put, and are over."""
        now = self._clock.now()
        changes = [self._list.take(block, now) for block in blocks]
        taken = sum(change is not None for change in changes)
        return taken, sum(block.is_over(now) for block in blocks), self._note(*changes)

    def remove(self, mesh: str, actor: str) -> asyncio.Future[bool]:
        """Unblock a mesh."""
        return self._note(self._list.remove(mesh, self._clock.now(), actor))

    def failed(self, mesh: str, failures: int, error: str) -> None:
        """A mesh could not be reached, for the `failures`-th time in a row."""
        # A child says so, and D-Bus lets it say more than the file can.
        failures = min(max(0, int(failures)), MOST_COUNT)
        if self._list.failed(mesh, failures, printable(error, LONGEST_WORDS), self._clock.now()):
            self._soil_soon()

    def held(self, mesh: str) -> None:
        """A connection to the mesh has held."""
        if self._list.held(mesh, self._clock.now()):
            self._soil_soon()

    @property
    def alone(self) -> set[str]:
        """The meshes that the bot has left because it was alone there."""
        return self._list.alone

    def left_alone(self, mesh: str) -> asyncio.Future[bool]:
        """The bot has left a mesh because it was alone there; done as a block is."""
        if self._list.set_alone(mesh, self._clock.now(), alone=True):
            self._soil()
        return self._note()

    def in_company(self, mesh: str) -> None:
        """The bot need not keep out of a mesh any longer for having been alone there."""
        if self._list.set_alone(mesh, self._clock.now(), alone=False):
            self._soil_soon()

    async def reread(self) -> None:
        """Take over what somebody has done to the file."""
        async with self._io:
            await self._reread()
        self._changed()

    async def restore(self) -> int:
        """Go on with what was saved last, in place of a file that can't be used; returns the number of entries.

        Raises `RaveError` (BadFile) when nothing was, or it can't be saved; InvalidArgument when there is nothing
        wrong.
        """
        if self.error is None:
            raise RaveError(Code.INVALID_ARGUMENT, "the blocklist can be used, there is nothing to restore")
        async with self._io:
            if not self._file.copied:
                # Then all that is known has happened since, unless the file was put back just now.
                await self._reread()
            lost = None if self._file.copied else self.error
            if lost is None:
                self.error = None
                await self._save()
                self.error = self.unsaved
        self._changed()
        if lost:
            text = f"there is nothing that was saved last: {lost.message}"
            raise RaveError(Code.BAD_FILE, text, hint=lost.hint, **lost.attributes)
        if self.error:
            raise self.error
        log.warning("The blocklist goes on as it was saved last")
        return len(self.in_force())

    def _note(self, *changes: BlocklistChange | None) -> asyncio.Future[bool]:
        """A future that is done when all that has changed so far was saved, or could not be."""
        saved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if news := [change for change in changes if change]:
            self._news += news
            self._set_timer()
            self._soil()
        if self._writer and self._writer.done():
            saved.set_result(not self._dirty)
        elif self._dirty or self._io.locked():
            # Whether what is being saved will be safe is not known yet either; so it is saved once more.
            self._waiting.append(saved)
            self._soil()
        else:
            saved.set_result(True)
        return saved

    def _soil(self) -> None:
        if self._due:
            self._due.cancel()
            self._due = None
        self._dirty = True
        self._wake.set()

    def _soil_soon(self) -> None:
        """There is something to save that can wait for more of its kind, or for something that can't."""
        if self._due is None and not self._dirty and not self._closed:
            self._due = asyncio.get_running_loop().call_later(self._pace, self._soil)

    async def _write(self) -> None:
        """Save whenever there is something to save, until we are closed."""
        try:
            while self._dirty or not self._closed:
                if not self._closed:
                    with contextlib.suppress(TimeoutError):
                        # What could not be saved is tried again.
                        await asyncio.wait_for(self._wake.wait(), self._retry if self._dirty else None)
                self._wake.clear()
                if self._dirty:
                    async with self._io:
                        await self._save()
                if self.unsaved and self._closed:
                    break
        finally:
            # Nobody will save it for them.
            _answer(self._waiting, saved=False)

    async def _save(self) -> None:
        news: list[BlocklistChange] = []
        waiting: list[asyncio.Future[bool]] = []
        saved, before = False, self.unsaved
        try:
            failure = self.unsaved = await self._write_down(news, waiting)
            saved = failure is None
            if failure and (before is None or before.message != failure.message):
                log.error("The blocklist can't be saved, it is kept in memory: %s", failure)
            elif before and failure is None:
                log.info("The blocklist is saved again")
            await self._show(news)
        finally:
            # Whoever has asked for a change hears of it before the answer; but answered they are whatever happens.
            _answer(waiting, saved=saved)
        if self.unsaved and not self._waiting:
            # What has woken us up is nothing that could be done better at once.
            self._wake.clear()
        if (self.unsaved is None) is not (before is None):
            self._changed()

    async def _write_down(self, news: list[BlocklistChange], waiting: list[asyncio.Future[bool]]) -> RaveError | None:
        """Save all that has changed so far; adds that, and who waits for it, and returns what is in the way."""
        while True:
            # Else an edit would be overwritten before anybody has read it.
            failure = self.error or await self._clear_way()
            news += self._news
            self._news.clear()
            waiting += self._waiting
            self._waiting.clear()
            if failure:
                return failure
            self._dirty = saved = False
            try:
                await asyncio.to_thread(self._file.save, self._list.snapshot())
                saved = True
            except EditedMeanwhile:
                # It came in between all the same.
                continue
            except RaveError as e:
                return e
            finally:
                self._dirty = self._dirty or not saved
            return None

    async def _show(self, news: list[BlocklistChange]) -> None:
        for number, change in enumerate(news, 1):
            if change.what is What.BLOCKED:
                self.shown[change.block.mesh] = change.block
            else:
                self.shown.pop(change.block.mesh, None)
            self.untold = len(news) - number
            self._announce(change)
            if number % _TURN == 0:
                # What changes meanwhile is announced after these, when it is saved.
                await asyncio.sleep(0)

    async def _clear_way(self) -> RaveError | None:
        """Take over an edit that is in the way of a save; returns what is wrong with one that can't be moved away."""
        if not await asyncio.to_thread(self._file.changed):
            return None
        error = await self._reread()
        return error if await asyncio.to_thread(self._file.changed) else None

    async def _reread(self) -> RaveError | None:
        refused = self.error
        try:
            edit = await asyncio.to_thread(self._file.read_edit)
        except RaveError as e:
            if self._writer is None or refused:
                self.error = e
                extra = about(event=LogEvent.NOTHING_STARTS)
                log.error("No mesh is started: %s", e, extra=extra)  # noqa: TRY400 - said in words
            else:
                # What it said until now we know, and write again.
                log.error("An edit of the blocklist is not taken over: %s", e)  # noqa: TRY400
                self._soil()
            return e
        self.error = None
        if refused:
            log.info("The blocklist can be used again")
            self._soil()
        if edit:
            self._adopt(edit)
        elif self._list.revision and await asyncio.to_thread(self._file.missing):
            log.warning("blocklist.json was removed; it is written again, %s takes entries out", self._advice.unblock)
            self._soil()
        return None

    def _adopt(self, edit: BlocklistModel) -> None:
        by_hand = self._list.revision > 0
        changes, kept, refused = self._list.adopt(edit, self._clock.now())
        self._news += changes
        for block in kept:
            log.warning(
                "The entry of mesh %s in the blocklist stays (%s): it is newer than the text that was edited; "
                "%s takes it out",
                block.mesh,
                block.describe(),
                self._advice.unblock,
            )
        for block in refused:
            log.warning(
                "The entry of mesh %s in the blocklist stays out (%s): it was lifted after the text was written that "
                "was edited; %s blocks it again",
                block.mesh,
                block.describe(),
                self._advice.block,
            )
        if by_hand:
            log.info("The blocklist was edited by hand: %s changed", count(len(changes), "entry"))
        self._set_timer()
        self._soil()

    def _set_timer(self) -> None:
        """Wake up for the end of the next block."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        end = self._list.next_end()
        if end is not None:
            # A block is in force up to its last millisecond.
            seconds = (end + 1 - self._clock.now()) / 1000
            delay = min(max(0.0, seconds), _LONGEST_TIMER)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        over = self._list.expire(self._clock.now())
        if over:
            self._news += over
            self._soil()
        self._set_timer()


def _answer(waiting: list[asyncio.Future[bool]], *, saved: bool) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(saved)
    waiting.clear()


async def insist(mesh: str, saved: Awaitable[bool]) -> None:
    """Wait for a change of `Blocklist`; raises `RaveError` (BadFile) when it is in force but could not be saved."""
    if not await saved:
        raise unsafe(f"mesh {mesh}", mesh=mesh)


def unsafe(what: str, **attributes: str) -> RaveError:
    """A change that is in force but could not be saved, as an error (BadFile)."""
    text = f"done, but the blocklist could not be saved: {what}"
    return RaveError(Code.BAD_FILE, text, hint="the log says why", **attributes)


def log_change(change: BlocklistChange) -> None:
    """Say in the log that an entry came, or went."""
    level, event = logging.INFO, LogEvent.UNBLOCKED
    if change.what is What.BLOCKED:
        held = change.block.reason is Reason.HELD
        level, event = (logging.INFO, LogEvent.HELD) if held else (logging.WARNING, LogEvent.BLOCKED)
    log.log(level, "%s", describe(change), extra=about(change.block.mesh, event))


def describe(change: BlocklistChange) -> str:
    """A change in words, for the log."""
    block = change.block
    match change.what:
        case What.BLOCKED if block.reason is Reason.HELD:
            return f"Mesh {block.mesh} was stopped by {change.actor}, and is held until it is started"
        case What.UNBLOCKED if block.reason is Reason.HELD:
            return f"Mesh {block.mesh} is no longer held: it was started by {change.actor}"
        case What.BLOCKED:
            return f"Mesh {block.mesh} is blocked by {change.actor}: {block.describe()}"
        case What.RELEASED:
            return f"Mesh {block.mesh} is no longer blocked ({block.describe()})"
        case What.UNBLOCKED:
            return f"Mesh {block.mesh} is unblocked by {change.actor} ({block.describe()})"
