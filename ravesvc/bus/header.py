"""What a message says of itself before its body: kind, sender, whom and what it asks for, the types in its body.

A sender that the bus admits may send 64 kB, and to unpack that takes up to a tenth of a second. So all that can be
decided by the header is decided before: it takes some tens of microseconds to read, whatever it holds.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

_log = logging.getLogger(__name__)

# Where the fields begin, and the version of the protocol.
_FIELDS = 16
_VERSION = 1
# Code to name and type, of the fields that mean something to us.
_KNOWN = {
    1: ("path", ord("o")),
    2: ("interface", ord("s")),
    3: ("member", ord("s")),
    4: ("error_name", ord("s")),
    5: ("reply_serial", ord("u")),
    6: ("destination", ord("s")),
    7: ("sender", ord("s")),
    8: ("signature", ord("g")),
}
_SIGNATURE, _NUMBER = ord("g"), ord("u")
# Types of values that begin with a number: themselves, or their length.
_NUMBERED = frozenset(b"osu")
# Fields of which more is not remembered; the bus takes megabytes.
_MAX_REMEMBERED_BYTES = 512
_LITTLE, _BIG = struct.Struct("<I"), struct.Struct(">I")


class MessageKind(IntEnum):
    """The message types."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A message without its body; what it does not have is 0 or empty."""

    kind: MessageKind
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
    number = _LITTLE if frame[0] == ord("l") else _BIG
    try:
        kind = MessageKind(frame[1])
        serial, size = number.unpack_from(frame, 8)[0], number.unpack_from(frame, _FIELDS - 4)[0]
        # To a call without a number there is no reply.
        if frame[3] != _VERSION or not serial:
            raise ValueError(f"version {frame[3]}, number {serial}")  # noqa: TRY301
        read = _read_again if size <= _MAX_REMEMBERED_BYTES else _read_fields
        fields = read(frame[_FIELDS : _FIELDS + size], number)
        return Header(kind=kind, serial=serial, flags=frame[2], **fields)  # type: ignore[arg-type]
    except (IndexError, struct.error, ValueError) as e:
        _log.debug("ignored a message with an unreadable header: %s", e)
        return None


def _read_fields(raw: bytes, number: struct.Struct) -> dict[str, str | int]:
    """Those of the fields that mean something to us, by name.

    ValueError for one that occurs twice: so there are not many, and all see the same.
    """
    at, end = 0, len(raw)
    seen: set[int] = set()
    fields: dict[str, str | int] = {}
    while at < end:
        # Each field is a code, a signature of one basic type, and the value, from a multiple of 8 on.
        at = at + 7 & ~7
        code, kind = raw[at], raw[at + 2]
        name, expected = _KNOWN.get(code, ("", kind))
        if code in seen or kind != expected:
            raise ValueError(f"field {code} occurs twice, or has the type {chr(kind)!r}")
        seen.add(code)
        value, at = _read_value(raw, number, kind, at + 4)
        if name:
            fields[name] = value
    if at > end:
        raise ValueError("a field goes beyond the header")
    return fields


# Who sends much sends the same: only the serial number, which is no field, and what is in the body differ.
_read_again = lru_cache(maxsize=256)(_read_fields)


def _read_value(raw: bytes, number: struct.Struct, kind: int, at: int) -> tuple[str | int, int]:
    """A value of a basic type at a place, and where it ends."""
    if kind == _SIGNATURE:
        start, size = at + 1, raw[at]
    elif kind in _NUMBERED:
        (size,) = number.unpack_from(raw, at)
        start = at + 4
        if kind == _NUMBER:
            return int(size), start
    else:
        raise ValueError(f"a field has the type {chr(kind)!r}")
    end = start + size
    return raw[start:end].decode(), end + 1
