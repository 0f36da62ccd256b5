"""The parent's blocklist: what is in force now, and every change of it saved before it is announced.

Changes that come while a save is under way go into the next save, so that many failures cost few writes. A save runs
in a thread and does not block the event loop. An operator may edit the file; see `BlocklistModel.merge_edit`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ravesvc.blocklist.file import MAX_TEXT_CHARS, BlockFile, EditedMeanwhile
from ravesvc.blocklist.model import (
    MAX_COUNT,
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

# After a save that failed, the next one is tried this much later, or with the next change.
_SAVE_RETRY_S = 10.0
# A change that is not urgent is saved this much later, together with others that came until then. A worker may fail
# again and again in no time, and each save writes the whole list twice.
_SAVE_DELAY_S = 1.0
# Timers stand still while the machine sleeps, so the end of a block is checked at least this often.
_MAX_TIMER_S = 600.0
# After this many announcements other tasks of the event loop get their turn.
_MAX_CHANGES_PER_TURN = 50
# When the first read finds more changes than this, they are counted in the log and not announced one by one.
_MAX_ANNOUNCED_AT_START = 100


class Blocklist:
    """Holds the blocklist and its file.

    A change is in force at once. It returns a future, whose result says whether the change is safe on disk. A change
    that could not be saved stays in force and is saved later. Failure counts are saved after a short delay.

    Attributes:
        error: why the file can't be used, or None. While this is set, no mesh is joined and the file is not written,
            until an operator fixes the file or calls `restore`.
        save_error: why the last save has failed, or None.
        announced: the entries that have been announced, by mesh id; it changes with each announcement.
        announcements_left: how many changes are announced right after the one that is being announced.
    """

    def __init__(
        self,
        path: Path,
        duration_s: float,
        clock: Clock,
        *,
        announce: Callable[[BlocklistChange], None],
        changed: Callable[[], None],
        title_of: Callable[[str], str],
        advice: Advice = FOR_SERVICE,
        retry_s: float = _SAVE_RETRY_S,
        save_delay_s: float = _SAVE_DELAY_S,
    ) -> None:
        """`duration_s` is how long a block lasts that ends by itself.

        `announce` is called for every change once it is saved, or once saving it has failed; `changed` is called when
        `error` or `save_error` has changed. `title_of` returns the title of a mesh, which strangers have written;
        empty if it is not known.
        """
        self.error: RaveError | None = None
        self.save_error: RaveError | None = None
        self.announced: dict[str, Block] = {}
        self.announcements_left = 0
        self._advice = advice
        self.set_duration(duration_s)
        self._clock = clock
        self._announce = announce
        self._changed = changed
        self._title_of = title_of
        self._retry_s = retry_s
        self._save_delay_s = save_delay_s
        self._file = BlockFile(path, clock, advice)
        self._model = BlocklistModel()
        self._unannounced: list[BlocklistChange] = []
        self._waiting: list[asyncio.Future[bool]] = []
        self._dirty = False
        self._closed = False
        self._wake = asyncio.Event()
        self._io = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled_save: asyncio.TimerHandle | None = None

    def set_duration(self, seconds: float) -> None:
        """For how long a mesh that can't be reached is blocked from now on."""
        self._duration_ms = int(seconds * 1000)

    async def start(self) -> None:
        """Read the file; what is wrong with it is noted in `error`."""
        self._model = await asyncio.to_thread(self._file.load_copy)
        self._model.title_of = lambda mesh: printable(self._title_of(mesh), MAX_TEXT_CHARS)
        async with self._io:
            await self._reload()
        if len(self._unannounced) > _MAX_ANNOUNCED_AT_START:
            # A list from another installation has thousands. They are in `announced`, so the bus shows them.
            changed = count(len(self._unannounced), "entry")
            log.info("Changed in the blocklist since it was last read: %s", changed)
            self._unannounced.clear()
        self.announced.update(self.in_force())
        self._changed()
        self._writer = asyncio.create_task(self._save_loop())
        self._set_timer()

    async def work(self) -> None:
        """Save changes until `close` is called. Raises the exception that ended the saving: then no more is saved."""
        if self._writer:
            # A caller that is cancelled still wants the last changes saved.
            await asyncio.shield(self._writer)

    async def close(self) -> None:
        """Save what is not saved yet. One attempt is made; `save_error` says whether it failed."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        if self._scheduled_save:
            self._mark_dirty()
        if self._writer:
            self._wake.set()
            await asyncio.gather(self._writer, return_exceptions=True)

    def get(self, mesh: str) -> Block | None:
        """The block of a mesh that is in force now."""
        return self._model.get(mesh, self._clock.now())

    def in_force(self) -> dict[str, Block]:
        """All blocks that are in force now, by mesh id."""
        return self._model.in_force(self._clock.now())

    def memory(self, mesh: str) -> MeshMemory:
        """What is remembered of a mesh."""
        return self._model.memory(mesh)

    def blocked_for(self, mesh: str) -> float:
        """The seconds for which a mesh has been blocked; 0 when it is not."""
        block = self.get(mesh)
        return max(0, self._clock.now() - block.since) / 1000 if block else 0.0

    def block_starts(self, reason: Reason, seconds: float) -> list[float]:
        """The beginnings of the blocks for a reason, in seconds since the epoch, the oldest first.

        Only blocks that are in force and have begun within the last `seconds` count.
        """
        first, ahead = self._clock.now() - int(seconds * 1000), self._clock.jump()
        blocks = self.in_force().values()
        return sorted(
            (block.since + ahead) / 1000 for block in blocks if block.reason is reason and block.since > first
        )

    def failing_for(self, mesh: str) -> float:
        """The seconds since the first failure in a row to connect to a mesh; 0 when there is none."""
        since = self._model.memory(mesh).failing_since
        return 0.0 if since is None else max(0, self._clock.now() - since) / 1000

    def to_wall_us(self, time_ms: int) -> int:
        """Convert a time of an entry to microseconds since the epoch, within the range of D-Bus's uint64."""
        return min(max(0, time_ms + self._clock.jump()), 2**53) * 1000

    def from_wall_us(self, wall_us: int) -> int:
        """Convert microseconds since the epoch to milliseconds on the steady scale, as entries have them."""
        return min(wall_us // 1000, 2**53) - self._clock.jump()

    def add(
        self, mesh: str, reason: Reason, *, detail: str = "", actor: str = SERVICE, seconds: float | None = None
    ) -> asyncio.Future[bool]:
        """Block a mesh for `seconds` (math.inf: for ever), by default as its reason demands; see `BlocklistModel`."""
        if seconds is None:
            duration: int | None = self._duration_ms
        else:
            duration = None if seconds == math.inf else int(seconds * 1000)
        # The file is read with the same limits. Otherwise an unchanged entry would look like an edit.
        detail, actor = printable(detail, MAX_TEXT_CHARS), printable(actor, MAX_TEXT_CHARS)
        return self._record(self._model.add(mesh, reason, self._clock.now(), duration, detail=detail, actor=actor))

    def import_entries(self, blocks: Sequence[Block]) -> tuple[int, int, asyncio.Future[bool]]:
        """Add entries of another list, see `BlocklistModel.import_entry`.

        Returns how many were added, how many had ended already, and whether they were saved.
        """
        now = self._clock.now()
        changes = [self._model.import_entry(block, now) for block in blocks]
        taken = sum(change is not None for change in changes)
        return taken, sum(block.is_over(now) for block in blocks), self._record(*changes)

    def export_entries(self) -> list[Block]:
        """All entries that are in force now, with times in milliseconds since the epoch."""
        return [_moved(block, self._clock.jump()) for block in self.in_force().values()]

    def import_exported(self, blocks: Sequence[Block]) -> asyncio.Future[bool]:
        """Add what `export_entries` gave, here or elsewhere; the future is as that of `add`."""
        return self.import_entries([_moved(block, -self._clock.jump()) for block in blocks])[2]

    def remove(self, mesh: str, actor: str) -> asyncio.Future[bool]:
        """Unblock a mesh."""
        return self._record(self._model.remove(mesh, self._clock.now(), actor))

    def record_failure(self, mesh: str, failures: int, error: str) -> None:
        """Remember that a mesh could not be reached, for the `failures`-th time in a row."""
        # The number comes from a worker over D-Bus, whose integers are larger than those of the file.
        failures = min(max(0, int(failures)), MAX_COUNT)
        if self._model.record_failure(mesh, failures, printable(error, MAX_TEXT_CHARS), self._clock.now()):
            self._schedule_save()

    def reset_failures(self, mesh: str) -> None:
        """Forget the failures of a mesh: a connection to it was stable."""
        if self._model.reset_failures(mesh, self._clock.now()):
            self._schedule_save()

    @property
    def alone(self) -> set[str]:
        """The meshes that the bot has left because it was alone there."""
        return self._model.alone

    def set_left_alone(self, mesh: str) -> asyncio.Future[bool]:
        """Remember that the bot has left a mesh because it was alone there; the future is as that of `add`."""
        if self._model.set_alone(mesh, self._clock.now(), alone=True):
            self._mark_dirty()
        return self._record()

    def clear_left_alone(self, mesh: str) -> None:
        """Let the bot join a mesh again that it had left because it was alone there."""
        if self._model.set_alone(mesh, self._clock.now(), alone=False):
            self._schedule_save()

    async def reload(self) -> None:
        """Read the file and merge what an operator has changed in it."""
        async with self._io:
            await self._reload()
        self._changed()

    async def restore(self) -> int:
        """Replace a file that can't be used by the list that was saved last; returns the number of entries.

        Raises `RaveError` (BadFile) when no saved list is known or it can't be written, InvalidArgument when the file
        can be used.
        """
        if self.error is None:
            raise RaveError(Code.INVALID_ARGUMENT, "the blocklist can be used, there is nothing to restore")
        async with self._io:
            if not self._file.has_copy:
                # The copy is lost as well, so all that is known has happened since the start. But an operator may
                # have put the file back just now.
                await self._reload()
            lost = None if self._file.has_copy else self.error
            if lost is None:
                self.error = None
                await self._save()
                self.error = self.save_error
        self._changed()
        if lost:
            text = f"there is nothing that was saved last: {lost.message}"
            raise RaveError(Code.BAD_FILE, text, hint=lost.hint, **lost.attributes)
        if self.error:
            raise self.error
        log.warning("The blocklist goes on as it was saved last")
        return len(self.in_force())

    def _record(self, *changes: BlocklistChange | None) -> asyncio.Future[bool]:
        """Queue changes to be saved and announced; the future is done when all changes so far are saved, or are not.

        A call without a change waits for those that came before it.
        """
        saved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if news := [change for change in changes if change]:
            self._unannounced += news
            self._set_timer()
            self._mark_dirty()
        if self._writer and self._writer.done():
            saved.set_result(not self._dirty)
        elif self._dirty or self._io.locked():
            # A save under way may still fail, and its callers are already in its own list. So save once more.
            self._waiting.append(saved)
            self._mark_dirty()
        else:
            saved.set_result(True)
        return saved

    def _mark_dirty(self) -> None:
        if self._scheduled_save:
            self._scheduled_save.cancel()
            self._scheduled_save = None
        self._dirty = True
        self._wake.set()

    def _schedule_save(self) -> None:
        """Save after a short delay, or together with the next urgent change."""
        if self._scheduled_save is None and not self._dirty and not self._closed:
            self._scheduled_save = asyncio.get_running_loop().call_later(self._save_delay_s, self._mark_dirty)

    async def _save_loop(self) -> None:
        """Save whenever there is something to save, until `close` is called."""
        try:
            while self._dirty or not self._closed:
                if not self._closed:
                    with contextlib.suppress(TimeoutError):
                        # While a failed save is outstanding, the wait ends after the retry delay.
                        await asyncio.wait_for(self._wake.wait(), self._retry_s if self._dirty else None)
                self._wake.clear()
                if self._dirty:
                    async with self._io:
                        await self._save()
                if self.save_error and self._closed:
                    break
        finally:
            # No save will follow, so the callers must not wait for one.
            _resolve(self._waiting, saved=False)

    async def _save(self) -> None:
        news: list[BlocklistChange] = []
        waiting: list[asyncio.Future[bool]] = []
        saved, before = False, self.save_error
        try:
            failure = self.save_error = await self._save_pending(news, waiting)
            saved = failure is None
            if failure and (before is None or before.message != failure.message):
                log.error("The blocklist can't be saved, it is kept in memory: %s", failure)
            elif before and failure is None:
                log.info("The blocklist is saved again")
            await self._announce_all(news)
        finally:
            # A change is announced before its caller gets the answer. The answer comes even if announcing fails.
            _resolve(waiting, saved=saved)
        if self.save_error and not self._waiting:
            # The changes that set the event were part of the save that failed. Wait for the retry delay.
            self._wake.clear()
        if (self.save_error is None) is not (before is None):
            self._changed()

    async def _save_pending(
        self, news: list[BlocklistChange], waiting: list[asyncio.Future[bool]]
    ) -> RaveError | None:
        """Save all changes so far; returns the error that prevents it, or None.

        Moves the changes into `news` and the futures of their callers into `waiting`. An edit that has not been read
        is merged first, so that the save does not overwrite it. `BlockFile.save` checks once more, right before it
        replaces the file: an operator may save an edit while ours is being written. Then the loop begins again.
        """
        while True:
            failure = self.error or await self._merge_pending_edit()
            news += self._unannounced
            self._unannounced.clear()
            waiting += self._waiting
            self._waiting.clear()
            if failure:
                return failure
            self._dirty = saved = False
            try:
                await asyncio.to_thread(self._file.save, self._model.snapshot())
                saved = True
            except EditedMeanwhile:
                continue
            except RaveError as e:
                return e
            finally:
                self._dirty = self._dirty or not saved
            return None

    async def _announce_all(self, news: list[BlocklistChange]) -> None:
        for number, change in enumerate(news, 1):
            if change.what is What.BLOCKED:
                self.announced[change.block.mesh] = change.block
            else:
                self.announced.pop(change.block.mesh, None)
            self.announcements_left = len(news) - number
            self._announce(change)
            if number % _MAX_CHANGES_PER_TURN == 0:
                # Changes that come meanwhile are announced after these, once they are saved.
                await asyncio.sleep(0)

    async def _merge_pending_edit(self) -> RaveError | None:
        """Merge an edit that a save would overwrite; returns the error if it can be neither read nor renamed."""
        if not await asyncio.to_thread(self._file.has_unread_edit):
            return None
        error = await self._reload()
        return error if await asyncio.to_thread(self._file.has_unread_edit) else None

    async def _reload(self) -> RaveError | None:
        refused = self.error
        try:
            edit = await asyncio.to_thread(self._file.read_edit)
        except RaveError as e:
            if self._writer is None or refused:
                self.error = e
                extra = about(event=LogEvent.NOTHING_STARTS)
                log.error("No mesh is started: %s", e, extra=extra)  # noqa: TRY400 - said in words
            else:
                # What the file said before is in memory, and is written again.
                log.error("An edit of the blocklist is not taken over: %s", e)  # noqa: TRY400
                self._mark_dirty()
            return e
        self.error = None
        if refused:
            log.info("The blocklist can be used again")
            self._mark_dirty()
        if edit:
            self._merge_edit(edit)
        elif self._model.revision and await asyncio.to_thread(self._file.is_missing):
            log.warning("blocklist.json was removed; it is written again, %s takes entries out", self._advice.unblock)
            self._mark_dirty()
        return None

    def _merge_edit(self, edit: BlocklistModel) -> None:
        by_hand = self._model.revision > 0
        changes, kept, refused = self._model.merge_edit(edit, self._clock.now())
        self._unannounced += changes
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
        self._mark_dirty()

    def _set_timer(self) -> None:
        """Schedule `_expire` for the end of the next block."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        end = self._model.next_end()
        if end is not None:
            # A block is in force up to its last millisecond.
            seconds = (end + 1 - self._clock.now()) / 1000
            delay = min(max(0.0, seconds), _MAX_TIMER_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        over = self._model.expire(self._clock.now())
        if over:
            self._unannounced += over
            self._mark_dirty()
        self._set_timer()


def _moved(block: Block, ms: int) -> Block:
    """An entry with its times so much later."""
    return dataclasses.replace(block, since=block.since + ms, until=None if block.until is None else block.until + ms)


def _resolve(waiting: list[asyncio.Future[bool]], *, saved: bool) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(saved)
    waiting.clear()


async def await_saved(mesh: str, saved: Awaitable[bool]) -> None:
    """Wait for a change of `Blocklist`; raises `RaveError` (BadFile) when it is in force but could not be saved."""
    if not await saved:
        raise not_saved_error(f"mesh {mesh}", mesh=mesh)


def not_saved_error(what: str, **attributes: str) -> RaveError:
    """A change that is in force but could not be saved, as an error (BadFile)."""
    text = f"done, but the blocklist could not be saved: {what}"
    return RaveError(Code.BAD_FILE, text, hint="the log says why", **attributes)


def log_change(change: BlocklistChange) -> None:
    """Log that an entry was added or removed."""
    level, event = logging.INFO, LogEvent.UNBLOCKED
    if change.what is What.BLOCKED:
        held = change.block.reason is Reason.HELD
        level, event = (logging.INFO, LogEvent.HELD) if held else (logging.WARNING, LogEvent.BLOCKED)
    log.log(level, "%s", describe(change), extra=about(change.block.mesh, event, change.block.reason))


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
            return f"Mesh {block.mesh} is no longer blocked (the reason was: {block.describe()})"
        case What.UNBLOCKED:
            return f"Mesh {block.mesh} is unblocked by {change.actor} (the reason was: {block.describe()})"
