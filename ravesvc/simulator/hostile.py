"""What a hostile server sends: answers that are no proper HTTP or never end, and frames without a break."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio

# While so many bytes wait for a client that does not read them, nothing is written.
_MAX_UNREAD_BYTES = 1 << 20
_PAUSE_S = 0.01


class Stream(NamedTuple):
    """The bytes `first`, then those of `repeated` without an end, if there are any, with a pause between."""

    first: bytes
    repeated: bytes = b""
    pause_s: float = 0.0


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

ANSWERS: Mapping[str, Stream] = {
    "negative-chunk": Stream(_HEAD + b"-1\r\n" + b"x" * 1000),
    "no-end": Stream(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "trickle": Stream(_HEAD + b"fffff\r\n", b" ", 0.1),
}


# All requests of a flood have this id. The clients' answers to them are no mistake.
FLOOD_REQUEST_ID = 9_999_999


def _text(**frame: object) -> bytes:
    content = json.dumps(frame).encode()
    assert len(content) < 126, "the length has one byte"
    return bytes([0x81, len(content)]) + content


FLOODS: Mapping[str, Stream] = {
    "pings": Stream(b"", b"\x89\x00" * 50_000),
    "requests": Stream(b"", _text(request=True, id=FLOOD_REQUEST_ID, method="x", data={}) * 1000),
    "chat": Stream(b"", _text(notification=True, method="chatMessage", data={"from": "5_d", "id": "m"}) * 1000),
    # A message in pieces that are empty, and of which none is the last.
    "pieces": Stream(b"\x01\x00", b"\x00\x00" * 50_000),
}


async def write_stream(transport: asyncio.Transport, stream: Stream) -> None:
    """Write a stream; return at its end, or when the connection has ended."""
    # Imported here because the command line, which knows the names above, needs no event loop.
    import asyncio

    transport.write(stream.first)
    while stream.repeated and not transport.is_closing():
        if transport.get_write_buffer_size() < _MAX_UNREAD_BYTES:
            transport.write(stream.repeated)
        await asyncio.sleep(stream.pause_s or _PAUSE_S)
