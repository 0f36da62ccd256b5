"""Plays the queue of a room: the calls, the document and the timer around `queue_scheduler`.

There is a task only while something is to be done, and one timer at most while something is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ravesvc.bot import video_words as words
from ravesvc.bot.command_names import VIDEO
from ravesvc.bot.queue import Queue, QueueEntry, QueueLimits, Showing
from ravesvc.bot.queue_scheduler import Notice, NoticeKind, Play, QueueScheduler
from ravesvc.bot.room_view import view_of
from ravesvc.bot.skipper import Skipper
from ravesvc.bot.vote_skip import Skip, needed
from ravesvc.common.video import Video
from ravesvc.errors import RaveError
from ravesvc.room.changes import Change

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend
    from ravesvc.bot.bot import Bot
    from ravesvc.bot.room_api import RoomApi

log = logging.getLogger(__name__)

_DOCUMENT = "queue"
_MAX_ENTRIES = 50
# Until the service is asked again to load or save the queue: doubled each time, up to the second.
_FIRST_RETRY_S, _MAX_RETRY_S = 2.0, 60.0


class Player:
    """The queue of one room, and what plays there. It outlives connections.

    Methods for commands raise `RaveError`, in words for the chat: what the service says that keeps the queue, what
    Rave says, and InvalidArgument.
    """

    def __init__(
        self, bot: Bot, rave: RoomApi, backend: Backend, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare it; it needs no running loop yet. `clock`: monotonic seconds."""
        self._bot = bot
        self._rave = rave
        self._backend = backend
        self._clock = clock
        # None until the queue was loaded: a queue that was not read must not be overwritten.
        self._scheduler: QueueScheduler | None = None
        self._saved = Queue()
        self._retry_s = 0.0
        self._load_lock = asyncio.Lock()
        self._save_lock = asyncio.Lock()
        self._vote_lock = asyncio.Lock()
        self._skipper = Skipper(rave, observe_room=self._observe_room, play_next=self._play_if_due, clock=clock)
        # The key of a video whose start the answer to its command has announced: no second message is sent.
        self._announced_by_reply: tuple[str, str] | None = None
        self._step_needed = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What happens.

    def on_change(self, change: Change) -> None:
        """Take in a change of the room, and act on it."""
        if self._scheduler:
            self._observe_room(self._scheduler)
        self.schedule_step()

    def forget_user(self, user: int) -> None:
        """Remove what a user has put into the queue."""
        if self._scheduler:
            self._scheduler.forget_user(user)
            self.schedule_step()

    async def settle(self) -> None:
        """Return when all that was begun is done; what waits for a time is not begun."""
        while self._task:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop. The queue was saved with each change."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._stop_timer()

    # What commands ask for.

    async def scheduler(self) -> QueueScheduler:
        """The queue and what the room shows, as they are now."""
        scheduler = await self._load()
        self._observe_room(scheduler)
        return scheduler

    async def add(self, entry: QueueEntry) -> int:
        """Put an entry into the queue; returns its place there, or 0 if it is about to play."""
        scheduler = await self.scheduler()
        limits = QueueLimits(self._bot.settings.max_per_user, _MAX_ENTRIES)
        now = self._clock()
        starts = scheduler.starts_at_once(now)
        scheduler.add(entry, limits, now)
        try:
            await self._save(scheduler)
        except RaveError:
            # Not saved, it would be gone after a restart. The user is told of the failure, so it must not play.
            if scheduler.queue.position(entry.video):
                scheduler.remove(entry.video)
            raise
        place = scheduler.queue.position(entry.video)
        if starts:
            self._announced_by_reply = entry.video.key
        self.schedule_step()
        return 0 if starts or place is None else place

    async def remove(self, video: Video) -> None:
        """Take a video out of the queue."""
        scheduler = await self.scheduler()
        scheduler.remove(video)
        await self._save(scheduler)
        self.schedule_step()

    async def clear(self) -> int:
        """Take everything out of the queue; returns how many entries there were."""
        scheduler = await self.scheduler()
        cleared = len(scheduler.queue.waiting)
        scheduler.clear()
        await self._save(scheduler)
        self.schedule_step()
        return cleared

    async def choose(self, entry: QueueEntry) -> QueueEntry | None:
        """Vote for a video past the queue; returns the choice before, if the vote takes its place."""
        scheduler = await self.scheduler()
        url = await self._rave.register(entry.video)
        # One vote at a time: the bot has a single vote, and the last call decides what it is for.
        async with self._vote_lock:
            scheduler.choose(entry, url)
            await self._try_save(scheduler)
            try:
                await self._rave.vote(url)
            except RaveError as error:
                scheduler.choice_failed(entry, error)
                raise words.refusal(error, scheduler.mode) from None
            finally:
                self.schedule_step()
            return scheduler.chosen(entry)

    async def like(self) -> None:
        """Like what plays."""
        showing = self._require_showing(await self.scheduler())
        await self._rave.like(showing.url, showing.instance_id)

    def skip_votes(self, scheduler: QueueScheduler, user: int) -> tuple[int, int]:
        """Count the vote of a user to skip what plays; returns how many there are, and how many it takes."""
        present = self._present()
        votes = self._skipper.add_vote(self._require_showing(scheduler), user).of_present(present)
        return votes, needed(len(present), self._bot.settings.skip_percent)

    def is_skipped(self, scheduler: QueueScheduler) -> bool:
        """Whether what is shown was skipped a moment ago."""
        return self._skipper.was_just_skipped(self._require_showing(scheduler))

    async def skip(self) -> Skip:
        """End what plays, or have the next video of the queue take its place; if Rave refuses that, vote to skip.

        Raises `RaveError` if it refuses all of it.
        """
        scheduler = await self.scheduler()
        showing = self._require_showing(scheduler)
        try:
            return await self._skipper.skip(scheduler, showing)
        finally:
            self.schedule_step()

    def _require_showing(self, scheduler: QueueScheduler) -> Showing:
        showing = scheduler.shown(self._clock())
        if showing is None:
            raise words.nothing_plays()
        return showing

    def _present(self) -> frozenset[int]:
        room = self._bot.room
        return room.users - {room.own_user_id} if room else frozenset()

    # The work.

    def _observe_room(self, scheduler: QueueScheduler) -> None:
        room = self._bot.room
        if room is None or not room.state.known:
            scheduler.disconnected()
        else:
            scheduler.observe(view_of(room), self._clock())

    def schedule_step(self) -> None:
        """Have the task decide what to do next; call it when something else than the room has changed."""
        self._step_needed = True
        if self._task is None:
            self._task = asyncio.create_task(self._run_steps(), name="player")

    async def _run_steps(self) -> None:
        """Run steps until there is nothing left but to wait."""
        try:
            until = math.inf
            while self._step_needed:
                self._step_needed = False
                until = await self._step()
            self._set_timer(until)
        except Exception:
            log.exception("the queue does not go on until the room changes")
        finally:
            self._task = None

    async def _step(self) -> float:
        """Do what is due; returns when to run the next step."""
        try:
            scheduler = await self._load()
        except RaveError as error:
            log.debug("The queue of the room can't be read yet: %s", error)
            return self._clock() + self._next_retry()
        self._observe_room(scheduler)
        off = self._bot.settings.is_off(VIDEO)
        if not off:
            await self._skip_removed(scheduler)
            await self._skip_if_enough(scheduler)
        kept = await self._try_save(scheduler)
        until = math.inf if off else await self._play_if_due(scheduler)
        for notice in scheduler.pop_notices():
            await self._announce(notice)
        return until if kept else min(until, self._clock() + self._next_retry())

    async def _play_if_due(self, scheduler: QueueScheduler) -> float:
        """Play the next video if it is its turn; returns when to run the next step."""
        async with self._vote_lock:
            action = scheduler.next_action(self._clock())
            if not isinstance(action, Play):
                return action.until
            self._step_needed = True
            await self._play(scheduler, action.request.entry.video, action.request.url)
            return math.inf

    async def _play(self, scheduler: QueueScheduler, video: Video, url: str) -> None:
        """Register a video, unless it is registered already, save its URL, and vote for it.

        The URL is saved before the vote: if the process is killed in between, the next one recognises the video.
        """
        if not url:
            try:
                url = await self._rave.register(video)
            except RaveError as error:
                scheduler.register_failed(video, error, self._clock())
                return
            scheduler.registered(video, url)
        await self._try_save(scheduler)
        requested = scheduler.queue.requested
        if requested is None or requested.entry.video.key != video.key:
            # The video was removed from the queue meanwhile, or is playing already.
            return
        try:
            await self._rave.vote(url)
        except RaveError as error:
            scheduler.vote_failed(video, error, self._clock())
        else:
            scheduler.voted(video, url, self._clock())

    async def _skip_if_enough(self, scheduler: QueueScheduler) -> None:
        """Skip if the votes suffice now: users without a vote have left, or Rave may allow what it refused before."""
        showing = scheduler.shown(self._clock())
        if showing is None or self._skipper.has_tried(scheduler):
            return
        if not self._skipper.votes_on(showing).enough(self._present(), self._bot.settings.skip_percent):
            return
        refused_before = self._skipper.was_refused(showing)
        try:
            done = await self.skip()
        except RaveError as error:
            log.info("The video can't be skipped: %s", error)
            return
        # If Rave has refused the same before, the answer to a command has told the users.
        if not done.over and not (done.refusal and refused_before):
            await self._send(words.skip(done))

    async def _skip_removed(self, scheduler: QueueScheduler) -> None:
        """Skip a video that was removed from the queue but has started by the bot's earlier vote."""
        unwanted = scheduler.pop_unwanted()
        if unwanted is None:
            return
        removed, showing = unwanted
        try:
            done = await self._skipper.skip(scheduler, showing)
        except RaveError as error:
            await self._send(words.removed_has_started(removed.video, error))
        else:
            if not done.over:
                await self._send(words.removed_has_started(removed.video, done.refusal))

    async def _load(self) -> QueueScheduler:
        async with self._load_lock:
            if self._scheduler is None:
                text = await self._backend.read_document(_DOCUMENT)
                self._saved = _read(text)
                self._scheduler = QueueScheduler(self._saved)
                self._retry_s = 0.0
            return self._scheduler

    async def _save(self, scheduler: QueueScheduler) -> None:
        async with self._save_lock:
            queue = scheduler.queue
            if queue != self._saved:
                await self._backend.write_document(_DOCUMENT, queue.to_json())
                self._saved = queue
                self._retry_s = 0.0

    async def _try_save(self, scheduler: QueueScheduler) -> bool:
        """Save the queue; False if that failed. A failure must not stop what plays."""
        try:
            await self._save(scheduler)
        except RaveError as error:
            log.warning("The queue of the room can't be kept now: %s", error)
            return False
        return True

    def _next_retry(self) -> float:
        self._retry_s = min(max(_FIRST_RETRY_S, 2 * self._retry_s), _MAX_RETRY_S)
        return self._retry_s

    async def _announce(self, notice: Notice) -> None:
        announced, self._announced_by_reply = self._announced_by_reply, None
        if notice.kind is NoticeKind.STARTED and notice.entry.video.key == announced:
            return
        await self._send(words.notice_text(notice, await self._bot.name(notice.entry.user)))

    async def _send(self, text: str) -> None:
        try:
            await self._bot.outbox.send(text)
        except RaveError as error:
            log.info("cannot tell the room about its queue: %s", error)

    def _set_timer(self, until: float) -> None:
        self._stop_timer()
        if until < math.inf:
            delay = max(0.0, until - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self.schedule_step)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _read(text: str | None) -> Queue:
    if text is None:
        return Queue()
    try:
        return Queue.from_json(text, QueueLimits(_MAX_ENTRIES, _MAX_ENTRIES))
    except RaveError as error:
        log.warning("The queue of the room is lost: %s", error)
        return Queue()
