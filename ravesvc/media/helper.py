"""The helper: answers the service on a socket that systemd listens on, until it has had nothing to do for a while."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import Collection, Sequence
from typing import Protocol

from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.media import messages, wire
from ravesvc.media.messages import Ask, MediaReply, MediaRequest

_log = logging.getLogger(__name__)

# The helper ends after this time without a connection.
IDLE_TIMEOUT_S = 300.0
# For a request to arrive, and for the client to read the answer.
_TRANSFER_TIMEOUT_S = 5.0
# Connections at once; more wait in the listener's backlog.
_MAX_CONNECTIONS = 64


class HelperSource(Protocol):
    """Where the helper gets its answers: see `Library`."""

    async def search(self, words: str) -> Sequence[Video]:
        """Videos that fit some words."""

    async def look_up(self, link: str) -> Video:
        """The video that a link leads to."""

    async def picture(self, provider: str, video_id: str) -> bytes:
        """The picture of a video."""


class Unusable:
    """A `HelperSource` that answers everything with the reason why there is none."""

    def __init__(self, error: RaveError) -> None:
        self._error = error

    async def search(self, words: str) -> Sequence[Video]:
        """See `HelperSource`."""
        raise self._error

    async def look_up(self, link: str) -> Video:
        """See `HelperSource`."""
        raise self._error

    async def picture(self, provider: str, video_id: str) -> bytes:
        """See `HelperSource`."""
        raise self._error


class Helper:
    """Serves `source` on `listener`, to processes of `users` (ids) alone. Lives in one event loop."""

    def __init__(self, listener: socket.socket, source: HelperSource, users: Collection[int]) -> None:
        listener.setblocking(False)  # noqa: FBT003 - the standard library's
        self._listener = listener
        self._source = source
        self._users = users
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_s = IDLE_TIMEOUT_S
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()

    async def serve(self, idle_s: float) -> None:
        """Answer until there was no connection for `idle_s` seconds.

        Later connections wait in the listener for the next process that systemd starts.
        """
        loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        loop.add_reader(self._listener, self._accept)
        self._start_idle_timer()
        try:
            await self._idle.wait()
        finally:
            self._idle.set()
            loop.remove_reader(self._listener)
            self._stop_idle_timer()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # The client is gone again.
            return
        if (user := wire.peer_user(sock)) not in self._users:
            _log.warning("A connection was closed: it is of the user %d", user)
            sock.close()
            return
        self._stop_idle_timer()
        sock.setblocking(False)  # noqa: FBT003 - the standard library's
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(self._on_served)
        if len(self._tasks) >= _MAX_CONNECTIONS:
            # Until one of them has been served.
            loop.remove_reader(self._listener)

    def _on_served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._idle.is_set():
            return
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        if not self._tasks:
            self._start_idle_timer()

    def _start_idle_timer(self) -> None:
        """End after the idle time, unless a connection comes before."""
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._idle.set)

    def _stop_idle_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    async def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                async with asyncio.timeout(_TRANSFER_TIMEOUT_S):
                    line = await _request(sock)
                if wire.is_closed(sock):
                    # The client has given up while it waited in the queue: an answer would cost quota for nothing.
                    return
                answer, picture = await self._answer(line)
                async with asyncio.timeout(_TRANSFER_TIMEOUT_S):
                    await _deliver(sock, answer, picture)
            except (OSError, RaveError) as e:
                # The client has closed the connection, or has sent nothing in time. (TimeoutError is an OSError.)
                _log.debug("The helper could not answer a request: %s", e)

    async def _answer(self, line: bytes) -> tuple[bytes, bytes | None]:
        """The line that answers another one, and the picture that goes with it."""
        try:
            request = MediaRequest.from_bytes(line)
            if request.ask is Ask.PICTURE:
                provider, _, video_id = request.text.partition("/")
                picture = await self._source.picture(provider, video_id)
                return MediaReply(picture_bytes=len(picture)).to_bytes(), picture
            if request.ask is Ask.SEARCH:
                found = await self._source.search(request.text)
            else:
                found = [await self._source.look_up(request.text)]
            return MediaReply(videos=found).to_bytes(), None
        except RaveError as e:
            return messages.error_line(e), None
        except Exception:  # noqa: BLE001 - the caller must not see our insides
            incident = new_incident()
            _log.exception("%s", with_incident("A request has failed", incident))
            return messages.error_line(RaveError(Code.INTERNAL, "that has failed", incident=incident)), None


async def _request(sock: socket.socket) -> bytes:
    line, descriptor = await wire.receive(sock, messages.MAX_REQUEST_BYTES)
    if descriptor is not None:
        os.close(descriptor)
    return line


async def _deliver(sock: socket.socket, answer: bytes, picture: bytes | None) -> None:
    if picture is None:
        await wire.send(sock, answer)
        return
    descriptor = _sealed(picture)
    try:
        await wire.send(sock, answer, descriptor)
    finally:
        os.close(descriptor)


def _sealed(content: bytes) -> int:
    """The descriptor of a sealed file in memory, positioned at its start."""
    descriptor = os.memfd_create("picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
