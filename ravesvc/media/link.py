"""Videos by their links alone: title, author and picture by oEmbed, which needs no key and knows no duration."""

from __future__ import annotations

from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media import youtube_answers
from ravesvc.media.links import page_of
from ravesvc.media.web import Site


class LinkProvider:
    """Implements `Provider`."""

    searches = False

    def __init__(self, oembed: Site) -> None:
        self._oembed = oembed

    async def search(self, words: str) -> list[Video]:
        """See `Provider`."""
        raise RaveError(Code.CONFIG, "links can't be searched")

    async def look_up(self, provider: str, video_id: str) -> Video:
        """See `Provider`."""
        status, answer = await self._oembed.get("", {"format": "json", "url": page_of(video_id)})
        if status != 200:
            raise youtube_answers.link_refusal(status)
        return youtube_answers.embedded(answer, video_id)

    def close(self) -> None:
        """See `Provider`."""
        self._oembed.close()
