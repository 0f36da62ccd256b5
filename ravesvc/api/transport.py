"""Blocking HTTPS off the event loop: one connection to one host, one request at a time.

The connection is made on the event loop (`ravesvc.api.dial`). Each request then runs in a daemon thread of its own.
Those of an executor are joined when the interpreter ends, so that a server that hangs would hold up a SIGTERM; and an
idle process keeps no thread. Starting one costs 0.1 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import io
import logging
import select
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ravesvc.api import dial, tls
from ravesvc.api.failures import HttpResponse
from ravesvc.config.worker_options import Proxy, Tls
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger(__name__)

# The most that is taken of an answer, before and after decompression. Most answers say little more than yes or no.
SMALL_ANSWER_BYTES = 64 << 10
# Those that describe a hundred accounts or videos.
LIST_ANSWER_BYTES = 512 << 10
# Those with the users of meshes: a page of the list has some 100 kB, a mesh with 10 000 people up to 1.5 million.
USERS_ANSWER_BYTES = 2 << 20
# What an answer has beside its body: its headers, what comes before and after it, the sizes of its chunks.
_MAX_OVERHEAD_BYTES = 128 << 10


class HttpRequest(NamedTuple):
    """What is sent: `target` is path and query, `body` the very bytes that were signed.

    Or it comes in parts, read in the thread of the request; `headers` then has its Content-Length. An answer whose
    body has more than `max_bytes` is a failure.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | Iterable[bytes] | None
    max_bytes: int = SMALL_ANSWER_BYTES


class HttpTransport:
    """Requests to `host`; `timeout` bounds each, from its turn to the last byte of its answer, in seconds.

    `check` sees each connection before anything is sent over it, and raises `RaveError` for one that is not wanted.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext,
        timeout: float,
        proxy: Proxy | None = None,
        check: Callable[[socket.socket], None] = lambda _connected: None,
    ) -> None:
        self.host = host
        self._port = port
        self._context = context
        self._timeout = timeout
        self._proxy = proxy
        self._check = check
        self._turn = asyncio.Lock()
        self._line: _Line | None = None
        self._waiting: asyncio.Future[HttpResponse] | None = None
        self._closed = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        """The answer to `request`, of any status; raises `RaveError` (Network, Timeout, Tls, BadData, Closed).

        A failure before there was a connection, of which the server has heard nothing, has the attribute `unsent`.
        Cancelling ends the connection with it: a half-read answer is of no use to the next request.
        """
        async with self._turn:
            if self._closed:
                raise self._over()
            self._waiting = asyncio.get_running_loop().create_future()
            work = asyncio.create_task(self._begin(request, self._waiting))
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._waiting
            except TimeoutError:
                raise self._timed_out() from None
            finally:
                work.cancel()
                await asyncio.wait([work])
                if self._closed or self._waiting.cancelled():
                    self._end_line()

    def drop_idle(self) -> None:
        """Close the connection unless it is in use; the next request opens a new one."""
        if not self._turn.locked():
            self._end_line()

    def close(self) -> None:
        """End everything now: a request under way fails with Closed, its thread follows by itself."""
        self._closed = True
        self._end_line()
        if self._waiting is not None:
            _deliver(self._waiting, self._over())

    async def _begin(self, request: HttpRequest, waiting: asyncio.Future[HttpResponse]) -> None:
        """Have a connection, and start the thread of the request, which delivers the answer to `waiting`."""
        if self._line is None or not self._line.is_connected:
            self._end_line()
            try:
                sock = await self._dial()
            except RaveError as e:
                e.attributes.update(host=self.host, unsent=True)
                _deliver(waiting, e)
                return
            except OSError as e:
                error = _failure(self.host, e)
                error.attributes["unsent"] = True
                _deliver(waiting, error)
                return
            except Exception as e:  # noqa: BLE001 - a fault of ours, see `_exchange`
                _deliver(waiting, e)
                return
            self._line = _Line(self.host, self._port, sock, self._timeout)
        work = (self._line, request, asyncio.get_running_loop(), waiting)
        threading.Thread(target=_exchange, args=work, name="rave-api", daemon=True).start()

    async def _dial(self) -> ssl.SSLSocket:
        async def finish(plain: socket.socket) -> ssl.SSLSocket:
            try:
                self._check(plain)
            except BaseException:
                plain.close()
                raise
            return await dial.shake_hands(plain, self._context, self.host)

        return await dial.dial(self.host, self._port, self._proxy, finish, ssl.SSLSocket.close)

    def _end_line(self) -> None:
        if self._line is not None:
            self._line.end()
            self._line = None

    def _timed_out(self) -> RaveError:
        error = _timed_out(self.host)
        if self._line is None:
            error.attributes["unsent"] = True
        return error

    def _over(self) -> RaveError:
        return RaveError(Code.CLOSED, f"the connection to {self.host} was closed by us", host=self.host)


def to_base(base: str, key: str, settings: Tls, proxy: Proxy | None, timeout: float) -> tuple[HttpTransport, str]:
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
    return HttpTransport(host, port, tls.context(settings, host), timeout, proxy), url.path.rstrip("/")


class _Wire(io.RawIOBase):
    """The bytes of one answer as they come from a socket, up to `left` of them; beyond that it is a `RaveError`.

    http.client sets no limit to how many answers may come before the one that counts (`100 Continue`), nor to what a
    server adds to its chunks or says after the last.
    """

    def __init__(self, raw: io.RawIOBase, left: int) -> None:
        self._raw = raw
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise RaveError(Code.BAD_DATA, "the answer does not end")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _IncomingResponse(io.BufferedReader):
    """What a server sends. Never read to its end, which http.client would do for a chunk of -1 bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise ValueError("a chunk of negative size")
        return super().read(size)


class _Response(http.client.HTTPResponse):
    """An answer whose body is bounded by its reader, and all else by `_Wire`."""

    def __init__(self, max_bytes: int, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _IncomingResponse(_Wire(self.fp.detach(), max_bytes + _MAX_OVERHEAD_BYTES))


class _Requests(http.client.HTTPConnection):
    """Writes requests and reads answers; never connects by itself."""

    default_port = http.client.HTTPS_PORT
    auto_open = 0

    def expect(self, max_bytes: int) -> None:
        """Take so many bytes of the body of the next answer, and not much more of all else."""
        self.response_class = functools.partial(_Response, max_bytes)  # type: ignore[assignment]


class _Line:
    """A kept-alive connection that one thread uses and another may end."""

    def __init__(self, host: str, port: int, sock: ssl.SSLSocket, timeout: float) -> None:
        sock.settimeout(timeout)
        self.host = host
        self._requests = _Requests(host, port)
        self._requests.sock = sock
        # http.client forgets the socket of an answer with `Connection: close` before it has read the body.
        self._sock = sock
        self._lock = threading.Lock()
        self._busy = False
        self._ended = False

    @property
    def is_connected(self) -> bool:
        """Whether another request can be sent. Nothing is to be read between two: if there is, it is the end."""
        if self._requests.sock is None:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def exchange(self, request: HttpRequest) -> HttpResponse:
        """Send `request` and read the whole answer; blocks. Closes the connection when that fails."""
        with self._lock:
            self._busy = True
        try:
            self._check()
            return self._send_and_read(request)
        except BaseException:
            self._close()
            raise
        finally:
            with self._lock:
                self._busy = False
                if self._ended:
                    self._close()

    def end(self) -> None:
        """Close the connection for good; if it is in use, make its thread fail and close it."""
        with self._lock:
            self._ended = True
            if not self._busy:
                self._close()
                return
            with contextlib.suppress(OSError):
                # The plain socket's: that of an SSLSocket would pull the TLS state from under the other thread.
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def _check(self) -> None:
        if self._ended:
            raise ConnectionAbortedError

    def _close(self) -> None:
        self._requests.close()
        self._sock.close()

    def _send_and_read(self, request: HttpRequest) -> HttpResponse:
        self._requests.expect(request.max_bytes)
        self._requests.request(*request[:2], body=request.body, headers=request.headers)
        try:
            return _read(self._requests.getresponse(), request.max_bytes)
        except (RaveError, OSError, http.client.HTTPException):
            raise
        except Exception as e:
            # http.client trusts servers: a negative chunk size is a ValueError to it. The traceback tells whether it
            # was that, or a mistake of ours.
            _log.debug("Reading the answer of %s failed", self.host, exc_info=True)
            raise RaveError(Code.BAD_DATA, f"the answer of {self.host} is not proper HTTP", host=self.host) from e


def _read(response: http.client.HTTPResponse, max_bytes: int) -> HttpResponse:
    """The rest of an answer of which the headers have been read."""
    raw = bytearray()
    # To the empty read at the end: only that one tells a whole body from one that was cut.
    while len(raw) <= max_bytes and (chunk := response.read(65536)):
        raw += chunk
    if len(raw) <= max_bytes and response.length:
        raise http.client.IncompleteRead(b"", response.length)
    headers = response.headers
    encoding = headers.get("Content-Encoding", "identity").lower()
    body = _decode(bytes(raw), encoding, max_bytes)
    return HttpResponse(response.status, body, *map(headers.get, ("Retry-After", "Date", "Location")))


def _exchange(
    line: _Line, request: HttpRequest, loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[HttpResponse]
) -> None:
    """The thread of one request."""
    outcome: HttpResponse | Exception
    try:
        outcome = line.exchange(request)
    except (OSError, http.client.HTTPException) as e:
        outcome = _failure(line.host, e)
    except Exception as e:  # noqa: BLE001 - the caller that awaits must get it, or would wait for ever
        outcome = e
    with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller is waiting
        loop.call_soon_threadsafe(_deliver, waiting, outcome)


def _deliver(waiting: asyncio.Future[HttpResponse], outcome: HttpResponse | Exception) -> None:
    if waiting.done():
        return
    if isinstance(outcome, HttpResponse):
        waiting.set_result(outcome)
    else:
        waiting.set_exception(outcome)
        waiting.exception()  # mark it as retrieved: the caller may be cancelled before it is


def _failure(host: str, error: Exception) -> RaveError:
    """What went wrong on the way, without the chain of exceptions: theirs may quote the URL."""
    if isinstance(error, ssl.SSLError):
        return tls.failure(host, error)
    if isinstance(error, TimeoutError):
        return _timed_out(host)
    reason = dial.reason(error) if isinstance(error, OSError) else "the connection was cut"
    return RaveError(Code.NETWORK, f"{host} can't be reached: {reason}", host=host)


def _timed_out(host: str) -> RaveError:
    return RaveError(Code.TIMEOUT, f"{host} did not answer in time", host=host)


def _decode(raw: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its compression; raises `RaveError` (BadData) when it is too long, damaged or unknown."""
    if encoding == "gzip":
        decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            body = decompressor.decompress(raw, max_bytes + 1)
        except zlib.error:
            raise RaveError(Code.BAD_DATA, "the answer's compression is damaged") from None
        if not decompressor.eof and len(body) <= max_bytes:
            raise RaveError(Code.BAD_DATA, "the answer's compression is cut short")
    elif encoding == "identity":
        body = raw
    else:
        raise RaveError(Code.BAD_DATA, "the answer is compressed in a way that was not asked for")
    if len(body) > max_bytes or len(raw) > max_bytes:
        raise RaveError(Code.BAD_DATA, f"the answer is longer than {max_bytes >> 10} KiB")
    return body
