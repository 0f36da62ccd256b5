"""What a provider of videos has to offer."""

from __future__ import annotations

from typing import Protocol

from ravesvc.common.video import Video

# Hits of a search.
MAX_HITS = 3


class Provider(Protocol):
    """One way to ask a provider. Errors are `RaveError` in words for the chat.

    NotFound and Forbidden are about the video; any other may be better at the next provider.
    """

    @property
    def searches(self) -> bool:
        """Whether it can search."""

    async def search(self, words: str) -> list[Video]:
        """At most `MAX_HITS` videos, the best first. Raises RateLimited when the quota of the day is used up."""

    async def look_up(self, provider: str, video_id: str) -> Video:
        """What is known of a video."""

    def close(self) -> None:
        """End everything; what is under way fails with Closed."""
