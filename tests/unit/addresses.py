"""Addresses of a host that don't work, each in its own way, and a resolver that names them. All are on loopback."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

HOST = "localhost"
GOOD = "127.0.0.1"
# Nothing can be connected to it.
UNREACHABLE = "255.255.255.255"


def name_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have the resolver say that the host has these addresses, in this order."""
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: int, **options: int) -> object:
        if host != HOST:
            return real(host, port, *args, **options)
        found = []
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            where = (address, port, 0, 0) if ":" in address else (address, port)
            found.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@contextmanager
def swallowing(address: str, port: int) -> Iterator[None]:
    """An address that never answers: a listener with a queue that is full drops what comes in."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        filling = [socket.socket(family) for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect((address, port))
        try:
            yield
        finally:
            for each in filling:
                each.close()


@contextmanager
def handling(address: str, port: int, handle: Callable[[socket.socket], None]) -> Iterator[list[socket.socket]]:
    """An address where each connection gets `handle`, which may block; yields the connections so far."""
    taken: list[socket.socket] = []
    threads: list[threading.Thread] = []
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:

        def accept() -> None:
            while True:
                try:
                    made, _ = listener.accept()
                except OSError:
                    return
                taken.append(made)
                threads.append(threading.Thread(target=handle, args=(made,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for made in taken:
                with suppress(OSError):
                    made.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for made in taken:
                made.close()


def reset(made: socket.socket) -> None:
    """Cut a connection at once, without a word."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


def say_nothing(made: socket.socket) -> None:
    """Take all that comes until the other side hangs up."""
    with suppress(OSError):
        while made.recv(4096):
            pass
