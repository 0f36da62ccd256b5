"""Messages as plain data, and their form on the wire, by way of the D-Bus library.

Plain means: variants become their values, arrays of bytes become bytes, an `h` becomes a file descriptor. Before a
message is sent, each value is checked against its type: the bus disconnects the sender of a malformed message.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from ravesvc.bus._dbus_next import dbus_next as _lib
from ravesvc.bus._dbus_next import unmarshaller as _unmarshaller
from ravesvc.bus.header import Header, MessageKind
from ravesvc.bus.transport import MAX_UNSOLICITED_BYTES, close_fds
from ravesvc.common.text import count

_log = logging.getLogger(__name__)

# Flags of a message's header.
NO_REPLY_EXPECTED = 0x1
ALLOW_INTERACTIVE_AUTHORIZATION = 0x4

# The system bus takes no message larger than 32 MiB; ours stay well below what may wait in a transport.
MAX_FRAME_BYTES = 8 * 1024 * 1024

_INTEGERS = {
    "y": range(2**8),
    "n": range(-(2**15), 2**15),
    "q": range(2**16),
    "i": range(-(2**31), 2**31),
    "u": range(2**32),
    "x": range(-(2**63), 2**63),
    "t": range(2**64),
}
# Types whose plain value is not what the library returns.
_CONVERTED = ("v", "h", "ay")


class Variant(NamedTuple):
    """A value for a `v` in what we send, with its signature. What we receive comes unpacked."""

    signature: str
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Message(Header):
    """A message. `fds` are the descriptors in `body` of a received one; its owner closes them by `close_fds`."""

    body: Sequence[Any] = ()
    fds: tuple[int, ...] = ()

    def close_fds(self) -> None:
        """Close the descriptors in the body."""
        close_fds(list(self.fds))


def decode(frame: bytes, fds: list[int]) -> Message | None:
    """The message in a frame, or None if it can't be read, or is a call or signal of more than 64 KiB.

    Owns `fds`; those that the body does not refer to are closed.
    """
    claims = _Claims(fds)
    try:
        if frame[1] in (MessageKind.CALL, MessageKind.SIGNAL) and len(frame) > MAX_UNSOLICITED_BYTES:
            _log.debug("ignored a message of %s", count(len(frame), "byte"))
            return None
        return _decode(frame, claims)
    except Exception as e:  # noqa: BLE001 - what a peer managed to send must not end our connection
        claims.revoke()
        _log.debug("ignored an unreadable message: %s", e)
        return None
    finally:
        close_fds(fds)


def _decode(frame: bytes, claims: _Claims) -> Message:
    raw = _unmarshaller.Unmarshaller(io.BytesIO(frame)).unmarshall()
    body = raw.body
    if any(kind in raw.signature for kind in _CONVERTED):
        body = [_plain(kind, value, claims) for kind, value in zip(_types(raw.signature), body, strict=True)]
    return Message(
        kind=MessageKind(raw.message_type.value),
        serial=raw.serial,
        flags=int(raw.flags),
        reply_serial=raw.reply_serial or 0,
        sender=raw.sender or "",
        destination=raw.destination or "",
        path=raw.path or "",
        interface=raw.interface or "",
        member=raw.member or "",
        error_name=raw.error_name or "",
        signature=raw.signature,
        body=body,
        fds=tuple(claims.claimed),
    )


def encode(message: Message) -> tuple[bytes, list[int]]:
    """The frame of a message, and duplicates of the descriptors in it, to be closed once sent.

    Raises ValueError for a value that does not fit its type, for an invalid name, and for too large a message.
    """
    fds: list[int] = []
    try:
        frame = _encode(message, fds)
    except Exception as e:
        close_fds(fds)
        raise ValueError(f"cannot send {message.member or 'a reply'}: {e}") from e
    if len(frame) > MAX_FRAME_BYTES:
        close_fds(fds)
        raise ValueError(f"cannot send {message.member or 'a reply'}: {len(frame)} bytes are too many")
    return frame, fds


def _encode(message: Message, fds: list[int]) -> bytes:
    kinds = _types(message.signature)
    if len(kinds) != len(message.body):
        raise ValueError(f"{count(len(message.body), 'value')} for the signature {message.signature!r}")
    raw = _lib.Message(
        message_type=_lib.MessageType(message.kind.value),
        serial=message.serial,
        flags=_lib.MessageFlag(message.flags),
        reply_serial=message.reply_serial or None,
        destination=message.destination or None,
        path=message.path or None,
        interface=message.interface or None,
        member=message.member or None,
        error_name=message.error_name or None,
        signature=message.signature,
        body=[_wire(kind, value, fds) for kind, value in zip(kinds, message.body, strict=True)],
        unix_fds=fds,
    )
    return bytes(raw._marshall(True))  # noqa: FBT003 - one library names the parameter, the other does not


def check(signature: str, value: object) -> None:
    """Raise ValueError unless `value` can be sent, again and again, as the one complete type `signature`."""
    fds: list[int] = []
    try:
        (kind,) = _types(signature)
        _wire(kind, value, fds)
    except TypeError as e:
        raise ValueError(str(e)) from e
    finally:
        once = bool(fds)
        close_fds(fds)
    if once:
        raise ValueError("a file descriptor is sent only once")


def default_value(signature: str) -> Any:
    """The value of a property with the one complete type `signature` before it is set: 0, "" or empty."""
    (kind,) = _types(signature)
    return _default_value(kind)


def _default_value(kind: _Type) -> Any:
    if kind.letter == "a":
        return {} if kind.inner[0].letter == "{" else []
    if kind.letter == "(":
        return [_default_value(each) for each in kind.inner]
    return {"b": False, "d": 0.0, "s": "", "g": "", "o": "/"}.get(kind.letter, 0)


def is_object_path(text: str) -> bool:
    """Whether `text` is a valid object path."""
    return bool(_lib.is_object_path_valid(text))


class _Type(NamedTuple):
    """One complete type of a signature, with the types inside it."""

    letter: str
    inner: tuple[_Type, ...]


@lru_cache(maxsize=256)
def _types(signature: str) -> tuple[_Type, ...]:
    return tuple(map(_type, _lib.SignatureTree(signature).types))


def _type(node: Any) -> _Type:
    return _Type(node.token, tuple(map(_type, node.children)))


class _Claims:
    """The descriptors that came with a message, claimed one by one by the `h` in its body."""

    def __init__(self, fds: list[int]) -> None:
        self._unclaimed = fds
        self._by_index = list(fds)
        self.claimed: list[int] = []

    def claim(self, index: int) -> int:
        fd = self._by_index[index]
        if fd in self.claimed:  # the index occurs twice, but each owner will close what it got
            fd = os.dup(fd)
        else:
            self._unclaimed.remove(fd)
        self.claimed.append(fd)
        return fd

    def revoke(self) -> None:
        close_fds(self.claimed)


def _plain(kind: _Type, value: Any, claims: _Claims) -> Any:
    match kind:
        case ("v", _):
            return _plain(_types(value.signature)[0], value.value, claims)
        case ("h", _):
            return claims.claim(value)
        case ("(", inner):
            return [_plain(child, item, claims) for child, item in zip(inner, value, strict=True)]
        case ("a", (("y", _),)):
            return bytes(value)
        case ("a", (("{", (keys, values)),)):
            return {_plain(keys, k, claims): _plain(values, v, claims) for k, v in value.items()}
        case ("a", (child,)):
            return [_plain(child, item, claims) for item in value]
    return value


def _wire(kind: _Type, value: Any, fds: list[int]) -> Any:
    match kind:
        case ("v", _):
            return _wire_variant(value, fds)
        case ("h", _):
            fds.append(os.dup(_integer("i", value)))
            return len(fds) - 1
        case ("(", inner):
            return [_wire(child, item, fds) for child, item in zip(inner, value, strict=True)]
        case ("a", (("y", _),)):
            return bytes(_typed(bytes, value))
        case ("a", (("{", (keys, values)),)):
            return {_wire(keys, k, fds): _wire(values, v, fds) for k, v in _typed(dict, value).items()}
        case ("a", (child,)):
            return [_wire(child, item, fds) for item in _list(value)]
    return _wire_basic(kind.letter, value)


def _wire_variant(value: Any, fds: list[int]) -> Any:
    variant = _typed(Variant, value)
    (kind,) = _types(variant.signature)
    return _lib.Variant(variant.signature, _wire(kind, variant.value, fds))


def _wire_basic(letter: str, value: Any) -> Any:
    if letter in _INTEGERS:
        return _integer(letter, value)
    if letter == "b":
        return _typed(bool, value)
    if letter == "d":
        return float(value)
    return _text(letter, _typed(str, value))


def _typed(wanted: type, value: Any) -> Any:
    if not isinstance(value, wanted):
        raise TypeError(f"{wanted.__name__} is needed, not {type(value).__name__}")
    return value


def _list(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"a list is needed, not {type(value).__name__}")
    return value


def _integer(letter: str, value: Any) -> int:
    # A plain int: `in` compares any other type, such as an IntEnum, with the elements of a range one by one.
    number = int(_typed(int, value))
    if number not in _INTEGERS[letter] or isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]} is out of the range of {letter!r}")
    return number


def _text(letter: str, value: str) -> str:
    if letter == "o" and not is_object_path(value):
        raise ValueError(f"{value[:80]!r} is no object path")
    if letter == "g":
        _types(value)
    # D-Bus forbids NUL and lone surrogates. JSON allows both, and names of users and titles come through JSON.
    if "\0" in value or not _is_utf8(value):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", "\ufffd")
    return str(value)


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
