"""A small HTTP proxy for CONNECT, on 127.0.0.1, in a thread of its own for each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.unit.addresses import handling


class ConnectProxy:
    """Connects what asks for it to loopback, whatever host it asks for; with `answer` it says that and hangs up.

    `asked` has the requests so far, as they arrived.
    """

    def __init__(self, answer: bytes | None) -> None:
        self.asked: list[str] = []
        self.port = 0
        self._answer = answer

    def handle(self, made: socket.socket) -> None:
        with suppress(OSError):
            request = _head(made)
            self.asked.append(request)
            if self._answer is not None:
                made.sendall(self._answer)
                made.shutdown(socket.SHUT_WR)
                return
            port = int(request.split()[1].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as server:
                made.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
                back = threading.Thread(target=_pump, args=(server, made))
                back.start()
                _pump(made, server)
                back.join()


@contextmanager
def proxying(answer: bytes | None = None) -> Iterator[ConnectProxy]:
    """A proxy that works, or one that gives this answer to everything."""
    proxy = ConnectProxy(answer)
    with socket.create_server(("127.0.0.1", 0)) as free:
        proxy.port = free.getsockname()[1]
    with handling("127.0.0.1", proxy.port, proxy.handle):
        yield proxy


def _head(made: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data and (more := made.recv(4096)):
        data += more
    return data.decode()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
