"""Which video a link leads to. Nothing is asked for that."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from ravesvc.bot.language import gettext as _
from ravesvc.errors import Code, RaveError

YOUTUBE = "youtube"
MAX_LINK = 2000
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "www.youtube-nocookie.com"}
)
_SHORT_HOST = "youtu.be"
_PLACES = frozenset({"shorts", "live", "embed", "v"})


def is_link(text: str) -> bool:
    """Whether what was typed is meant as a link, and not as words to search for."""
    head = text.split("/", 1)[0].lower()
    return text.lower().startswith(("https://", "http://")) or head in _HOSTS or head == _SHORT_HOST


def video_of(link: str) -> tuple[str, str]:
    """Provider and id; raises `RaveError` (InvalidArgument) in words for the chat."""
    found = _youtube_id(link.strip()) if len(link) <= MAX_LINK else ""
    if not found:
        hint = _("write one such as https://www.youtube.com/watch?v=... or https://youtu.be/...")
        raise RaveError(Code.INVALID_ARGUMENT, _("that is no link to a video that the bot knows"), hint=hint)
    return YOUTUBE, found


def is_video(provider: str, video_id: str) -> bool:
    """Whether a link could name this video."""
    return provider == YOUTUBE and _ID.fullmatch(video_id) is not None


def page_of(video_id: str) -> str:
    """The page of a YouTube video."""
    return f"https://www.youtube.com/watch?v={video_id}"


def _youtube_id(link: str) -> str:
    """The id that a link to YouTube names; empty if it names none."""
    try:
        url = urlsplit(link if "://" in link else f"https://{link}")
        host = (url.hostname or "").rstrip(".")
        first, _, second = url.path.strip("/").partition("/")
        queried = parse_qs(url.query, max_num_fields=50).get("v", [""])[0]
    except ValueError:
        return ""
    if url.scheme.lower() not in ("https", "http"):
        return ""
    if host == _SHORT_HOST:
        found = first
    elif host not in _HOSTS:
        found = ""
    elif first in _PLACES:
        found = second.partition("/")[0]
    else:
        found = queried if first == "watch" else ""
    return found if _ID.fullmatch(found) else ""
