"""What searches in a room have found: by the number that was shown, and by the message that showed it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from ravesvc.bot.queue import Showing, shows
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.video import Video
from ravesvc.errors import RaveError

_MAX_HITS = 30
_MAX_DOCUMENT_BYTES = 32 * 1024
_MAX_IDS = 4
_MAX_ID_CHARS = 128


class Hit(NamedTuple):
    """One video that was found.

    Attributes:
        number: as it was shown, from 1 on.
        message_ids: those of the message that showed it; none until it is sent.
    """

    video: Video
    number: int
    message_ids: frozenset[str] = frozenset()

    def to_object(self) -> dict[str, object]:
        """JSON for `from_object`."""
        return {"video": self.video.to_object(), "number": self.number, "message_ids": sorted(self.message_ids)}

    @classmethod
    def from_object(cls, source: Object) -> Hit:
        """Read what `to_object` wrote; raises `RaveError` (BadData)."""
        ids = json_fields.get_list(source, "message_ids")[:_MAX_IDS]
        return cls(
            video=Video.from_object(json_fields.get_object(source, "video")),
            number=json_fields.get_int(source, "number"),
            message_ids=frozenset(each for each in ids if isinstance(each, str) and 0 < len(each) <= _MAX_ID_CHARS),
        )


class Hits(NamedTuple):
    """The latest of them, the newest last. Those of the last search are the last ones, numbered from 1 on."""

    all: tuple[Hit, ...] = ()

    def add(self, found: Sequence[Hit]) -> Hits:
        """With what another search has found; the oldest give way."""
        hits = Hits((*self.all, *found)[-_MAX_HITS:])
        while hits.all and len(hits.to_json().encode()) > _MAX_DOCUMENT_BYTES:
            hits = Hits(hits.all[1:])
        return hits

    def shown(self, hit: Hit, message_ids: frozenset[str]) -> Hits:
        """With the ids of the message that shows one of them."""
        return Hits(tuple(each._replace(message_ids=message_ids) if each is hit else each for each in self.all))

    def by_number(self, number: int) -> Video | None:
        """The one that the last search has shown under that number."""
        for hit in reversed(self.all):
            if hit.number == number:
                return hit.video
            if hit.number == 1:
                break
        return None

    def by_message(self, message_ids: Iterable[str]) -> Video | None:
        """The one that the message showed which has one of these ids."""
        wanted = frozenset(message_ids)
        return next((hit.video for hit in reversed(self.all) if hit.message_ids & wanted), None)

    def by_showing(self, showing: Showing) -> Video | None:
        """The one that a room shows."""
        return next((hit.video for hit in reversed(self.all) if shows(showing, hit.video)), None)

    def to_json(self) -> str:
        """The document that `from_json` reads."""
        hits = [hit.to_object() for hit in self.all]
        return json.dumps({"version": 1, "hits": hits}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Hits:
        """Read what `to_json` wrote without what is damaged; raises `RaveError` (BadData) for no such document."""
        source = json_fields.parse_object(text[: 2 * _MAX_DOCUMENT_BYTES], "the hits of searches")
        entries = source.get("hits")
        found: list[Hit] = []
        for entry in entries[-_MAX_HITS:] if isinstance(entries, list) else ():
            with suppress(RaveError):
                found.append(Hit.from_object(json_fields.as_object(entry, "a hit")))
        return cls(tuple(found))
