"""The protocol of service and helper: one request and one answer on a connection, a line of JSON each.

The answer to a request for a picture comes with a descriptor. Each side checks what the other sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ravesvc.common import json_fields
from ravesvc.common.text import printable
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media.links import MAX_LINK_CHARS
from ravesvc.media.video_list import videos_in

MAX_REQUEST_BYTES = 16 << 10
MAX_ANSWER_BYTES = 64 << 10
MAX_PICTURE_BYTES = 2 << 20
_MAX_SENTENCE_CHARS = 300
_INCIDENT = re.compile(r"[0-9a-f]{8}")


class Ask(StrEnum):
    """What can be asked for."""

    SEARCH = "search"
    LOOK_UP = "look_up"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRequest:
    """`text` are the words of a search, the link of a look-up, or provider/id of a picture."""

    ask: Ask
    text: str

    def to_bytes(self) -> bytes:
        """A line for `from_bytes`."""
        return json.dumps({"ask": self.ask, "text": self.text}).encode() + b"\n"

    @classmethod
    def from_bytes(cls, line: bytes) -> MediaRequest:
        """Read a line; raises `RaveError` (BadData, InvalidArgument)."""
        source = json_fields.parse_object(line, "the request")
        text = json_fields.get_str(source, "text")
        try:
            ask = Ask(json_fields.get_str(source, "ask"))
        except ValueError:
            raise RaveError(Code.INVALID_ARGUMENT, "there is no such request") from None
        if len(text) > MAX_LINK_CHARS:
            raise RaveError(Code.INVALID_ARGUMENT, _("that is too long"))
        return cls(ask=ask, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaReply:
    """Videos, or the size of the picture whose descriptor comes along."""

    videos: Sequence[Video] = ()
    picture_bytes: int | None = None

    def to_bytes(self) -> bytes:
        """A line for `read_answer`."""
        videos = [video.to_object() for video in self.videos]
        return json.dumps({"videos": videos, "picture_bytes": self.picture_bytes}).encode() + b"\n"


def error_line(error: RaveError) -> bytes:
    """A failure, as a line for `read_answer`."""
    content = {
        "code": error.code,
        "message": error.message[:_MAX_SENTENCE_CHARS],
        "hint": error.hint[:_MAX_SENTENCE_CHARS],
        "incident": error.incident,
    }
    return json.dumps({"error": content}).encode() + b"\n"


def read_answer(line: bytes) -> MediaReply | RaveError:
    """The answer in a line, or the failure that it reports; raises `RaveError` (BadData) for what is neither."""
    source = json_fields.parse_object(line, "the answer")
    if error := json_fields.opt_object(source, "error"):
        return _reported(error)
    size = json_fields.opt_int(source, "picture_bytes")
    if size is not None and not 0 < size <= MAX_PICTURE_BYTES:
        raise RaveError(Code.BAD_DATA, "that is no size of a picture")
    return MediaReply(videos=videos_in(source), picture_bytes=size)


def _reported(error: json_fields.Object) -> RaveError:
    try:
        code = Code(json_fields.get_str(error, "code"))
    except ValueError:
        raise RaveError(Code.BAD_DATA, "the answer has an unknown error") from None
    message = printable(error.get("message"), _MAX_SENTENCE_CHARS) or "that has failed"
    hint, incident = printable(error.get("hint"), _MAX_SENTENCE_CHARS), str(error.get("incident", ""))
    # It becomes a part of a D-Bus name.
    if not _INCIDENT.fullmatch(incident):
        return RaveError(code, message, hint=hint)
    return RaveError(code, message, hint=hint, incident=incident)
