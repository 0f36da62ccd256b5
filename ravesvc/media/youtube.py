"""YouTube by its Data API v3, with the operator's key."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ravesvc.common import dates
from ravesvc.common.json_fields import Object
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media import quota, youtube_answers
from ravesvc.media.cache import Cache
from ravesvc.media.provider import MAX_HITS
from ravesvc.media.web import Site

_log = logging.getLogger(__name__)

# The two that the provider counts apart, in requests of a day: searches, and all others.
_SEARCHES = "youtube searches"
_OTHERS = "youtube requests"
_MAX_OTHERS = 10_000


class YouTubeProvider:
    """Implements `Provider`.

    The day's requests are counted here, so that none is sent in vain, and used up as well when the provider says so.
    """

    searches = True

    def __init__(
        self, api: Site, key: str, cache: Cache, searches_per_day: int, wall: Callable[[], float] = time.time
    ) -> None:
        """`wall` returns the time in seconds since the epoch."""
        self._api = api
        self._key = key
        self._cache = cache
        self._allowed = {_SEARCHES: searches_per_day, _OTHERS: _MAX_OTHERS}
        self._wall = wall

    async def search(self, words: str) -> list[Video]:
        """See `Provider`."""
        query = {
            "part": "snippet",
            "type": "video",
            "videoEmbeddable": "true",
            "maxResults": str(MAX_HITS),
            "q": words,
        }
        hits = youtube_answers.search_hits(await self._ask(_SEARCHES, "/search", query))[:MAX_HITS]
        if not hits:
            return []
        try:
            known = await self._details([hit.id for hit in hits])
        except RaveError as e:
            # Titles are enough to choose by.
            _log.info("Hits are shown without their lengths: %s", e)
            return hits
        found = [known.get(hit.id, youtube_answers.FoundVideos(hit, embeddable=True)) for hit in hits]
        return [each.video for each in found if each.embeddable]

    async def look_up(self, provider: str, video_id: str) -> Video:
        """See `Provider`."""
        found = (await self._details([video_id])).get(video_id)
        if found is None:
            raise youtube_answers.gone()
        if not found.embeddable:
            raise youtube_answers.not_embeddable()
        return found.video

    def close(self) -> None:
        """See `Provider`."""
        self._api.close()

    async def _details(self, ids: list[str]) -> dict[str, youtube_answers.FoundVideos]:
        query = {"part": "snippet,contentDetails,statistics,status", "id": ",".join(ids)}
        return youtube_answers.details(await self._ask(_OTHERS, "/videos", query))

    async def _ask(self, what: str, path: str, query: dict[str, str]) -> Object:
        """The answer to a request that counts as `what`."""
        today = quota.day(self._wall())
        used = self._cache.quota_used(what, today.date)
        if used >= self._allowed[what]:
            raise self._used_up(what, today)
        # Before the answer: a request that fails on the way may have been counted.
        self._cache.set_quota_used(what, today.date, used + 1)
        try:
            status, answer = await self._api.get(path, {**query, "key": self._key})
        except RaveError as e:
            if e.attributes.get("unsent"):
                self._cache.set_quota_used(what, today.date, max(0, self._cache.quota_used(what, today.date) - 1))
            raise
        if status == 200:
            return answer
        error = youtube_answers.refusal(status, answer)
        if error.attributes.get("used_up"):
            self._cache.set_quota_used(what, today.date, self._allowed[what])
            _log.warning("YouTube says that the key's quota is used up until %s", dates.date(today.ends))
            raise self._used_up(what, today) from error
        if error.code is Code.CONFIG:
            _log.error("YouTube does not accept the key (HTTP %d): see rave.yaml(5), videos", status)
        raise error

    def _used_up(self, what: str, today: quota.Day) -> RaveError:
        if what is _SEARCHES:
            text = _("today's searches at YouTube are used up")
        else:
            text = _("today's requests to YouTube are used up")
        hint = _("there will be new ones {time}", time=quota.wait_words(today.ends - self._wall()))
        return RaveError(Code.RATE_LIMITED, text, hint=hint)
