"""A real HTTPS server on 127.0.0.1 that answers as a test tells it to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.unit.authority import Authority


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Reply:
    """`raw` is sent as it is instead of a body with its right length, and the connection is cut after it."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server:
    """`answer` makes the replies; `hang()` makes every later request wait until `release()` or the end."""

    def __init__(self, authority: Authority, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        # The connections that are open, by the client's port.
        self.open: set[int] = set()
        self.arrived = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._sockets: list[socket.socket] = []
        self._http = _Http(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.cert_file, authority.key_file)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def hang(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def close(self) -> None:
        self._go.set()
        self._http.shutdown()
        for each in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                server._sockets.append(self.request)
                self.request.do_handshake()
                super().setup()
                server.open.add(self.client_address[1])

            def finish(self) -> None:
                super().finish()
                server.open.discard(self.client_address[1])

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(
                    self.command,
                    url.path,
                    dict(parse_qsl(url.query)),
                    headers,
                    self.rfile.read(length),
                    self.client_address[1],
                )
                server.asked.append(asked)
                server.arrived.set()
                server._go.wait()
                self._send(server.answer(asked))

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

            def _send(self, reply: Reply) -> None:
                if reply.raw is not None:
                    self.wfile.write(reply.raw)
                    self.close_connection = True
                    return
                body = reply.encoded()
                # With a Date only for what is reckoned by it: the clocks of tests are made up.
                dated = "Retry-After" in reply.headers
                (self.send_response if dated else self.send_response_only)(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        return Handler


class _Http(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """Clients that cut the connection or refuse the certificate are part of the tests."""

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError):
            super().shutdown_request(request)
        request.close()


@contextmanager
def serving(authority: Authority, *replies: Reply) -> Iterator[Server]:
    """A server that gives these replies in turn, the last one for ever."""
    waiting = list(replies) or [Reply(body={"data": []})]
    server = Server(authority, lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0])
    try:
        yield server
    finally:
        server.close()


@contextmanager
def playing(authority: Authority, parts: Mapping[str, list[Reply]]) -> Iterator[Server]:
    """A server that gives the replies of each path in turn, the last one for ever; 404 at any other."""
    waiting = {path: list(replies) for path, replies in parts.items()}

    def answer(asked: Asked) -> Reply:
        replies = waiting.get(asked.path, [Reply(404)])
        return replies.pop(0) if len(replies) > 1 else replies[0]

    server = Server(authority, answer)
    try:
        yield server
    finally:
        server.close()
