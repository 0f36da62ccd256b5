"""What YouTube answers, as videos and errors. No I/O; every answer is untrusted.

The shapes are those of search.list and videos.list of the Data API v3, and of oEmbed. An entry that makes no sense is
left out; a list that is none is BadData, and so is one that has entries and none that makes sense.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import YOUTUBE, Video
from ravesvc.errors import Code, RaveError
from ravesvc.media.links import page_of

_MAX_ENTRIES = 50
_MAX_TEXT_CHARS = 1000
_DURATION = re.compile(
    r"P(?:(?P<w>\d{1,4})W)?(?:(?P<d>\d{1,4})D)?(?:T(?:(?P<h>\d{1,5})H)?(?:(?P<m>\d{1,6})M)?(?:(?P<s>\d{1,8})S)?)?"
)
_SECONDS_PER_UNIT = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PICTURES = ("medium", "high", "standard", "default", "maxres")

# Reasons that the provider gives, by what follows from them.
_USED_UP = frozenset({"quotaExceeded", "dailyLimitExceeded"})
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


class FoundVideos(NamedTuple):
    """A video, and whether its owner lets others show it."""

    video: Video
    embeddable: bool


def search_hits(answer: Object) -> list[Video]:
    """The videos of search.list, in its order, each once. In this call alone texts are escaped as in HTML."""
    hits: dict[str, Video] = {}
    for entry in _entries(answer):
        identity, snippet = _object(entry, "id"), _object(entry, "snippet")
        shown = {
            **snippet,
            "title": _unescaped(snippet, "title"),
            "channelTitle": _unescaped(snippet, "channelTitle"),
        }
        if video := _video(identity.get("videoId"), shown):
            hits.setdefault(video.id, video)
    _require_some(hits, answer)
    return list(hits.values())


def details(answer: Object) -> dict[str, FoundVideos]:
    """The videos of videos.list, by id; those that the provider does not know are missing."""
    found: dict[str, FoundVideos] = {}
    for entry in _entries(answer):
        content, statistics = _object(entry, "contentDetails"), _object(entry, "statistics")
        more = {
            "seconds": duration(content.get("duration")),
            "mature": _object(content, "contentRating").get("ytRating") == "ytAgeRestricted",
            "views": json_fields.as_int(statistics.get("viewCount")) or 0,
        }
        if video := _video(entry.get("id"), _object(entry, "snippet"), more):
            found[video.id] = FoundVideos(video, _object(entry, "status").get("embeddable") is not False)
    _require_some(found, answer)
    return found


def embedded(answer: Object, video_id: str) -> Video:
    """The video of an oEmbed answer; raises `RaveError` (BadData) when it does not even have a title."""
    pictures = {"default": {"url": answer.get("thumbnail_url")}}
    snippet = {"title": answer.get("title"), "channelTitle": answer.get("author_name"), "thumbnails": pictures}
    video = _video(video_id, snippet)
    if video is None or not video.title:
        raise bad_answer()
    return video


def duration(text: object) -> float | None:
    """The seconds of an ISO 8601 duration such as PT4M13S; None for P0D (a live stream) and for what is none."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if match is None:
        return None
    return float(sum(int(match[unit] or 0) * seconds for unit, seconds in _SECONDS_PER_UNIT.items())) or None


def refusal(status: int, answer: Object) -> RaveError:
    """Why the Data API refuses, in words for the chat.

    RateLimited with the attribute `used_up` when the quota of the day is, Config when it is about the key.
    """
    reasons = _reasons(answer)
    if reasons & _USED_UP:
        text = _("today's requests to YouTube are used up")
        return RaveError(Code.RATE_LIMITED, text, used_up=True, status=status)
    if reasons & _TOO_FAST or status == 429:
        text = _("YouTube wants fewer requests")
        return RaveError(Code.RATE_LIMITED, text, hint=_("try again in a while"), status=status)
    # "invalidParameter" and its kind are not about the key.
    if status in (400, 401, 403) and not any(reason.startswith("invalid") for reason in reasons):
        hint = _("the operator has to look after it")
        return RaveError(Code.CONFIG, _("YouTube does not accept the operator's key"), hint=hint, status=status)
    return server_error(status)


def link_refusal(status: int) -> RaveError:
    """Why oEmbed refuses, in words for the chat."""
    if status in (401, 403):
        return not_embeddable()
    if status in (400, 404):
        return gone()
    return server_error(status)


def server_error(status: int) -> RaveError:
    """A status that says nothing about the video."""
    text = _("YouTube has a problem: HTTP {status}", status=status)
    return RaveError(Code.SERVER_ERROR, text, hint=_("try again in a while"), status=status)


def gone() -> RaveError:
    """There is no such video."""
    return RaveError(Code.NOT_FOUND, _("YouTube has no such video: it is gone, private, or the link is wrong"))


def not_embeddable() -> RaveError:
    """It may be watched on the provider's own page alone."""
    return RaveError(Code.FORBIDDEN, _("that video may not be shown outside of YouTube"))


def bad_answer() -> RaveError:
    """An answer that is none."""
    text = _("the video provider gives an answer that makes no sense")
    return RaveError(Code.BAD_DATA, text, hint=_("try again in a while"))


def _reasons(answer: Object) -> set[str]:
    """The reasons of an error, in the form of the Data API and in that of Google's newer interfaces."""
    error = _object(answer, "error")
    listed = [*_list(error, "errors"), *_list(error, "details")]
    reasons = {entry.get("reason") for entry in listed if isinstance(entry, dict)}
    return {reason for reason in reasons if isinstance(reason, str)}


def _entries(answer: Object) -> list[Object]:
    items = answer.get("items")
    if not isinstance(items, list):
        raise bad_answer()
    return [entry for entry in items[:_MAX_ENTRIES] if isinstance(entry, dict)]


def _require_some(read: Mapping[str, object], answer: Object) -> None:
    """Raise BadData if there are entries and none could be read: that is not the same as no video."""
    if answer["items"] and not read:
        raise bad_answer()


def _video(video_id: object, snippet: Object, more: Mapping[str, Any] | None = None) -> Video | None:
    try:
        return Video.from_object(
            {
                "provider": YOUTUBE,
                "id": video_id,
                "url": page_of(str(video_id)),
                "title": snippet.get("title"),
                "author": snippet.get("channelTitle"),
                "live": snippet.get("liveBroadcastContent") == "live",
                "thumbnail": _picture(_object(snippet, "thumbnails")),
                **(more or {}),
            }
        )
    except RaveError:
        return None


def _picture(pictures: Object) -> str:
    """The URL of the picture that suits a chat best; empty if there is none. `Pictures` checks the host."""
    for size in _PICTURES:
        url = _object(pictures, size).get("url")
        if isinstance(url, str) and url.startswith("https://") and len(url) <= _MAX_TEXT_CHARS:
            return url if url.isascii() and url.isprintable() else ""
    return ""


def _unescaped(source: Object, key: str) -> str:
    text = source.get(key)
    return html.unescape(text[:_MAX_TEXT_CHARS]) if isinstance(text, str) else ""


def _object(source: Object, key: str) -> Object:
    value = source.get(key)
    return value if isinstance(value, dict) else {}


def _list(source: Object, key: str) -> list[Any]:
    value = source.get(key)
    return value[:_MAX_ENTRIES] if isinstance(value, list) else []
