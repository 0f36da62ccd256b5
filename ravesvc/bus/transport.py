"""Bytes to and from a message bus: the socket, the authentication, frames with their file descriptors.

The D-Bus library's own connection is not used: it blocks while it connects, ends itself on the first EAGAIN, spins
when the bus closes during authentication, hands received descriptors on to child processes, and never closes its
socket. Nothing here knows what is in a frame but its size, and where its body begins.

A sender that the bus admits may send frames of 32 MB. So as soon as the header of a large one is there, its reader
is asked whether it wants the rest; if not, that is thrown away as it arrives.
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

from ravesvc.errors import Code, RaveError

_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_MAX_QUEUED = 16 * 1024 * 1024
# Both are the D-Bus specification's: a frame starts with 16 bytes that tell its size, of at most 128 MiB.
_HEADER = 16
_MAX_FRAME = 128 * 1024 * 1024
# Of what comes unasked, calls and signals, no more is read: unpacking a MB takes 0.6 s and 30 MB.
MAX_UNASKED_BYTES = 64 * 1024
# The bus adds to what we send the field SENDER: 8 bytes, a name of 255 at most, and what fills it up to 8 again.
SENDER_BYTES = 512
MAX_SENT_BYTES = MAX_UNASKED_BYTES - SENDER_BYTES
# Of a large frame. Names have 255 bytes at most; a path may be longer, but none of ours is.
_MAX_HEADER = 16 * 1024
# The kernel passes at most 253 descriptors with one message (SCM_MAX_FD).
_ANCILLARY = socket.CMSG_SPACE(253 * array.array("i").itemsize)
# Read at once, so that many small frames cost one system call; and for how long before the loop gets its turn.
_CHUNK = 64 * 1024
_READ_S = 0.005
# With this much waiting to be written nothing more is read: who asks much and reads none of it has to wait.
_MAX_BEHIND = 1024 * 1024
_BACKLOG_PAUSE = 0.05
# What the kernel takes of ours before the bus reads it: what is urgent stands behind that.
_SEND_BUFFER = 8 * 1024


def system_address() -> str:
    """The address of the system bus."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS


async def open_socket(address: str) -> socket.socket:
    """A socket to the bus at `address` (`unix:` addresses, the first that works of several), authenticated.

    Raises `RaveError` (Bus); bounding the time is up to the caller.
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
                await asyncio.sleep(_BACKLOG_PAUSE)
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
        answer = await _line(sock)
        if answer.split(b" ")[0] != wanted:
            raise RaveError(Code.BUS, f"the bus refused the authentication with {answer[:80]!r}")
    await loop.sock_sendall(sock, b"BEGIN\r\n")


async def _line(sock: socket.socket) -> bytes:
    """One line of the authentication; the bus says nothing more before we answer."""
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

    `on_frame(frame, fds)` gets each frame, owns its descriptors and raises nothing. Of one of more than
    `MAX_UNASKED_BYTES` `on_large(header, size)` first gets all but the body, and the size of the whole in bytes; if
    it returns False the frame is thrown away. `on_lost(reason)` is called once, never from within `send`, unless
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
        self._unwanted = 0  # bytes to come of a frame that is thrown away
        self._frames: deque[tuple[bytes, list[int]]] = deque()  # whole ones, not handed on yet
        self._queue: deque[tuple[memoryview, list[int]]] = deque()
        self._queued = 0
        self._paused = False
        self._going_on = False
        self._drained: asyncio.Future[None] | None = None
        self.closed = False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
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
        if self._queued > _MAX_QUEUED:
            self._lose(f"it takes nothing, {self._queued} bytes wait")
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
        self._tell_drained()

    def _lose(self, reason: str) -> None:
        self.close()
        self._loop.call_soon(self._on_lost, reason)

    def _tell_drained(self) -> None:
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
            self._lose(e.strerror or str(e))
        else:
            self._loop.remove_writer(self._sock)
            if self._paused:
                self._paused = False
                self._loop.add_reader(self._sock, self._readable)
                self._go_on_later()
            self._tell_drained()

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
        """Hand on what comes in, for a while: a flood of messages must leave the loop time for other things."""
        end = time.monotonic() + _READ_S
        going_on = self._hand_on(end)
        while going_on and self._read():
            going_on = self._hand_on(end) and time.monotonic() < end

    def _go_on_later(self) -> None:
        """Go on in the next turn of the loop: the loop does not see what was read already."""
        if not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._readable()

    def _read(self) -> bool:
        """Read what has arrived; false when that is nothing, or the end of the connection."""
        try:
            self._receive()
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, ValueError) as e:
            self._lose(getattr(e, "strerror", None) or str(e))
            return False
        return True

    def _hand_on(self, end: float) -> bool:
        """Hand on the frames that are whole, until that time; false when more of them would have to wait."""
        while self._frames and not self.closed:
            if self._queued > _MAX_BEHIND:
                self._paused = True
                self._loop.remove_reader(self._sock)
                return False
            self._on_frame(*self._frames.popleft())
            if self._frames and time.monotonic() >= end:
                self._go_on_later()
                return False
        if not self.closed and not self._is_wanted:
            self._look_ahead()
        return not self.closed

    def _look_ahead(self) -> None:
        """Throw away what has come of a large frame that by its header is not wanted."""
        if len(self._buffer) < _HEADER:
            return
        header, size = _sizes(self._buffer)
        if size <= MAX_UNASKED_BYTES or len(self._buffer) < header <= _MAX_HEADER:
            return
        self._is_wanted = header <= _MAX_HEADER and self._on_large(bytes(self._buffer[:header]), size)
        if not self._is_wanted:
            self._unwanted = size - len(self._buffer)
            self._buffer.clear()
            close_fds(self._received)

    def _receive(self) -> None:
        """Read what has arrived, which may be many frames, or a part of one.

        The bus sends each message by itself, and the kernel ends a read with what descriptors came along with: they
        belong to the last frame that has begun.
        """
        data, ancillary, _, _ = self._sock.recvmsg(_CHUNK, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for _, _, content in ancillary:  # only descriptors: no option of the socket asks for other things
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not data:
            raise ConnectionError("it closed the connection")
        data = self._past_unwanted(data)
        if not data:
            close_fds(fds.tolist())  # there should be none: they come with the beginning of a frame
            return
        self._buffer += data
        try:
            self._split()
        finally:
            (self._received if self._buffer else self._frames[-1][1]).extend(fds)

    def _past_unwanted(self, data: bytes) -> bytes:
        """What follows the frame that is being thrown away."""
        unwanted = min(self._unwanted, len(data))
        self._unwanted -= unwanted
        return data[unwanted:]

    def _split(self) -> None:
        """Move whole frames from the buffer to those that are to be handed on."""
        at, end = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while end - at >= _HEADER and (size := _sizes(view[at : at + _HEADER])[1]) <= end - at:
                self._frames.append((bytes(view[at : at + size]), self._received))
                self._received = []
                self._is_wanted = False
                at += size
        del self._buffer[:at]


def _sizes(start: bytearray | memoryview) -> tuple[int, int]:
    """The bytes of a frame's header, padded to 8, and of the whole, by its first 16; ValueError for none of D-Bus."""
    order = {ord("l"): "<", ord("B"): ">"}.get(start[0])
    if order is None:
        raise ValueError("it sends what is not D-Bus")
    body, _serial, fields = struct.unpack_from(f"{order}III", start, 4)
    header: int = _HEADER + (fields + 7 & ~7)
    size: int = header + body
    if size > _MAX_FRAME:
        raise ValueError("it sends more than D-Bus allows")
    return header, size
