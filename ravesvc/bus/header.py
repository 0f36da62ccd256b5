"""What a message says of itself before its body: kind, sender, whom and what it asks for, the types in its body.

Whoever may send to us may send 64 kB, and to unpack that takes up to a tenth of a second. So all that can be decided
by the header is decided before: it takes some tens of microseconds to read, whatever it holds.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from enum import IntEnum

_log = logging.getLogger(__name__)

# Where the fields begin, and the version of the protocol.
_FIELDS = 16
_VERSION = 1
# Code to name and type, of the fields that mean something to us.
_KNOWN = {
    1: ("path", "o"),
    2: ("interface", "s"),
    3: ("member", "s"),
    4: ("error_name", "s"),
    5: ("reply_serial", "u"),
    6: ("destination", "s"),
    7: ("sender", "s"),
    8: ("signature", "g"),
}


class Kind(IntEnum):
    """The message types."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A message without its body; what it does not have is 0 or empty."""

    kind: Kind
    serial: int = 0
    flags: int = 0
    reply_serial: int = 0
    sender: str = ""
    destination: str = ""
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    signature: str = ""


def read_header(frame: bytes) -> Header | None:
    """The header of a frame of at least 16 bytes, or None when it can't be read; decodes nothing of the body."""
    order = "<" if frame[0] == ord("l") else ">"
    try:
        (serial,) = struct.unpack_from(f"{order}I", frame, 8)
        fields = _read_fields(frame, order)
        known = {name: fields[code] for code, (name, _) in _KNOWN.items() if code in fields}
        return Header(kind=Kind(frame[1]), serial=serial, flags=frame[2], **known)  # type: ignore[arg-type]
    except (IndexError, struct.error, ValueError) as e:
        _log.debug("ignored a message with an unreadable header: %s", e)
        return None


def _read_fields(frame: bytes, order: str) -> dict[int, str | int]:
    """The fields by code. ValueError for one that occurs twice: so there are not many, and all see the same."""
    if frame[3] != _VERSION:
        raise ValueError(f"version {frame[3]}")
    (size,) = struct.unpack_from(f"{order}I", frame, _FIELDS - 4)
    at, end = _FIELDS, _FIELDS + size
    fields: dict[int, str | int] = {}
    while at < end:
        # Each field is a code, a signature of one basic type, and the value, from a multiple of 8 on.
        at = at + 7 & ~7
        code, kind = frame[at], chr(frame[at + 2])
        if code in fields or (code in _KNOWN and _KNOWN[code][1] != kind):
            raise ValueError(f"field {code} occurs twice, or has the type {kind!r}")
        fields[code], at = _read_value(frame, order, kind, at + 4)
    if at > end:
        raise ValueError("a field goes beyond the header")
    return fields


def _read_value(frame: bytes, order: str, kind: str, at: int) -> tuple[str | int, int]:
    """A value of a basic type at a place, and where it ends."""
    if kind == "g":
        start, size = at + 1, frame[at]
    elif kind in "osu":
        (number,) = struct.unpack_from(f"{order}I", frame, at)
        if kind == "u":
            return int(number), at + 4
        start, size = at + 4, number
    else:
        raise ValueError(f"a field has the type {kind!r}")
    return str(frame[start : start + size], "utf-8"), start + size + 1
