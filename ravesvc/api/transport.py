"""Blocking HTTPS off the event loop: one connection to one host, one request at a time.

Each request runs in a daemon thread of its own. Those of an executor are joined when the interpreter ends, so that a
server that hangs, or a resolver, would hold up a SIGTERM; and an idle process keeps no thread. Starting one costs
0.1 ms. urllib3's pools, retries, redirects and proxies are not used: it never talks to another host than it was made
for.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import ssl
import threading
import zlib
from typing import NamedTuple
from urllib.parse import urlsplit

import urllib3.exceptions
from urllib3.connection import HTTPSConnection

from ravesvc.api import tls
from ravesvc.api.failures import Answer
from ravesvc.errors import Code, RaveError
from ravesvc.settings import Tls

# The most that is taken of an answer, before and after decompression: 8 MiB; a page of the mesh list has some 100 kB.
MOST_BYTES = 8 << 20

# It has one thing to say, about headers that make no sense, and quotes the URL with it, which holds the device id.
logging.getLogger("urllib3.connection").addFilter(lambda _: False)


class Request(NamedTuple):
    """What is sent: `target` is path and query, `body` the very bytes that were signed."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None


class Transport:
    """Requests to `host`; `timeout` bounds each, from its turn to the last byte of its answer, in seconds."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout: float) -> None:
        self.host = host
        self._port = port
        self._context = context
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._line = self._new_line()
        self._waiting: asyncio.Future[Answer] | None = None
        self._closed = False

    async def send(self, request: Request) -> Answer:
        """The answer to `request`, whatever its status; raises `RaveError` (Network, Timeout, Tls, BadData, Closed).

        A failure before there was a connection, of which the server has heard nothing, has the attribute `unsent`.
        Cancelling ends the connection with it: a half-read answer is of no use to the next request.
        """
        async with self._turn:
            if self._closed:
                raise self._over()
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            work = (self._line, request, loop, self._waiting)
            threading.Thread(target=_exchange, args=work, name="rave-api", daemon=True).start()
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._waiting
            except TimeoutError:
                raise _timed_out(self.host) from None
            finally:
                if self._waiting.cancelled():
                    self._line.end()
                    self._line = self._new_line()

    def drop_idle(self) -> None:
        """Close the connection unless it is in use; the next request opens a new one."""
        if not self._turn.locked():
            self._line.end()
            self._line = self._new_line()

    def close(self) -> None:
        """End everything now: a request under way fails with Closed, its thread follows by itself."""
        self._closed = True
        self._line.end()
        if self._waiting is not None:
            _deliver(self._waiting, self._over())

    def _new_line(self) -> _Line:
        return _Line(self.host, self._port, self._context, self._timeout)

    def _over(self) -> RaveError:
        return RaveError(Code.CLOSED, f"the connection to {self.host} was closed by us", host=self.host)


def to_base(base: str, key: str, settings: Tls, timeout: float) -> tuple[Transport, str]:
    """A connection to the host of a base URL, and the path below which its resources are.

    Raises `RaveError`: Config, which names `key`, for what is no https URL; BadFile as `tls.context`.
    """
    try:
        url = urlsplit(base)
        host, port = url.hostname, url.port or 443
    except ValueError:
        url, host, port = urlsplit(""), None, 0
    if url.scheme != "https" or not host:
        # A token never travels in clear text.
        raise RaveError(Code.CONFIG, f"{base[:80]!r} is not an https URL", key=key)
    return Transport(host, port, tls.context(settings, host), timeout), url.path.rstrip("/")


class _Line(HTTPSConnection):
    """A kept-alive connection that one thread uses and another may end.

    Attributes:
        reached: whether the request that is, or was, under way may have come to the server.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, ssl_context=context)
        self._lock = threading.Lock()
        self._live: socket.socket | None = None
        self._busy = False
        self._ended = False
        self.reached = False

    def connect(self) -> None:
        super().connect()
        self.reached = True
        # http.client forgets the socket of an answer with `Connection: close` before it has read the body.
        self._live = self.sock
        self._check()

    def exchange(self, request: Request) -> Answer:
        """Send `request` and read the whole answer; blocks. Closes the connection when that fails."""
        with self._lock:
            self._busy = True
        try:
            self._check()
            if not self.is_connected:
                self.close()
            self.reached = self.sock is not None
            return self._send_and_read(request)
        except BaseException:
            self.close()
            raise
        finally:
            with self._lock:
                self._busy = False
                if self._ended:
                    self.close()

    def end(self) -> None:
        """Close the connection for good; if it is in use, make its thread fail and close it."""
        with self._lock:
            self._ended = True
            if not self._busy:
                self.close()
            elif self._live is not None:
                with contextlib.suppress(OSError):
                    # The plain socket's: that of an SSLSocket would pull the TLS state from under the other thread.
                    socket.socket.shutdown(self._live, socket.SHUT_RDWR)

    def _check(self) -> None:
        if self._ended:
            raise ConnectionAbortedError

    def _send_and_read(self, request: Request) -> Answer:
        self.request(*request[:2], body=request.body, headers=request.headers, preload_content=False)
        response = self.getresponse()
        raw = bytearray()
        try:
            # To the empty read at the end: only that one tells a whole body from one that was cut.
            while len(raw) <= MOST_BYTES and (chunk := response.read(65536, decode_content=False)):
                raw += chunk
        finally:
            response.close()
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        headers = response.headers
        return Answer(response.status, _decode(bytes(raw), encoding), headers.get("Retry-After"), headers.get("Date"))


def _exchange(
    line: _Line, request: Request, loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[Answer]
) -> None:
    """The thread of one request."""
    outcome: Answer | Exception
    try:
        outcome = line.exchange(request)
    except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as e:
        outcome = _failure(line.host, e)
        if not line.reached:
            outcome.attributes["unsent"] = True
    except Exception as e:  # noqa: BLE001 - a fault of ours belongs to whoever awaits, who would else wait in vain
        outcome = e
    with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
        loop.call_soon_threadsafe(_deliver, waiting, outcome)


def _deliver(waiting: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    if waiting.done():
        return
    if isinstance(outcome, Answer):
        waiting.set_result(outcome)
    else:
        waiting.set_exception(outcome)
        waiting.exception()  # seen: whoever waits may be cancelled before it gets there


def _failure(host: str, error: Exception) -> RaveError:
    """What went wrong on the way, without the chain of exceptions: theirs may quote the URL."""
    if isinstance(error, ssl.SSLError):
        return tls.failure(host, error)
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError) and not refused:
        return _timed_out(host)
    reason = getattr(error.__cause__ or error, "strerror", None) or "the connection was cut"
    return RaveError(Code.NETWORK, f"{host} can't be reached: {reason}", host=host)


def _timed_out(host: str) -> RaveError:
    return RaveError(Code.TIMEOUT, f"{host} did not answer in time", host=host)


def _decode(raw: bytes, encoding: str) -> bytes:
    """The body without its compression; raises `RaveError` (BadData) when it is too long, damaged or unknown."""
    if encoding == "gzip":
        decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            body = decompressor.decompress(raw, MOST_BYTES + 1)
        except zlib.error:
            raise RaveError(Code.BAD_DATA, "the answer's compression is damaged") from None
        if not decompressor.eof and len(body) <= MOST_BYTES:
            raise RaveError(Code.BAD_DATA, "the answer's compression is cut short")
    elif encoding == "identity":
        body = raw
    else:
        raise RaveError(Code.BAD_DATA, "the answer is compressed in a way that was not asked for")
    if len(body) > MOST_BYTES or len(raw) > MOST_BYTES:
        raise RaveError(Code.BAD_DATA, f"the answer is longer than {MOST_BYTES >> 20} MiB")
    return body
