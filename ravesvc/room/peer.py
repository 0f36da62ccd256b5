"""A protoo peer: requests and answers over one connection, its watchdog, and the one place that detects its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.room import frames
from ravesvc.room.close import Close, CloseKind, classify, describe
from ravesvc.room.connection import Connection
from ravesvc.room.frames import ErrorResponse, Notification, PeerRequest, Response
from ravesvc.room.pending import Outcome, Pending

_log = logging.getLogger(__name__)

_UNKNOWN_METHOD = 404
_TOO_LARGE_CODE = 1009  # RFC 6455
# Characters that are dealt with in one turn of the event loop, a millisecond of work; a longer frame has a turn of
# its own. Each frame counts as so many more.
_TURN_CHARS, _FRAME_CHARS = 16 << 10, 512


class Timings(NamedTuple):
    """The time limits of a connection, in seconds.

    Attributes:
        opening_timeout_s: from the first packet until the server lets us in.
        answer_timeout_s: for the answer to a request.
        chat_answer_timeout_s: for the answer to a chat message, or its echo; a server that knows chat as a
            notification only sends no answer.
        ping_interval_s: between two clientPing.
        silence_timeout_s: without anything from the server until the connection counts as dead.
        early_end_s: an end by the server before this age of the connection is a rejection.
        closing_timeout_s: for the closing handshake, and for a send to find room in the buffer.
    """

    opening_timeout_s: float = 15.0
    answer_timeout_s: float = 10.0
    chat_answer_timeout_s: float = 2.0
    ping_interval_s: float = 15.0
    silence_timeout_s: float = 30.0
    early_end_s: float = 5.0
    closing_timeout_s: float = 3.0


class Peer:
    """Our side of an open connection. One task reads, and only that task sets `closed`.

    Attributes:
        closed: how the connection ended; None before.
    """

    def __init__(
        self,
        connection: Connection,
        handlers: Mapping[str, Callable[[Object], None]],
        timings: Timings,
        clock: Callable[[], float],
    ) -> None:
        """Start to read.

        `handlers` take the data of what the server sends, by method, whether it comes as a notification or as a
        request. What raises in them is logged. Requests with other methods are refused, as unknown.
        """
        self.closed: Close | None = None
        self._connection = connection
        self._handlers = handlers
        self._timings = timings
        self._clock = clock
        self._pending = Pending()
        self._announced: dict[str, int] = {}
        # Why we end the connection, if it is we who do, and the task that does it.
        self._ending: tuple[CloseKind, str] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._reader = asyncio.create_task(self._read(), name="room reader")

    @property
    def last_received_at(self) -> float:
        """When the server last sent anything."""
        return self._connection.last_received_at

    @property
    def ending(self) -> bool:
        """Whether we have begun to end the connection, or it has ended."""
        return self._ending is not None or self.closed is not None

    async def wait(self) -> Close:
        """Return when the connection has ended."""
        await asyncio.shield(self._reader)
        assert self.closed
        return self.closed

    def end(self, kind: CloseKind, code: int, reason: str) -> None:
        """Begin to end the connection. The first cause counts, except that a kick replaces any other."""
        if self.closed:
            return
        if self._ending is None or kind is CloseKind.KICKED:
            self._ending = (kind, reason)
        if self._closer is None:
            self._closer = asyncio.create_task(self._connection.close(code, reason), name="room closer")

    def abort(self) -> None:
        """End the connection at once, without a close frame."""
        self._connection.abort()

    async def notify(self, method: str, data: Object) -> None:
        """Send a notification; raises `RaveError`: Closed, or Timeout when the server takes no data."""
        await self._connection.send(frames.notification(method, data))

    async def request(self, method: str, data: Object, timeout_s: float) -> None:
        """Send a request and wait for the server to grant it.

        Raises `RaveError`: Refused with an `error_code` attribute, Timeout after `timeout_s` seconds, Closed.
        """
        request_id, future = self._pending.add()
        if not await self._await_grant(frames.request(request_id, method, data), request_id, future, timeout_s):
            raise RaveError(Code.TIMEOUT, f"the server did not answer {method} within {timeout_s:g} s")

    async def announce(self, method: str, data: Object, timeout_s: float, key: str) -> None:
        """Send a request that is also a notification; no answer within `timeout_s` seconds is no error.

        `acknowledge(key)` stands for the answer. Raises `RaveError`: Refused with an `error_code` attribute, Closed.
        """
        request_id, future = self._pending.add()
        self._announced[key] = request_id
        try:
            if not await self._await_grant(
                frames.announcement(request_id, method, data), request_id, future, timeout_s
            ):
                _log.debug("no answer to %s", method)
        finally:
            del self._announced[key]

    def acknowledge(self, key: str) -> None:
        """The announcement with that key is known to have arrived."""
        request_id = self._announced.get(key)
        if request_id is not None:
            self._pending.resolve(Response(request_id, {}))

    async def _await_grant(
        self, text: str, request_id: int, future: asyncio.Future[Outcome], timeout_s: float
    ) -> bool:
        """Send a request; True if the server granted it, False if no answer came in time."""
        try:
            await self._connection.send(text)
            async with asyncio.timeout(timeout_s):
                outcome = await future
        except TimeoutError:
            return False
        finally:
            self._pending.drop(request_id)
        if outcome is None:
            raise RaveError(Code.CLOSED, "the connection to the mesh ended before the answer came")
        if isinstance(outcome, ErrorResponse):
            why = f"the mesh's server refused with code {outcome.code}: {outcome.reason or 'no reason given'}"
            raise RaveError(Code.REFUSED, why, error_code=outcome.code)
        return True

    async def _read(self) -> None:
        watcher = asyncio.create_task(self._ping_until_silent(), name="room watcher")
        try:
            turn_chars = 0
            while (text := await self._connection.receive()) is not None:
                await self._handle_frame(text)
                # `receive` returns at once while frames are queued: a flood would hold up the event loop.
                turn_chars += _FRAME_CHARS + len(text)
                if turn_chars > _TURN_CHARS:
                    turn_chars = 0
                    await asyncio.sleep(0)
            if self._closer:
                await self._closer
        finally:
            watcher.cancel()
            # In case that we were cancelled.
            self._connection.abort()
            self.closed = self._close_result()
            _log.debug("connection ended (%s): %s", self.closed.kind, self.closed.reason)
            self._pending.end()
            await asyncio.wait([watcher])

    def _close_result(self) -> Close:
        end = self._connection.end()
        if self._ending:
            kind, reason = self._ending
        else:
            kind, reason = classify(end, self._timings.early_end_s), describe(end)
        return Close(kind, end.code, reason, end.held, opened=True)

    async def _handle_frame(self, text: str) -> None:
        """Handle one frame; a bad one does not stop the reading."""
        try:
            frame = frames.parse(text)
            # Decoding a large one and reading what it says take the most of what a turn may take.
            if len(text) > _TURN_CHARS:
                await asyncio.sleep(0)
            match frame:
                case Notification(method, data):
                    self._call_handler(method, data)
                case PeerRequest(request_id, method, data):
                    await self._answer(request_id, method, data)
                case answer:
                    if not self._pending.resolve(answer):
                        _log.debug("no request waits for this answer")
        except RaveError as e:
            self._drop("frame", e)

    def _call_handler(self, method: str, data: Object) -> None:
        handler = self._handlers.get(method)
        if handler is None:
            return
        try:
            handler(data)
        except RaveError as e:
            self._drop(method, e)
        except Exception:  # noqa: BLE001 - a bug in a handler must not cost the connection
            _log.exception("the handler of %s failed", method)

    def _drop(self, what: str, error: RaveError) -> None:
        """Go on without a message, unless it is one that would come again and again."""
        _log.debug("dropped a %s: %s", what, error)
        if error.code is Code.TOO_LARGE:
            self.end(CloseKind.TOO_LARGE, _TOO_LARGE_CODE, error.message)

    async def _answer(self, request_id: int, method: str, data: Object) -> None:
        """Answer a request: without an answer the server would wait until its time-out, if it has one."""
        if method in self._handlers:
            self._call_handler(method, data)
            await self._connection.send(frames.grant(request_id))
        else:
            await self._connection.send(frames.refusal(request_id, _UNKNOWN_METHOD, "unknown method"))

    async def _ping_until_silent(self) -> None:
        """Ping at intervals, and end the connection when nothing comes in for too long."""
        timings = self._timings
        ping_due = self._clock() + timings.ping_interval_s
        while (left := self.last_received_at + timings.silence_timeout_s - self._clock()) > 0:
            if self._clock() < ping_due:
                await asyncio.sleep(min(left, ping_due - self._clock()))
            else:
                ping_due += timings.ping_interval_s
                await self._ping(min(left, timings.answer_timeout_s))
        self.end(CloseKind.LOST, 1000, f"nothing heard from the server for {timings.silence_timeout_s:g} s")

    async def _ping(self, timeout_s: float) -> None:
        try:
            await self.request("clientPing", {}, timeout_s)
        except RaveError as e:
            # Only silence counts: a server may take pings without answering them.
            _log.debug("ping: %s", e)
