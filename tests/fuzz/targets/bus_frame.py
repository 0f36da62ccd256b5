"""A frame of the message bus, as any process of the machine may send one."""

from __future__ import annotations

from ravesvc.bus.header import read_header
from ravesvc.bus.message import decode
from ravesvc.errors import Code, RaveError

# The transport hands over no shorter one, and takes the length from the header.
_HEADER_BYTES = 16
# What is decided by the header must not turn out to be something else once the body is decoded.
_DECIDING = ("kind", "serial", "reply_serial", "sender", "destination", "path", "interface", "member", "signature")


def check(data: bytes) -> None:
    """Whatever a header says, the message says as well, and nothing stays open of it."""
    if len(data) < _HEADER_BYTES:
        raise RaveError(Code.BAD_DATA, "no frame")
    header = read_header(data)
    if header is None:
        raise RaveError(Code.BAD_DATA, "unreadable header")
    message = decode(data, [])
    if message is None:
        raise RaveError(Code.BAD_DATA, "unreadable")
    assert not message.fds
    for name in _DECIDING:
        assert getattr(message, name) == getattr(header, name), name
