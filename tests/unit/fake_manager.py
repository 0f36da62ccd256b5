"""The service manager's end of sd_notify(3)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.unit.conftest import until


class FakeManager:
    """Listens at NOTIFY_SOCKET; `said` is every assignment so far."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = str(directory / "notify")
        self._heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(self.address)
        monkeypatch.setenv("NOTIFY_SOCKET", self.address)

    @property
    def said(self) -> list[str]:
        while True:
            try:
                self._heard += self._socket.recv(65536).decode().split("\n")
            except BlockingIOError:
                return self._heard

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        texts = [said.removeprefix("STATUS=") for said in self.said if said.startswith("STATUS=")]
        return texts[-1] if texts else ""

    async def hears(self, text: str) -> None:
        """Wait until an assignment contains a text."""
        await until(lambda: any(text in said for said in self.said))

    def close(self) -> None:
        self._socket.close()
