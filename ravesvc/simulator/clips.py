"""The videos that clients have registered with Rave's server, under ids that the server chooses."""

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
    """One registered video.

    Attributes:
        seconds: how long it really is; None if it has no end.
        metadata: the JSON object with which a client has registered it.
    """

    id: str
    provider: str
    provider_id: str
    title: str
    seconds: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def url(self, server: str) -> str:
        """The URL by which a vote names it."""
        return f"https://{server}/videos/{self.provider}/{self.id}"


class Clips:
    """The registered videos."""

    def __init__(self) -> None:
        self._clips: dict[str, Clip] = {}
        self._ids: dict[tuple[str, str], str] = {}  # by provider and its id

    def register(self, provider: str, metadata: Object) -> Clip:
        """Add a video, or replace the metadata of a known one.

        Raises `RaveError` (BadData) for metadata that no client of Rave sends.
        """
        provider_id, seconds = json_fields.get_str(metadata, "providerId"), _seconds(metadata)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", provider_id):
            raise RaveError(Code.BAD_DATA, "providerId is no id of a video")
        _check(metadata)
        known = CATALOGUE.get(provider_id)
        clip = Clip(
            id=self._ids.setdefault((provider, provider_id), str(uuid.uuid4())),
            provider=provider,
            provider_id=provider_id,
            title=json_fields.opt_str(metadata, "title") or "",
            # A client may not know the length, or be wrong; the video ends all the same.
            seconds=known.seconds if known else seconds,
            metadata=dict(metadata),
        )
        self._clips[clip.id] = clip
        return clip

    def from_catalogue(self, entry: CatalogueEntry, server: str) -> Clip:
        """A video of the catalogue, registered if need be. `server` shows its thumbnail."""
        known = self._ids.get(("youtube", entry.id))
        thumbnail = f"https://{server}/vi/{entry.id}/hqdefault.jpg"
        return self._clips[known] if known else self.register("youtube", entry.metadata(thumbnail))

    def get(self, provider: str, clip_id: str) -> Clip:
        """The video with this id of ours; raises `RaveError` (NotFound)."""
        clip = self._clips.get(clip_id)
        if clip is None or clip.provider != provider:
            raise RaveError(Code.NOT_FOUND, "no such video")
        return clip

    def by_url(self, url: str) -> Clip:
        """The video that a vote names; the host of the URL is ignored. Raises `RaveError` (BadData, NotFound)."""
        parts = urlsplit(url)
        found = _PATH.fullmatch(parts.path)
        if parts.scheme != "https" or found is None:
            raise RaveError(Code.BAD_DATA, "url is not that of a registered video")
        return self.get(found[1], found[2])

    def find(self, text: str, server: str) -> Clip:
        """A video by an id of the catalogue, a link to it, or the URL of a registered one.

        Raises `RaveError` (InvalidArgument, NotFound).
        """
        entry = CATALOGUE.get(text.removeprefix(WATCH_URL))
        if entry is not None:
            return self.from_catalogue(entry, server)
        try:
            return self.by_url(text)
        except RaveError as e:
            hint = f"one of: {', '.join(CATALOGUE)}"
            raise RaveError(Code.INVALID_ARGUMENT, f"no video {text[:80]!r}", hint=hint) from e


def _check(metadata: Object) -> None:
    """Check the fields that all clients send, and that are not used here."""
    for key in ("title", "author", "description", "thumbnail"):
        json_fields.opt_str(metadata, key)
    json_fields.get_bool(metadata, "isLive")
    json_fields.opt_object(metadata, "thumbnails")
    if "thumbnails" not in metadata or "thumbnail" not in metadata:
        raise RaveError(Code.BAD_DATA, "thumbnail and thumbnails are missing")
    if not json_fields.get_str(metadata, "url").startswith("https://"):
        raise RaveError(Code.BAD_DATA, "url is no https URL")
    if type(metadata.get("viewCount")) is not int or metadata["viewCount"] < 0:
        raise RaveError(Code.BAD_DATA, "viewCount is no number of views")
    if metadata.get("maturity") not in _MATURITIES:
        raise RaveError(Code.BAD_DATA, "maturity is neither 'G' nor '18+'")


def _seconds(metadata: Object) -> float | None:
    """The length that a client gives; None for a live video, or one without a length."""
    found = _DURATION.fullmatch(json_fields.get_str(metadata, "duration"))
    if found is None:
        raise RaveError(Code.BAD_DATA, "duration is not written PT0H0M0S")
    hours, minutes, seconds = map(int, found.groups())
    return None if metadata.get("isLive") is True else (hours * 3600 + minutes * 60 + seconds) or None
