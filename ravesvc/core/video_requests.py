"""Videos for the rooms: searches, look-ups and pictures, with limits for each user, room and the host.

A bot runs the commands of strangers, and says itself for whom it asks: the limit of a user protects the users of a
room from each other, those of a room and of the host protect the rest from a bot that lies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from ravesvc.common.log_fields import about
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.config.media_settings import VideoOptions
from ravesvc.errors import Code, RaveError
from ravesvc.media.quota import wait_words

_log = logging.getLogger(__name__)

P_co = TypeVar("P_co", covariant=True)

# A search costs the provider's quota; of what costs nearly nothing there may be this many times as much.
_CHEAP = 6
# An hour, in which an empty bucket gets full.
_REFILL_S = 3600.0
# Requests of a room under way, the rest waits: they share a connection to the provider with those of all other rooms.
_AT_ONCE = 4


class VideoSource(Protocol[P_co]):
    """Who knows videos: the helper, or a library in this process. Errors are in words for the chat."""

    async def search(self, words: str) -> Sequence[Video]:
        """Videos that fit some words."""

    async def look_up(self, link: str) -> Video:
        """The video that a link leads to."""

    async def picture(self, provider: str, video_id: str) -> P_co:
        """The picture of a video."""


class Videos(Generic[P_co]):
    """Answers the bots of all meshes.

    `mesh` is the one whose bot asks, `actor` the chat user for whom, 0 if it does not know. Everything raises
    `RaveError` in words for the chat: what the source does, and RateLimited.
    """

    def __init__(
        self, source: VideoSource[P_co], options: VideoOptions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` tells seconds that do not go back."""
        self._source = source
        self._searches = _Limiter(options, 1, clock)
        self._others = _Limiter(options, _CHEAP, clock)
        # Of the meshes that have requests under way.
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def search(self, mesh: str, actor: int, words: str) -> Sequence[Video]:
        """Videos that fit some words, the best first."""
        self._searches.take(mesh, actor)
        _log.debug("User %d in mesh %s searches for a video", actor, mesh, extra=about(mesh))
        async with self._turn(mesh):
            return await self._source.search(words)

    async def look_up(self, mesh: str, actor: int, link: str) -> Video:
        """The video that a link leads to."""
        self._others.take(mesh, actor)
        async with self._turn(mesh):
            return await self._source.look_up(link)

    async def picture(self, mesh: str, actor: int, provider: str, video_id: str) -> P_co:
        """The picture of a video."""
        self._others.take(mesh, actor)
        async with self._turn(mesh):
            return await self._source.picture(provider, video_id)

    def _turn(self, mesh: str) -> asyncio.Semaphore:
        return self._turns.setdefault(mesh, asyncio.Semaphore(_AT_ONCE))


class _Limiter:
    """So many requests in an hour: of a user in a room, of a room, of all."""

    def __init__(self, options: VideoOptions, times: int, clock: Callable[[], float]) -> None:
        user, room, host = (
            Rate(burst=count * times, per_second=count * times / _REFILL_S)
            for count in (options.searches_per_user, options.searches_per_room, options.searches_per_host)
        )
        self._clock = clock
        self._host = TokenBucket(host, clock())
        # Only requests that the host allows are counted: in an hour a full bucket, and what is refilled meanwhile.
        # The bucket of a user or room that is not among the last so many is full again, and need not be kept.
        self._users = _Buckets(user, 2 * host.burst)
        self._rooms = _Buckets(room, 2 * host.burst)

    def take(self, mesh: str, actor: int) -> None:
        """Count a request; raises `RaveError` (RateLimited) when there were enough, and then counts nothing.

        The same actor in two rooms counts as two users: a bot can claim to ask for a user of another room, and must
        use up nothing there. All whom a bot does not know (0) are one user of its room.
        """
        now = self._clock()
        user, room = self._users.get((mesh, actor), now), self._rooms.get(mesh, now)
        for bucket, text in (
            (user, _("you have asked for many videos in the last hour")),
            (room, _("this room has asked for many videos in the last hour")),
            (self._host, _("the rooms of this bot have asked for many videos in the last hour")),
        ):
            if wait := bucket.wait(now):
                raise RaveError(Code.RATE_LIMITED, text, hint=_("try again {time}", time=wait_words(wait)))
        for bucket in user, room, self._host:
            bucket.take(now)
        # Not before: a bot may invent as many actors as it likes.
        self._users.keep((mesh, actor), user)
        self._rooms.keep(mesh, room)


class _Buckets:
    """Buckets by key: the `most` that were kept last. All others are full."""

    def __init__(self, rate: Rate, most: int) -> None:
        self._rate = rate
        self._most = most
        # In the order of their last use.
        self._kept: dict[Hashable, TokenBucket] = {}

    def get(self, key: Hashable, now: float) -> TokenBucket:
        return self._kept.get(key) or TokenBucket(self._rate, now)

    def keep(self, key: Hashable, bucket: TokenBucket) -> None:
        self._kept.pop(key, None)
        self._kept[key] = bucket
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
