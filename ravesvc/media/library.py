"""Videos by words or link, and their pictures: from a provider, or from the cache if it is fresh enough."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ravesvc.common.picture import Picture
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import YOUTUBE, Video
from ravesvc.config.media_settings import LINK, MediaSettings
from ravesvc.errors import Code, RaveError
from ravesvc.media import links
from ravesvc.media.cache import DAY_S, MAX_AGE_S, Cache
from ravesvc.media.link import LinkProvider
from ravesvc.media.provider import Provider
from ravesvc.media.web import Pictures, Site
from ravesvc.media.youtube import YouTubeProvider

_log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_QUERY_CHARS = 200
# For one request, with all calls to providers and the wait for its turn.
TIMEOUT_S = 15.0
_FRESH_SEARCH_S = 7 * DAY_S
# A search without hits may be a fault of the provider's that passes.
_FRESH_NOTHING_S = 600.0
_FRESH_VIDEO_S = DAY_S
# With these a provider has answered about the video itself. After other failures the next provider is asked.
_FINAL = frozenset({Code.NOT_FOUND, Code.FORBIDDEN, Code.INVALID_ARGUMENT})


class Library:
    """Errors are `RaveError` in words for the chat. Needs a running event loop."""

    def __init__(self, providers: Sequence[Provider], cache: Cache, pictures: Pictures, no_search: str) -> None:
        """`no_search` is what to do about it if none of the providers can search."""
        self._providers = providers
        self._cache = cache
        self._pictures = pictures
        self._no_search = no_search

    async def search(self, words: str) -> list[Video]:
        """Videos that fit some words, the best first; at most `MAX_HITS`, maybe none.

        Raises Config (no provider can search, or none accepts the key), RateLimited (the day's searches are used
        up), InvalidArgument, and what the network does.
        """
        wanted = _normalised(words)
        cached = self._cache.search(wanted, _FRESH_SEARCH_S) or self._cache.search(wanted, _FRESH_NOTHING_S)
        if cached is not None:
            return cached
        async with _in_time():
            try:
                found = await _first(self._searching(), lambda provider: provider.search(wanted))
            except RaveError:
                # An old answer is better than none.
                if not (old := self._cache.search(wanted, MAX_AGE_S)):
                    raise
                return old
        if found and not any(video.seconds or video.live for video in found):
            # The lengths are missing: with the search not stored, the next one asks the provider again.
            self._cache.save_videos(found)
        else:
            self._cache.save_search(wanted, found)
        return found

    async def look_up(self, link: str) -> Video:
        """The video that a link leads to. Raises InvalidArgument, NotFound, Forbidden, and what the network does."""
        return await self._video(*links.video_of(link))

    async def picture(self, provider: str, video_id: str) -> bytes:
        """The picture of a video, as the provider has it. Raises as `look_up` does."""
        if not links.is_video(provider, video_id):
            raise RaveError(Code.INVALID_ARGUMENT, _("that is no video that the bot knows"))
        video = self._cache.video(provider, video_id, MAX_AGE_S)
        async with _in_time():
            if video is None:
                video = await self._video(provider, video_id)
            if not video.thumbnail:
                raise RaveError(Code.NOT_FOUND, _("there is no picture of that video"))
            content = await self._pictures.fetch(video.thumbnail)
        # Raises for what is none.
        Picture(content).close()
        return content

    def close(self) -> None:
        """End everything; requests under way fail with Closed."""
        for provider in self._providers:
            provider.close()
        self._pictures.close()
        self._cache.close()

    def _searching(self) -> list[Provider]:
        found = [provider for provider in self._providers if provider.searches]
        if not found:
            raise RaveError(Code.CONFIG, _("videos can't be searched here yet"), hint=self._no_search)
        return found

    async def _video(self, provider: str, video_id: str) -> Video:
        cached = self._cache.video(provider, video_id, _FRESH_VIDEO_S)
        # One that came by its link alone lacks what a provider with a key can add.
        if cached and (cached.seconds or cached.live or not any(each.searches for each in self._providers)):
            return cached
        old = self._cache.video(provider, video_id, MAX_AGE_S)
        try:
            async with _in_time():
                video = await _first(self._providers, lambda each: each.look_up(provider, video_id))
        except RaveError as e:
            if old is None or e.code in _FINAL:
                raise
            return old
        if old and old.seconds and not (video.seconds or video.live):
            # It came by its link alone this time.
            video = replace(video, seconds=old.seconds, mature=old.mature, views=old.views)
        self._cache.save_videos([video])
        return video


def open_library(
    settings: MediaSettings, key: str, cache: Path | None, wall: Callable[[], float] = time.time
) -> Library:
    """A library with the providers that the settings name; `key` is empty if there is none, `cache` None for memory.

    Raises `RaveError` (Config, BadFile) for settings that can't be used.
    """
    if YOUTUBE in settings.providers and not key:
        # Only the log names the path: it may be in the operator's home directory, which no chat should show.
        _log.info("Videos can't be searched without a key of the YouTube Data API in %s", settings.key_path)
    kept = Cache(cache, wall)
    providers: list[Provider] = []
    for name in settings.providers:
        if name == YOUTUBE and key:
            api = Site(settings.youtube_api, "videos.youtube_api", settings.tls, settings.proxy)
            providers.append(YouTubeProvider(api, key, kept, settings.youtube_searches_per_day, wall))
        elif name == LINK:
            oembed = Site(settings.youtube_oembed, "videos.youtube_oembed", settings.tls, settings.proxy)
            providers.append(LinkProvider(oembed))
    pictures = Pictures(settings.picture_hosts, settings.tls, settings.proxy)
    return Library(providers, kept, pictures, _no_search(settings))


def _no_search(settings: MediaSettings) -> str:
    if YOUTUBE not in settings.providers:
        return _("the operator has to name youtube in videos.providers of rave.yaml")
    return _("the operator has to set up a key of the YouTube Data API; links can be played")


async def _first(providers: Sequence[Provider], ask: Callable[[Provider], Awaitable[T]]) -> T:
    """The first answer; raises the last provider's error, or the first that is final."""
    hint = _("the operator has to look after it")
    failed = RaveError(Code.CONFIG, _("no provider of videos is set up here"), hint=hint)
    for provider in providers:
        try:
            return await ask(provider)
        except RaveError as e:
            if e.code in _FINAL:
                raise
            failed = e
    raise failed


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield
    except TimeoutError:
        text = _("the video provider did not answer in time")
        raise RaveError(Code.TIMEOUT, text, hint=_("try again in a while")) from None


def _normalised(words: str) -> str:
    """Words as they are searched for and cached; raises `RaveError` (InvalidArgument) for none or too many."""
    wanted = " ".join(words.split()).casefold()
    if not wanted or len(wanted) > _MAX_QUERY_CHARS or not wanted.isprintable():
        raise RaveError(Code.INVALID_ARGUMENT, _("a search takes up to {number} characters", number=_MAX_QUERY_CHARS))
    return wanted
