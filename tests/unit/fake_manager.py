"""The service manager's end of sd_notify(3)."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path

import pytest

from tests.unit.conftest import until


class FakeManager:
    """Listens at NOTIFY_SOCKET; `said` is every assignment so far.

    A thread reads at once, as the real one does: the kernel may queue as few as ten datagrams, and what does not fit
    is dropped.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = str(directory / "notify")
        self._heard: list[str] = []
        self._draining = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self.address)
        self._end, self._ended = socket.socketpair()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        monkeypatch.setenv("NOTIFY_SOCKET", self.address)

    def _read(self) -> None:
        while self._ended not in select.select([self._socket, self._ended], [], [])[0]:
            self._drain()

    def _drain(self) -> None:
        with self._draining, contextlib.suppress(BlockingIOError):
            while True:
                self._heard += self._socket.recv(65536).decode().split("\n")

    @property
    def said(self) -> list[str]:
        self._drain()
        return self._heard

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        return self.statuses[-1] if self.statuses else ""

    @property
    def statuses(self) -> list[str]:
        """Every status so far."""
        return [said.removeprefix("STATUS=") for said in self.said if said.startswith("STATUS=")]

    async def hears(self, text: str) -> None:
        """Wait until an assignment contains a text."""
        await until(lambda: any(text in said for said in self.said))

    def close(self) -> None:
        self._end.close()
        self._reader.join()
        self._ended.close()
        self._socket.close()
