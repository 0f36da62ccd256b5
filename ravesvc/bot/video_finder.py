"""Finds the videos that users mean, by a link or by words, a few at once for each user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media.links import MAX_LINK_CHARS, is_link

MAX_QUERY_CHARS = 200
# Of one user at once: a slow provider must not fill all places that the bot has for commands.
_MAX_AT_ONCE = 3


if TYPE_CHECKING:
    # No process needs protocols to run, and each would cost a bot 5 KB.
    class Providers(Protocol):
        """What asks the providers of videos: see `ravesvc.bot.backend.Backend`."""

        async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
            """The videos that fit the words, the best first."""

        async def look_up_video(self, actor: int, link: str) -> Video:
            """The video that a link leads to."""


class VideoFinder:
    """Finds videos in one room. Every method raises `RaveError`, in words fit for the chat."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        # The user of each search and look-up that is under way.
        self._asking: list[int] = []

    async def find(self, user: int | None, sought: str) -> Video:
        """The video that a link leads to, or the first one that fits the words."""
        if user is None:
            raise RaveError(Code.ACCESS_DENIED, _("Rave does not tell who you are"))
        sought = bounded(sought)
        with self.asking(user):
            if is_link(sought):
                return await self._providers.look_up_video(user, sought)
            videos = await self._providers.search_videos(user, sought)
        if not videos:
            raise RaveError(Code.INVALID_ARGUMENT, _("nothing was found"), hint=_("try other words, or a link"))
        return videos[0]

    @contextlib.contextmanager
    def asking(self, user: int) -> Iterator[None]:
        """Within it a user has something looked up. Raises Busy for one too many."""
        if self._asking.count(user) >= _MAX_AT_ONCE:
            raise RaveError(Code.BUSY, _("your last searches are still under way"))
        self._asking.append(user)
        try:
            yield
        finally:
            self._asking.remove(user)


def bounded(text: str) -> str:
    """What a search is given of the words after a command."""
    words = " ".join(text.split())
    # A link that is cut has more than `MAX_LINK_CHARS` characters still: the service refuses it for that.
    link = words[: MAX_LINK_CHARS + 1]
    return link if is_link(link) else words[:MAX_QUERY_CHARS]
