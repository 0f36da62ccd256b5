"""One WebSocket to a mesh's server: opening it, text in, text out, its end."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ravesvc.api import dial
from ravesvc.api.failures import asked_pause
from ravesvc.common.text import printable
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.config.worker_options import Proxy
from ravesvc.errors import Code, RaveError
from ravesvc.room.address import Address
from ravesvc.room.close import End
from ravesvc.room.frames import MAX_MESSAGE_BYTES
from ravesvc.room.library import (
    ClientConnection,
    ClientProtocol,
    ConnectionClosed,
    Frame,
    Headers,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    Opcode,
    PayloadTooBig,
    Response,
    State,
    Subprotocol,
    WebSocketException,
    parse_uri,
)

_PROTOCOL = Subprotocol("protoo")
# Beyond this the server has to wait. A few large frames fill the memory of a bot.
_MAX_QUEUED_FRAMES = 2
# A server that leaves more than this unread has stopped reading. A message of ours has a few thousand bytes, and
# `send` waits while more than the library's 32 KiB are unsent.
_MAX_UNSENT_BYTES = 256 << 10
_NOT_READING = "the server does not read what it is sent"
# Bytes that are read in one turn of the event loop. TLS hands over all that has come in, up to 256 KiB: 131 000 pings
# of two bytes held the process up for seconds. These are 512, which take some 10 ms.
_PORTION_BYTES = 1024
# Frames of a server. A busy room sends some hundred a second, and what came in while this process was stopped or slow
# is read at once.
_FRAME_RATE = Rate(10_000, 500)
# Of one message. The bytes of it are limited, but pieces may be empty, and each takes memory all the same.
_MAX_PIECES = 1000
_MAX_REASON_CHARS = 100  # a close frame holds 123 bytes

_CODE_OF_STATUS = {
    400: Code.BAD_REQUEST,
    401: Code.UNAUTHORIZED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    429: Code.RATE_LIMITED,
}

# At its debug level the library writes every header, the token too, and every frame.
_wire_log = logging.getLogger(f"{__name__}.websockets")
_wire_log.setLevel(logging.WARNING)


class _Socket(ClientConnection, asyncio.BufferedProtocol):
    """Reads in portions, counts what comes, and notes the times at which it happens, rather than when it is read.

    The limits of the library are on what waits to be read by us. Pings never wait: it answers them as they come.

    Attributes:
        fault: what the server does that has made us end the connection; empty if nothing has.
    """

    def __init__(self, clock: Callable[[], float], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = clock
        self.last_received_at = clock()
        self.ended_at: float | None = None
        self.fault = ""
        self._portion = memoryview(bytearray(_PORTION_BYTES))
        self._frames = TokenBucket(_FRAME_RATE, self.last_received_at)
        self._pieces = 0
        self._abort_timer: asyncio.TimerHandle | None = None

    async def upgrade(self, token: str) -> None:
        """Ask for a WebSocket. A redirect is not followed: the token is for the server that Rave's API named."""
        headers = {"API-Version": "4"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            await self.handshake(headers, None)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """End at once, without a close frame."""
        self.transport.abort()

    def give_up(self, fault: str) -> None:
        """End at once, because of what the server does."""
        self.fault = self.fault or fault
        self.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go. TLS fills it, calls `buffer_updated`, and goes on in the next turn of the loop."""
        return self._portion

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are in the buffer."""
        self.data_received(bytes(self._portion[:nbytes]))

    def process_event(self, event: Any) -> None:
        """Count a frame before the library keeps it. A ping it has answered by then."""
        if isinstance(event, Frame):
            self._count(event)
        super().process_event(event)

    def _count(self, frame: Frame) -> None:
        if self._frames.take(self.last_received_at):
            self.give_up(f"the server sends more than {_FRAME_RATE.per_second:g} frames a second")
        if frame.opcode is Opcode.CONT:
            self._pieces += 1
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._pieces = 1
        if self._pieces > _MAX_PIECES:
            self.give_up(f"the server sends a message in more than {_MAX_PIECES} pieces")

    def data_received(self, data: bytes) -> None:
        self.last_received_at = self.clock()
        super().data_received(data)
        # The library answers pings itself, and queues the answers even if the server reads none.
        if self.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self.give_up(_NOT_READING)
        if self.protocol.close_rcvd is not None and self.ended_at is None:
            self.ended_at = self.last_received_at
            # It is the server's part to hang up after the handshake; the library would wait for that for ever.
            self._abort_timer = self.loop.call_later(self.close_timeout or 0, self.transport.abort)

    def send_data(self) -> None:
        """Write all that is to be sent at once.

        A portion has room for hundreds of pings. The library writes the answers one by one, and with TLS each write
        costs as much as the rest of a ping.
        """
        writes = self.protocol.writes
        # An empty one stands for the end of the connection.
        if writes and all(writes):
            self.protocol.writes = [b"".join(writes)]
        super().send_data()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort_timer:
            self._abort_timer.cancel()
        if self.ended_at is None:
            self.ended_at = self.clock()
        super().connection_lost(exc)


class Connection:
    """An open WebSocket. `receive` belongs to one task; the rest may be called by any."""

    def __init__(self, socket: _Socket, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._opened_at = socket.clock()

    @classmethod
    async def open(
        cls,
        address: Address,
        url: str,
        *,
        token: str,
        ssl_context: ssl.SSLContext,
        proxy: Proxy | None,
        clock: Callable[[], float],
        timeout_s: float,
    ) -> Connection:
        """Connect and upgrade; the caller limits the time.

        `timeout_s` is how many seconds a send or the closing handshake may take later.
        Raises `RaveError`: Network, Tls, BadData, or what an HTTP status stands for, with a `status` attribute.
        """

        def protocol() -> _Socket:
            # No permessage-deflate: it keeps two windows of zlib for each connection, up to 300 kB. Chat is small,
            # and memory is what a fleet of processes runs out of.
            protocol_state = ClientProtocol(
                parse_uri(url), subprotocols=[_PROTOCOL], max_size=MAX_MESSAGE_BYTES, logger=_wire_log
            )
            # The room's own clientPing and silence watchdog do what pings would; any frame is a life sign to them.
            return _Socket(
                clock, protocol_state, ping_interval=None, close_timeout=timeout_s, max_queue=_MAX_QUEUED_FRAMES
            )

        async def finish(plain: socket.socket) -> _Socket:
            loop = asyncio.get_running_loop()
            try:
                _, opened = await loop.create_connection(
                    protocol, sock=plain, ssl=ssl_context, server_hostname=address.host
                )
            except BaseException:
                plain.close()
                raise
            return opened

        try:
            opened = await dial.dial(address.host, address.port, proxy, finish, _Socket.abort)
            await opened.upgrade(token)
        except (OSError, WebSocketException) as e:
            raise _opening_failure(e, address) from e
        if opened.subprotocol != _PROTOCOL:
            opened.abort()
            raise RaveError(Code.BAD_DATA, f"{address} does not speak protoo")
        return cls(opened, timeout_s)

    @property
    def last_received_at(self) -> float:
        """When anything at all came in, by the clock given to `open`."""
        return self._socket.last_received_at

    async def receive(self) -> str | None:
        """The next text frame, or None once the connection has ended. Binary frames mean nothing."""
        try:
            while not isinstance(message := await self._socket.recv(), str):
                pass
        except ConnectionClosed:
            return None
        return message

    async def send(self, text: str) -> None:
        """Send a text frame; raises `RaveError`: Closed, or Timeout (and ends) when the server does not read."""
        if self._socket.state is not State.OPEN:
            # The library would wait until the end is complete.
            raise _closed()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._socket.send(text)
        except ConnectionClosed as e:
            raise _closed() from e
        except TimeoutError as e:
            self._socket.give_up(_NOT_READING)
            raise RaveError(Code.TIMEOUT, "the mesh's server takes no more data") from e

    async def close(self, code: int, reason: str) -> None:
        """Shake hands on the end, or end without the other side. `receive` still hands out what came before."""
        try:
            # The library limits its wait for the answer, but not that for room in the send buffer.
            async with asyncio.timeout(2 * self._timeout_s):
                await self._socket.close(code, reason)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """End at once, without a close frame."""
        self._socket.abort()

    def end(self) -> End:
        """The facts of the end, once there is one."""
        protocol = self._socket.protocol
        # If we alone have sent a close frame, it was the library, after a broken or too long frame from the server.
        close = protocol.close_rcvd or protocol.close_sent
        return End(
            code=int(protocol.close_code or 1006),
            reason=printable(close.reason, _MAX_REASON_CHARS) if close else "",
            # The difference is negative when the close frame has come together with the upgrade.
            held=max(0.0, (self._socket.ended_at or self._socket.clock()) - self._opened_at),
            by_peer=protocol.close_rcvd is not None,
            too_large=_excess(protocol.parser_exc),
            fault=self._socket.fault,
        )


def _excess(error: Exception | None) -> int:
    """The bytes of the message that was too large, as far as they were announced; 0 if none was."""
    if not isinstance(error, PayloadTooBig):
        return 0
    # For a message in pieces, the earlier pieces count as well. Versions of the library name them differently.
    before = getattr(error, "current_size", None) or getattr(error, "cur_size", None) or 0
    return int(before + (error.size or error.max_size - before + 1))


def _closed() -> RaveError:
    return RaveError(Code.CLOSED, "the connection to the mesh is closed")


def _opening_failure(error: Exception, address: Address) -> RaveError:
    """Put the failure to open a socket into words."""
    if isinstance(error, InvalidStatus):
        return _refused(error.response, address)
    if isinstance(error, ssl.SSLCertVerificationError):
        return RaveError(
            Code.TLS,
            f"the certificate of {address} is not trusted: {error.verify_message}",
            hint="tls.ca_file names an authority to trust, tls.insecure_hosts a host not to verify",
        )
    if isinstance(error, ssl.SSLError):
        return RaveError(Code.TLS, f"no TLS with {address}: {error.reason or error}")
    if isinstance(error, InvalidHandshake) and not isinstance(error, InvalidMessage):
        return RaveError(Code.BAD_DATA, f"{address} answers the upgrade wrongly: {printable(str(error), 200)}")
    reason = dial.reason(error) if isinstance(error, OSError) else printable(str(error), 200)
    return RaveError(Code.NETWORK, f"can't connect to {address}: {reason}")


def _refused(response: Response, address: Address) -> RaveError:
    status, headers = response.status_code, response.headers
    code = Code.SERVER_ERROR if status >= 500 else _CODE_OF_STATUS.get(status, Code.REFUSED)
    pause = asked_pause(_header(headers, "Retry-After"), _header(headers, "Date"), time.time())
    error = RaveError(code, f"{address} refuses the socket with HTTP status {status}", status=status)
    error.attributes |= pause
    return error


def _header(headers: Headers, name: str) -> str | None:
    """The first value of a header; it may stand there more than once."""
    return next(iter(headers.get_all(name)), None)
