"""A frame of the message bus, as any process of the machine may send one."""

from __future__ import annotations

import asyncio
import dataclasses
import struct

from ravesvc.bus import Bus, Call, Interface, allow_all, method
from ravesvc.bus.header import MessageKind, read_header
from ravesvc.bus.message import Message, decode, encode
from ravesvc.bus.transport import MAX_UNSOLICITED_BYTES
from ravesvc.errors import Code, RaveError

# The transport hands over no shorter one, and takes the length from the header.
_HEADER_BYTES = 16
# Nor a longer beginning of a large frame.
_MAX_HEADER = 16 << 10
# What is decided by the header must not turn out to be something else once the body is decoded.
_DECIDING = ("kind", "serial", "reply_serial", "sender", "destination", "path", "interface", "member", "signature")


# An entry of the corpus that stands for a call with a path of so many bytes, which no entry could hold.
_LONG_PATH = b"P"
_MAX_PATH_BYTES = 10 << 20
# What an error may cost us, however large the call.
_MAX_ERROR_BYTES = 4096


class _Thing(Interface):
    interface = "org.example.Thing1"

    @method(takes={"text": "s"}, returns={"said": "s"})
    async def say(self, call: Call, text: str) -> str:
        return text


class _Service(Bus):
    """A connection without a socket: what it answers is encoded, and dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.export("/thing", _Thing(allow_all))

    async def serve(self, frame: bytes) -> None:
        """Do all that a call may ask for; raises what the connection would have to survive."""
        if len(frame) > MAX_UNSOLICITED_BYTES:
            self._on_large(frame[:_MAX_HEADER], len(frame))
        else:
            self._dispatch(frame, [])
        await asyncio.gather(*self._serving)

    def _send(self, message: Message) -> None:
        # The bus has put in who it was.
        frame, _ = encode(dataclasses.replace(message, destination=":1.7"))
        assert message.kind is not MessageKind.ERROR or len(frame) <= _MAX_ERROR_BYTES, len(frame)


def check(data: bytes) -> None:
    """Whatever a header says, the message says as well, and nothing stays open of it. Its sender gets an answer."""
    frame = _with_long_path(data) if data[:1] == _LONG_PATH else data
    if len(frame) < _HEADER_BYTES:
        raise RaveError(Code.BAD_DATA, "no frame")
    asyncio.run(_serve(frame))
    _compare(frame)


async def _serve(frame: bytes) -> None:
    await _Service().serve(frame)


def _with_long_path(data: bytes) -> bytes:
    """The call that an entry of `_LONG_PATH` and a number stands for."""
    size = min(int.from_bytes(data[1:5], "little"), _MAX_PATH_BYTES)
    path = struct.pack("<BBBBI", 1, 1, ord("o"), 0, size) + (b"/" + b"x" * size)[:size] + b"\0"
    fields = path.ljust(len(path) + 7 & ~7, b"\0") + struct.pack("<BBBBI4s", 3, 1, ord("s"), 0, 3, b"Say")
    return struct.pack("<4sIII", b"l\1\0\1", 0, 7, len(fields)) + fields.ljust(len(fields) + 7 & ~7, b"\0")


def _compare(data: bytes) -> None:
    header = read_header(data)
    if header is None:
        raise RaveError(Code.BAD_DATA, "unreadable header")
    message = decode(data, [])
    if message is None:
        raise RaveError(Code.BAD_DATA, "unreadable")
    assert not message.fds
    for name in _DECIDING:
        assert getattr(message, name) == getattr(header, name), name
