"""Which video a link leads to. Nothing is asked for that."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from ravesvc.common.translation import gettext as _
from ravesvc.common.video import YOUTUBE
from ravesvc.errors import Code, RaveError

MAX_LINK_CHARS = 2000
_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_HOSTS = frozenset(
    {"youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com", "www.youtube-nocookie.com"}
)
_SHORT_HOST = "youtu.be"
_PLACES = frozenset({"shorts", "live", "embed", "v"})
# What people, and the programs that they copy from, put around a link; no link to a video ends with it.
_OPENING, _CLOSING = "<([{\"'“„«", ">)]}\"'“”»,.;:!?"


def is_link(text: str) -> bool:
    """Whether what was typed is meant as a link, and not as words to search for."""
    return bool(_link_in(text))


def video_of(text: str) -> tuple[str, str]:
    """Provider and id of the link in a text; raises `RaveError` (InvalidArgument) in words for the chat."""
    found = _youtube_id(_link_in(text)) if len(text) <= MAX_LINK_CHARS else ""
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


def _link_in(text: str) -> str:
    """The first link in a text, which may have words around it; empty if there is none."""
    words = [word.lstrip(_OPENING).rstrip(_CLOSING) for word in text.split()]
    # After the first word, a host without a scheme names the site and is no link.
    if words and words[0].partition("/")[0].lower() in _HOSTS | {_SHORT_HOST}:
        return words[0]
    return next((word for word in words if word.lower().startswith(("https://", "http://"))), "")


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
