"""Videos as Rave's own server knows them: registered by clients, under ids of its own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.catalogue import CATALOGUE, WATCH_URL, CatalogueEntry

_DURATION = re.compile(r"PT([0-9]{1,5})H([0-9]{1,5})M([0-9]{1,5})S")
_PATH = re.compile(r"/videos/([a-z0-9]{1,32})/([0-9a-f-]{36})")
_MATURITIES = (None, "G", "18+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One registered video. `said` is what clients say of it, `seconds` how long it really is; None: without end."""

    id: str
    provider: str
    provider_id: str
    title: str
    seconds: float | None = None
    said: Mapping[str, Any] = field(default_factory=dict)

    def url(self, server: str) -> str:
        """What a vote for it names."""
        return f"https://{server}/videos/{self.provider}/{self.id}"


class Clips:
    """The registered videos."""

    def __init__(self) -> None:
        self._clips: dict[str, Clip] = {}
        self._ids: dict[tuple[str, str], str] = {}  # by provider and its id

    def register(self, provider: str, said: Object) -> Clip:
        """Add a video, or take over what is said of one that is known.

        Raises `RaveError` (BadData) for what clients of Rave never send.
        """
        provider_id, seconds = json_fields.get_str(said, "providerId"), _seconds(said)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", provider_id):
            raise RaveError(Code.BAD_DATA, "providerId is no id of a video")
        _check(said)
        known = CATALOGUE.get(provider_id)
        clip = Clip(
            id=self._ids.setdefault((provider, provider_id), str(uuid.uuid4())),
            provider=provider,
            provider_id=provider_id,
            title=json_fields.opt_str(said, "title") or "",
            # A client may not know the length, or be wrong; the video ends all the same.
            seconds=known.seconds if known else seconds,
            said=dict(said),
        )
        self._clips[clip.id] = clip
        return clip

    def stock(self, entry: CatalogueEntry, server: str) -> Clip:
        """A video of the catalogue, registered if need be. `server` shows its thumbnail."""
        known = self._ids.get(("youtube", entry.id))
        thumbnail = f"https://{server}/vi/{entry.id}/hqdefault.jpg"
        return self._clips[known] if known else self.register("youtube", entry.said(thumbnail))

    def get(self, provider: str, clip_id: str) -> Clip:
        """The video with this id of ours; raises `RaveError` (NotFound)."""
        clip = self._clips.get(clip_id)
        if clip is None or clip.provider != provider:
            raise RaveError(Code.NOT_FOUND, "no such video")
        return clip

    def at(self, url: str) -> Clip:
        """The video that a vote names, whatever host stands in the URL; raises `RaveError` (BadData, NotFound)."""
        parts = urlsplit(url)
        found = _PATH.fullmatch(parts.path)
        if parts.scheme != "https" or found is None:
            raise RaveError(Code.BAD_DATA, "url is not that of a registered video")
        return self.get(found[1], found[2])

    def named(self, text: str, server: str) -> Clip:
        """What people may call a video: an id of the catalogue, a link to it, or the URL of a registered one.

        Raises `RaveError` (InvalidArgument, NotFound).
        """
        entry = CATALOGUE.get(text.removeprefix(WATCH_URL))
        if entry is not None:
            return self.stock(entry, server)
        try:
            return self.at(text)
        except RaveError as e:
            hint = f"one of: {', '.join(CATALOGUE)}"
            raise RaveError(Code.INVALID_ARGUMENT, f"no video {text[:80]!r}", hint=hint) from e


def _check(said: Object) -> None:
    """The rest of what all clients send."""
    for key in ("title", "author", "description", "thumbnail"):
        json_fields.opt_str(said, key)
    json_fields.get_bool(said, "isLive")
    json_fields.opt_object(said, "thumbnails")
    if "thumbnails" not in said or "thumbnail" not in said:
        raise RaveError(Code.BAD_DATA, "thumbnail and thumbnails are missing")
    if not json_fields.get_str(said, "url").startswith("https://"):
        raise RaveError(Code.BAD_DATA, "url is no https URL")
    if type(said.get("viewCount")) is not int or said["viewCount"] < 0:
        raise RaveError(Code.BAD_DATA, "viewCount is no number of views")
    if said.get("maturity") not in _MATURITIES:
        raise RaveError(Code.BAD_DATA, "maturity is neither 'G' nor '18+'")


def _seconds(said: Object) -> float | None:
    """The length that a client names; None for a video that is on the air, or of no length."""
    found = _DURATION.fullmatch(json_fields.get_str(said, "duration"))
    if found is None:
        raise RaveError(Code.BAD_DATA, "duration is not written PT0H0M0S")
    hours, minutes, seconds = map(int, found.groups())
    return None if said.get("isLive") is True else (hours * 3600 + minutes * 60 + seconds) or None
