"""Skips what plays in a room: ends it, or votes for the next video where that ends it, or else votes to skip it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ravesvc.bot import video_words as words
from ravesvc.bot.queue import QueueEntry, Showing
from ravesvc.bot.queue_scheduler import VOTE_STARTS, Circumstances, QueueScheduler
from ravesvc.bot.vote_skip import Skip, SkipVotes
from ravesvc.errors import RaveError
from ravesvc.room.playback import PlayMode

if TYPE_CHECKING:
    from ravesvc.bot.room_api import RoomApi

log = logging.getLogger(__name__)

# In these Rave has to know the next video before the one that plays is skipped.
_VOTE_FIRST = VOTE_STARTS | {PlayMode.AUTOPLAY}
# For this long the room may still show a video that was skipped: a second skip could hit the next video.
_SKIPPED_S = 5.0


class Skipper:
    """The skips of one room, and the users' votes for one."""

    def __init__(
        self,
        rave: RoomApi,
        *,
        observe_room: Callable[[QueueScheduler], None],
        play_next: Callable[[QueueScheduler], Awaitable[object]],
        clock: Callable[[], float],
    ) -> None:
        """Prepare it; it needs no running loop yet.

        Args:
            rave: asks Rave.
            look: shows the scheduler the room as it is now.
            play_next: votes for the next video of the queue, if it is its turn.
            clock: monotonic seconds, those of the scheduler.
        """
        self._rave = rave
        self._observe_room = observe_room
        self._play_next = play_next
        self._clock = clock
        self._skip_lock = asyncio.Lock()
        self._votes = SkipVotes()
        self._voted_on: Showing | None = None
        # The circumstances of the last skip if Rave refused it. The votes are kept: Rave may allow it under others.
        self._tried_in: Circumstances | None = None
        # The video that was skipped last, and when.
        self._last_skip: tuple[Showing, float] | None = None

    def add_vote(self, showing: Showing, user: int) -> SkipVotes:
        """Count the vote of a user to skip a showing; returns all that it has."""
        self._votes, self._voted_on = self.votes_on(showing).add(user), showing
        return self._votes

    def votes_on(self, showing: Showing) -> SkipVotes:
        """The votes to skip a showing."""
        return self._votes if self._voted_on and self._voted_on.is_same(showing) else SkipVotes()

    def has_tried(self, scheduler: QueueScheduler) -> bool:
        """Whether it has tried in vain to skip what plays, while leader and play mode were those of now."""
        return self._tried_in is not None and self._tried_in == scheduler.circumstances

    def was_refused(self, showing: Showing) -> bool:
        """Whether it has tried in vain to skip this showing, under any leader."""
        tried = self._tried_in
        return tried is not None and showing.is_same(Showing(tried.url, instance_id=tried.instance_id))

    async def skip(self, scheduler: QueueScheduler, showing: Showing) -> Skip:
        """Skip what plays, or vote for that; raises `RaveError` if Rave refuses all of it."""
        entry = scheduler.own_playing()
        async with self._skip_lock:
            # Two users may skip the same video at the same time: the next one is not to go with it.
            self._observe_room(scheduler)
            if not self._is_shown(scheduler, showing) or self.was_just_skipped(showing):
                self._forget_votes(showing)
                return Skip(entry, over=True)
            # Stored before the request: the leader may change between Rave's decision and its answer.
            self._tried_in = scheduler.circumstances
            refusal = await self._end(scheduler, showing)
            if refusal:
                log.info("The video can't be ended: %s", refusal)
                return Skip(entry, refusal, await self._vote(scheduler, showing, refusal))
            self._last_skip = showing, self._clock()
            self._tried_in = None
            self._forget_votes(showing)
            return Skip(entry)

    def _forget_votes(self, showing: Showing) -> None:
        if self._voted_on and self._voted_on.is_same(showing):
            self._voted_on = None

    def _is_shown(self, scheduler: QueueScheduler, showing: Showing) -> bool:
        shown = scheduler.shown(self._clock())
        return shown is not None and shown.is_same(showing)

    def was_just_skipped(self, showing: Showing) -> bool:
        """Whether it has skipped this showing; the room may still show it for a moment."""
        if self._last_skip is None:
            return False
        last, at = self._last_skip
        return last.is_same(showing) and self._clock() < at + _SKIPPED_S

    async def _end(self, scheduler: QueueScheduler, showing: Showing) -> RaveError | None:
        """End a video, or vote for the next one where that ends it; returns why that is refused."""
        if scheduler.queue.waiting and scheduler.mode in _VOTE_FIRST:
            scheduler.skip()
            await self._play_next(scheduler)
            self._observe_room(scheduler)
            replaced = scheduler.mode in VOTE_STARTS and scheduler.voted_for is not None
            if replaced or not self._is_shown(scheduler, showing):
                # The vote has ended the video. A call to end it now could end the next one.
                return None
        try:
            await self._rave.end_video()
        except RaveError as error:
            return words.refusal(error, scheduler.mode)
        return None

    async def _vote(self, scheduler: QueueScheduler, showing: Showing, refusal: RaveError) -> QueueEntry | None:
        """Vote to skip a video, and for the next one; returns that if Rave takes the vote.

        Raises `refusal` if Rave takes neither.
        """
        if scheduler.queue.waiting and not scheduler.stalled and scheduler.mode not in _VOTE_FIRST:
            scheduler.skip()
        accepted = await self._vote_skip(showing)
        await self._play_next(scheduler)
        if not accepted and scheduler.voted_for is None:
            raise refusal
        return scheduler.voted_for

    async def _vote_skip(self, showing: Showing) -> bool:
        """Vote to skip a video; returns whether Rave takes the vote."""
        try:
            await self._rave.vote_skip(showing.url, showing.instance_id)
        except RaveError as error:
            log.info("Rave refuses our vote to skip the video: %s", error)
            return False
        return True
