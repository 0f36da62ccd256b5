"""A video of a provider, in the form that search, queue and Rave pass on."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError

YOUTUBE = "youtube"
MAX_TITLE_CHARS = 200
_MAX_URL_CHARS = 2000
# A week; a longer video counts as one of unknown length, because no queue can wait for its end.
_MAX_LENGTH_S = 604_800.0
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PROVIDER = re.compile(r"[a-z0-9]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video.

    Attributes:
        provider: in lower case, such as `youtube`; with `id` it tells videos apart.
        id: the provider's.
        url: the page where people watch it.
        title: on one line, at most `MAX_TITLE_CHARS` characters; empty if unknown.
        author: likewise.
        seconds: how long it is; None if that is unknown, or if it has no end.
        live: whether it is a stream that is on the air.
        mature: whether the provider shows it to adults only.
        thumbnail: the https URL of a picture; empty if there is none.
        views: how often it was watched; 0 if unknown.
    """

    provider: str
    id: str
    url: str
    title: str = ""
    author: str = ""
    seconds: float | None = None
    live: bool = False
    mature: bool = False
    thumbnail: str = ""
    views: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Provider and id, which identify a video."""
        return self.provider, self.id

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return asdict(self)

    @classmethod
    def from_object(cls, source: Object) -> Video:
        """Read what `to_object` wrote, or another program; raises `RaveError` (BadData) if that is no video.

        Texts for people are cut to size; an implausible length counts as unknown.
        """
        provider, video_id = json_fields.get_str(source, "provider"), json_fields.get_str(source, "id")
        if not _PROVIDER.fullmatch(provider) or not _ID.fullmatch(video_id):
            raise RaveError(Code.BAD_DATA, "that is no id of a video")
        views = json_fields.opt_int(source, "views") or 0
        return cls(
            provider=provider,
            id=video_id,
            url=_https(source, "url"),
            title=printable(source.get("title"), MAX_TITLE_CHARS),
            author=printable(source.get("author"), MAX_TITLE_CHARS),
            seconds=_seconds(source),
            live=bool(json_fields.opt_bool(source, "live")),
            mature=bool(json_fields.opt_bool(source, "mature")),
            thumbnail=_https(source, "thumbnail") if source.get("thumbnail") else "",
            views=max(0, views),
        )


def _https(source: Object, key: str) -> str:
    url = json_fields.get_str(source, key)
    if not url.startswith("https://") or len(url) > _MAX_URL_CHARS or not url.isascii() or not url.isprintable():
        raise RaveError(Code.BAD_DATA, f"{key} must be an https URL", key=key)
    return url


def _seconds(source: Object) -> float | None:
    if source.get("seconds") is None:
        return None
    seconds = float(json_fields.get_number(source, "seconds"))
    return seconds if 0 < seconds <= _MAX_LENGTH_S and math.isfinite(seconds) else None
