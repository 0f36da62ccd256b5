"""A line, and maybe a descriptor, over a Unix stream socket that does not block."""

from __future__ import annotations

import array
import asyncio
import os
import select
import socket
import struct

from ravesvc.errors import Code, RaveError

# Room for one descriptor; the kernel closes what does not fit.
_ANCILLARY = socket.CMSG_SPACE(array.array("i").itemsize)
_CHUNK_BYTES = 16 << 10


async def receive(sock: socket.socket, max_bytes: int) -> tuple[bytes, int | None]:
    """A line of at most `max_bytes` bytes, and the descriptor that came with it, which is the caller's to close.

    Raises `RaveError`: Closed when the other side is gone before its end, BadData for a longer one. OSError.
    """
    line = bytearray()
    received: list[int] = []
    try:
        while not line.endswith(b"\n"):
            data = await _receive_some(sock, received)
            if not data:
                raise RaveError(Code.CLOSED, "the other side has closed the connection")
            line += data
            if len(line) > max_bytes or len(received) > 1:
                raise RaveError(Code.BAD_DATA, "the other side says too much")
        return bytes(line), received.pop() if received else None
    finally:
        while received:
            os.close(received.pop())


async def send(sock: socket.socket, line: bytes, descriptor: int | None = None) -> None:
    """Send a line, and a descriptor, which remains the caller's, with its first bytes. Raises OSError."""
    if descriptor is not None:
        # A socket that nothing was sent to yet has room.
        sent = socket.send_fds(sock, [line], [descriptor])
        line = line[sent:]
    await asyncio.get_running_loop().sock_sendall(sock, line)


def peer_user(sock: socket.socket) -> int:
    """The id of the user whose process has connected."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed the connection: it reads nothing any more."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


async def _receive_some(sock: socket.socket, received: list[int]) -> bytes:
    """Some bytes, none at the end; descriptors that came with them are added to `received`."""
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(_CHUNK_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            await _readable(sock)
            continue
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i")
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
                received.extend(descriptors)
        return data


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)
