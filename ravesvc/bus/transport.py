"""Bytes to and from a message bus: the socket, the authentication, frames with their file descriptors.

The D-Bus library's own connection is not used: README.md in this directory says why. Nothing here knows what is in a
frame but its size, and where its body begins.

A sender that the bus admits may send frames of 32 MB. So as soon as the header of a large frame has arrived,
`on_large` decides whether the rest is read. If not, the rest is discarded as it arrives.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import unquote

from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_MAX_QUEUED_BYTES = 16 * 1024 * 1024
# Both by the D-Bus specification: the first 16 bytes of a frame give its size, which is at most 128 MiB.
_FIXED_HEADER_BYTES = 16
_MAX_FRAME_BYTES = 128 * 1024 * 1024
# Larger calls and signals are not read: to decode a MB takes 0.6 s and 30 MB of memory.
MAX_UNSOLICITED_BYTES = 64 * 1024
# The bus adds the field SENDER to what we send: 8 bytes, a name of at most 255, and padding to a multiple of 8.
SENDER_BYTES = 512
MAX_SENT_BYTES = MAX_UNSOLICITED_BYTES - SENDER_BYTES
# The header of a large frame. Names have at most 255 bytes; a path may be longer, but none of ours is.
_MAX_HEADER_BYTES = 16 * 1024
# The kernel passes at most 253 descriptors with one message (SCM_MAX_FD).
_ANCILLARY_BYTES = socket.CMSG_SPACE(253 * array.array("i").itemsize)
# One read, so that many small frames cost one system call; and how long to read before the loop runs other things.
_CHUNK_BYTES = 64 * 1024
_READ_SLICE_S = 0.005
# With this much waiting to be written nothing more is read: a caller that does not read its answers has to wait.
_MAX_UNWRITTEN_BYTES = 1024 * 1024
_BACKLOG_RETRY_S = 0.05
# What the kernel buffers of ours before the bus reads it: an urgent message waits behind that.
_SEND_BUFFER_BYTES = 8 * 1024


def system_address() -> str:
    """The address of the system bus."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS


async def open_socket(address: str) -> socket.socket:
    """A socket to the bus at `address` (`unix:` addresses, the first that works of several), authenticated.

    Raises `RaveError` (Bus); the caller bounds the time.
    """
    failure = RaveError(Code.BUS, f"{address!r} names no unix socket")
    for name in _socket_names(address):
        try:
            sock = await _connect(name)
        except OSError as e:
            failure = RaveError(Code.BUS, f"cannot reach the bus at {address}: {e.strerror or e}")
            continue
        try:
            await _authenticate(sock)
        except OSError as e:
            sock.close()
            raise RaveError(Code.BUS, f"lost the bus during authentication: {e.strerror or e}") from e
        except BaseException:
            sock.close()
            raise
        return sock
    raise failure


def _socket_names(address: str) -> list[str]:
    names = []
    for entry in address.split(";"):
        kind, _, rest = entry.partition(":")
        options = dict(option.partition("=")[::2] for option in rest.split(","))
        if kind == "unix" and "path" in options:
            names.append(unquote(options["path"]))
        elif kind == "unix" and "abstract" in options:
            names.append("\0" + unquote(options["abstract"]))
    return names


async def _connect(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's
    try:
        while True:
            try:
                sock.connect(name)
            except BlockingIOError:
                # The listener's backlog is full; a unix socket can't wait for that in poll(2), as loop.sock_connect
                # believes.
                await asyncio.sleep(_BACKLOG_RETRY_S)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _authenticate(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    uid = str(os.geteuid()).encode().hex().encode()
    for request, wanted in ((b"\0AUTH EXTERNAL " + uid, b"OK"), (b"NEGOTIATE_UNIX_FD", b"AGREE_UNIX_FD")):
        await loop.sock_sendall(sock, request + b"\r\n")
        answer = await _read_line(sock)
        if answer.split(b" ")[0] != wanted:
            raise RaveError(Code.BUS, f"the bus refused the authentication with {answer[:80]!r}")
    await loop.sock_sendall(sock, b"BEGIN\r\n")


async def _read_line(sock: socket.socket) -> bytes:
    """One line of the authentication; the bus sends nothing more before we answer."""
    line = b""
    while not line.endswith(b"\r\n"):
        chunk = await asyncio.get_running_loop().sock_recv(sock, 512)
        if not chunk or len(line) > 4096:
            raise RaveError(Code.BUS, "the bus ended the connection during authentication")
        line += chunk
    return line[:-2]


def close_fds(fds: list[int]) -> None:
    """Close all of `fds` and empty the list."""
    while fds:
        os.close(fds.pop())


class FrameTransport:
    """Frames in, frames out, over an authenticated socket that it owns.

    `on_frame(frame, fds)` gets each frame, owns its descriptors and raises nothing. For a frame of more than
    `MAX_UNSOLICITED_BYTES`, `on_large(header, size)` first gets all but the body, and the size of the whole in bytes;
    if it returns False the frame is discarded. `on_lost(reason)` is called once, never from within `send`, unless
    `close` came first.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[bytes, list[int]], None],
        on_large: Callable[[bytes, int], bool],
        on_lost: Callable[[str], None],
    ) -> None:
        self._sock = sock
        self._on_frame = on_frame
        self._on_large = on_large
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()  # the beginning of a frame, and its descriptors
        self._received: list[int] = []
        self._is_wanted = False  # whether the reader has been asked about that frame, and wants it
        self._unwanted_bytes = 0  # bytes to come of a frame that is thrown away
        self._frames: deque[tuple[bytes, list[int]]] = deque()  # whole ones, not handed on yet
        self._queue: deque[tuple[memoryview, list[int]]] = deque()
        self._queued = 0
        self._paused = False
        self._resume_scheduled = False
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._loop.add_reader(sock, self._readable)

    def send(self, frame: bytes, fds: list[int]) -> None:
        """Queue a frame, with descriptors that are closed once sent.

        A bus that reads nothing until 16 MiB wait for it counts as lost.
        """
        if self.closed:
            close_fds(fds)
            return
        idle = not self._queue
        self._queue.append((memoryview(frame), fds))
        self._queued += len(frame)
        if self._queued > _MAX_QUEUED_BYTES:
            self._abort(f"it takes nothing of {count(self._queued, 'byte')}")
        elif idle:
            self._writable()

    async def flush(self) -> None:
        """Wait until all is sent, or the connection is closed."""
        if self._queue:
            self._drained = self._drained or self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Close the connection; what is not sent yet is dropped."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        close_fds(self._received)
        for _, fds in (*self._frames, *self._queue):
            close_fds(fds)
        self._frames.clear()
        self._queue.clear()
        self._notify_drained()

    def _abort(self, reason: str) -> None:
        self.close()
        self._loop.call_soon(self._on_lost, reason)

    def _notify_drained(self) -> None:
        if self._drained:
            self._drained.set_result(None)
            self._drained = None

    def _writable(self) -> None:
        try:
            while self._queue:
                self._write_some()
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock, self._writable)
        except OSError as e:
            self._abort(e.strerror or str(e))
        else:
            self._loop.remove_writer(self._sock)
            if self._paused:
                self._paused = False
                self._loop.add_reader(self._sock, self._readable)
                self._schedule_resume()
            self._notify_drained()

    def _write_some(self) -> None:
        frame, fds = self._queue[0]
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self._sock.sendmsg([frame], rights)
            close_fds(fds)  # they went with the first byte
        else:
            sent = self._sock.send(frame)  # bots may not use sendmsg(2)
        self._queued -= sent
        if sent < len(frame):
            self._queue[0] = (frame[sent:], fds)
        else:
            self._queue.popleft()

    def _readable(self) -> None:
        """Deliver what comes in, for a bounded time: a flood of messages must not stop the rest of the loop."""
        end = time.monotonic() + _READ_SLICE_S
        may_read = self._deliver(end)
        while may_read and self._read():
            may_read = self._deliver(end) and time.monotonic() < end

    def _schedule_resume(self) -> None:
        """Deliver the rest in the next turn of the loop, which does not see what was already read from the socket."""
        if not self._resume_scheduled:
            self._resume_scheduled = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resume_scheduled = False
        self._readable()

    def _read(self) -> bool:
        """Read what has arrived; false if there is nothing, or the connection has ended."""
        try:
            self._receive()
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, ValueError) as e:
            self._abort(getattr(e, "strerror", None) or str(e))
            return False
        return True

    def _deliver(self, end: float) -> bool:
        """Deliver the complete frames until the monotonic time `end`; false if nothing more may be read now."""
        while self._frames and not self.closed:
            if self._queued > _MAX_UNWRITTEN_BYTES:
                self._paused = True
                self._loop.remove_reader(self._sock)
                return False
            self._on_frame(*self._frames.popleft())
            if self._frames and time.monotonic() >= end:
                self._schedule_resume()
                return False
        if not self.closed and not self._is_wanted:
            self._check_large_frame()
        return not self.closed

    def _check_large_frame(self) -> None:
        """Discard what has arrived of a large frame that `on_large` refuses by its header."""
        if len(self._buffer) < _FIXED_HEADER_BYTES:
            return
        header, size = _sizes(self._buffer)
        if size <= MAX_UNSOLICITED_BYTES or len(self._buffer) < header <= _MAX_HEADER_BYTES:
            return
        self._is_wanted = header <= _MAX_HEADER_BYTES and self._on_large(bytes(self._buffer[:header]), size)
        if not self._is_wanted:
            self._unwanted_bytes = size - len(self._buffer)
            self._buffer.clear()
            close_fds(self._received)

    def _receive(self) -> None:
        """Read what has arrived, which may be many frames, or a part of one.

        The bus sends each message by itself, and the kernel ends a read with what descriptors came along with: they
        belong to the last frame that has begun.
        """
        data, ancillary, _, _ = self._sock.recvmsg(_CHUNK_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for _, _, content in ancillary:  # only descriptors: no option of the socket asks for other things
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not data:
            raise ConnectionError("it closed the connection")
        data = self._skip_unwanted(data)
        if not data:
            close_fds(fds.tolist())  # there should be none: they come with the beginning of a frame
            return
        self._buffer += data
        try:
            self._split_frames()
        finally:
            (self._received if self._buffer else self._frames[-1][1]).extend(fds)

    def _skip_unwanted(self, data: bytes) -> bytes:
        """What follows the frame that is being discarded."""
        unwanted = min(self._unwanted_bytes, len(data))
        self._unwanted_bytes -= unwanted
        return data[unwanted:]

    def _split_frames(self) -> None:
        """Move complete frames from the buffer to the queue of those to be delivered."""
        at, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while (
                end - at >= _FIXED_HEADER_BYTES
                and (size := _sizes(view[at : at + _FIXED_HEADER_BYTES])[1]) <= end - at
            ):
                self._frames.append((bytes(view[at : at + size]), self._received))
                self._received = []
                self._is_wanted = False
                at += size
        del self._buffer[:at]


def _sizes(start: bytearray | memoryview) -> tuple[int, int]:
    """The bytes of a frame's header, padded to 8, and of the whole frame, read from its first 16.

    ValueError if that is not D-Bus.
    """
    order = {ord("l"): "<", ord("B"): ">"}.get(start[0])
    if order is None:
        raise ValueError("it sends what is not D-Bus")
    body, _serial, fields = struct.unpack_from(f"{order}III", start, 4)
    header: int = _FIXED_HEADER_BYTES + (fields + 7 & ~7)
    size: int = header + body
    if size > _MAX_FRAME_BYTES:
        raise ValueError("it sends more than D-Bus allows")
    return header, size
