"""Videos for the rooms: searches, look-ups and pictures, with limits for each user, room and the host.

A bot runs the commands of strangers, and says itself for whom it asks: the limit of a user protects users from each
other, those of a room and of the host protect the rest from a bot that lies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from ravesvc.bot.language import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.journal import about
from ravesvc.media.quota import wait_words
from ravesvc.media.settings import VideoOptions
from ravesvc.tokenbucket import Rate, TokenBucket
from ravesvc.video import Video

_log = logging.getLogger(__name__)

P_co = TypeVar("P_co", covariant=True)

# A search costs the provider's quota; of what costs nearly nothing there may be this many times as much.
_CHEAP = 6
# An hour, in which a bucket is full again: one that was not used for so long need not be kept.
_REFILL_S = 3600.0
_MAX_BUCKETS = 2000


class Source(Protocol[P_co]):
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
        self, source: Source[P_co], options: VideoOptions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` tells seconds that do not go back."""
        self._source = source
        self._searches = _Limiter(options, 1, clock)
        self._others = _Limiter(options, _CHEAP, clock)

    async def search(self, mesh: str, actor: int, words: str) -> Sequence[Video]:
        """Videos that fit some words, the best first."""
        self._searches.take(mesh, actor)
        _log.debug("User %d in mesh %s searches for a video", actor, mesh, extra=about(mesh))
        return await self._source.search(words)

    async def look_up(self, mesh: str, actor: int, link: str) -> Video:
        """The video that a link leads to."""
        self._others.take(mesh, actor)
        return await self._source.look_up(link)

    async def picture(self, mesh: str, actor: int, provider: str, video_id: str) -> P_co:
        """The picture of a video."""
        self._others.take(mesh, actor)
        return await self._source.picture(provider, video_id)


class _Limiter:
    """So many requests in an hour: of a user, of a room, of all."""

    def __init__(self, options: VideoOptions, times: int, clock: Callable[[], float]) -> None:
        self._user, self._room, self._host = (
            Rate(burst=count * times, per_second=count * times / _REFILL_S)
            for count in (options.searches_per_user, options.searches_per_room, options.searches_per_host)
        )
        self._clock = clock
        self._buckets: dict[Hashable, TokenBucket] = {}

    def take(self, mesh: str, actor: int) -> None:
        """Count a request; raises `RaveError` (RateLimited) when there were enough."""
        # Whom a bot does not know is one user of its room. The narrowest comes first: it costs the others nothing.
        user = ("user", actor) if actor else ("user of", mesh)
        for key, rate, text in (
            (user, self._user, _("you have asked for many videos in the last hour")),
            (("room", mesh), self._room, _("this room has asked for many videos in the last hour")),
            ("host", self._host, _("the rooms of this bot have asked for many videos in the last hour")),
        ):
            if wait := self._bucket(key, rate).take(self._clock()):
                raise RaveError(Code.RATE_LIMITED, text, hint=_("try again {time}", time=wait_words(wait)))

    def _bucket(self, key: Hashable, rate: Rate) -> TokenBucket:
        # In the order of their last use: the first ones go.
        bucket = self._buckets.pop(key, None) or TokenBucket(rate, self._clock())
        self._buckets[key] = bucket
        while len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return bucket
