"""The header of a message: kind, sender, destination, path, interface, member, and the types in the body.

A sender that the bus admits may send 64 kB, and to decode a body of that size takes up to a tenth of a second. The
header takes some tens of microseconds to read, in the worst case too. So a message is judged by its header first.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

_log = logging.getLogger(__name__)

# Where the fields begin, and the version of the protocol.
_FIELDS_OFFSET = 16
_VERSION = 1
# Code to name and type, of the fields that we use.
_KNOWN_FIELDS = {
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
# Types of values that begin with a number of 4 bytes: the value itself, or its length.
_NUMBER_FIRST = frozenset(b"osu")
# Longer headers are not cached; the bus accepts headers of megabytes.
_MAX_CACHED_BYTES = 512
_LITTLE, _BIG = struct.Struct("<I"), struct.Struct(">I")


class MessageKind(IntEnum):
    """The message types."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """A message without its body; a field that the message lacks is 0 or empty."""

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
        serial, size = number.unpack_from(frame, 8)[0], number.unpack_from(frame, _FIELDS_OFFSET - 4)[0]
        # A call without a serial number can't be replied to.
        if frame[3] != _VERSION or not serial:
            raise ValueError(f"version {frame[3]}, number {serial}")  # noqa: TRY301
        read = _read_fields_cached if size <= _MAX_CACHED_BYTES else _read_fields
        fields = read(frame[_FIELDS_OFFSET : _FIELDS_OFFSET + size], number)
        return Header(kind=kind, serial=serial, flags=frame[2], **fields)  # type: ignore[arg-type]
    except (IndexError, struct.error, ValueError) as e:
        _log.debug("ignored a message with an unreadable header: %s", e)
        return None


def _read_fields(raw: bytes, number: struct.Struct) -> dict[str, str | int]:
    """The fields that we use, by name.

    ValueError for a field that occurs twice: so their number is bounded, and every reader sees the same value.
    """
    at, end = 0, len(raw)
    seen: set[int] = set()
    fields: dict[str, str | int] = {}
    while at < end:
        # Each field is a code, a signature of one basic type, and the value, from a multiple of 8 on.
        at = at + 7 & ~7
        code, kind = raw[at], raw[at + 2]
        name, expected = _KNOWN_FIELDS.get(code, ("", kind))
        if code in seen or kind != expected:
            raise ValueError(f"field {code} occurs twice, or has the type {chr(kind)!r}")
        seen.add(code)
        value, at = _read_value(raw, number, kind, at + 4)
        if name:
            fields[name] = value
    if at > end:
        raise ValueError("a field goes beyond the header")
    return fields


# Messages of a busy sender have the same fields: only the body differs, and the serial number, which is no field.
_read_fields_cached = lru_cache(maxsize=256)(_read_fields)


def _read_value(raw: bytes, number: struct.Struct, kind: int, at: int) -> tuple[str | int, int]:
    """A value of a basic type at a place, and where it ends."""
    if kind == _SIGNATURE:
        start, size = at + 1, raw[at]
    elif kind in _NUMBER_FIRST:
        (size,) = number.unpack_from(raw, at)
        start = at + 4
        if kind == _NUMBER:
            return int(size), start
    else:
        raise ValueError(f"a field has the type {chr(kind)!r}")
    end = start + size
    return raw[start:end].decode(), end + 1
