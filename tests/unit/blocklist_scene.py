"""A blocklist on a disk and a clock that a test moves, and hands that edit its file."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import BlocklistChange, BlocklistModel
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.steady_clock import Clock
from tests.unit.conftest import until

MESH = "11111111-2222-4333-8444-555555555555"


OTHER = "22222222-2222-4333-8444-555555555555"


THIRD = "33333333-2222-4333-8444-555555555555"


HOUR = 3600


NONE: Mapping[str, Mapping[str, Any]] = {}


class Machine:
    """Its two clocks, in seconds; they stand still until a test moves them."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.boottime = 5000.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, boottime=lambda: self.boottime, boot="this")

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds


class Scene:
    """A blocklist, and what is heard of it."""

    def __init__(
        self,
        path: Path,
        *,
        duration: float = 60,
        machine: Machine | None = None,
        retry: float = HOUR,
        pace: float = 0.01,
    ) -> None:
        self.path = path
        self.heard: list[BlocklistChange] = []
        self.on_disk: list[set[str]] = []
        self.changes = 0
        self.titles: dict[str, str] = {}
        self.blocks = Blocklist(
            path,
            duration,
            machine.clock() if machine else Clock(),
            announce=self._announce,
            changed=self._changed,
            title_of=lambda mesh: self.titles.get(mesh, ""),
            retry_s=retry,
            save_delay_s=pace,
        )

    def _announce(self, change: BlocklistChange) -> None:
        self.heard.append(change)
        self.on_disk.append(set(entries(self.path)))

    def _changed(self) -> None:
        self.changes += 1

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(change.block.mesh, change.what.value, change.actor) for change in self.heard]

    async def __aenter__(self) -> Scene:
        await self.blocks.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.blocks.close()

    async def settled(self) -> None:
        """Everything that has changed is saved."""
        await until(lambda: not (self.blocks._scheduled_save or self.blocks._dirty or self.blocks._io.locked()))


def read(path: Path) -> str:
    return path.read_text()


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def names(path: Path) -> list[str]:
    """What is in the directory of the file."""
    return sorted(entry.name for entry in path.parent.iterdir())


def entries(path: Path) -> dict[str, Any]:
    """The entries in the file; none without a file."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())["blockedMeshes"]
    except FileNotFoundError:
        return {}
    return found


def edit(path: Path, base: str, changes: Mapping[str, Mapping[str, Any]] = NONE, *, without: str = "") -> None:
    """Save `base` in an editor, with entries taken out, and changed or put in by mesh id."""
    document = json.loads(base)
    document["blockedMeshes"].pop(without, None)
    for mesh, values in changes.items():
        entry = {"reason": "operator", "blockedAt": 1_700_000_000_000, "blockedUntil": None}
        document["blockedMeshes"][mesh] = document["blockedMeshes"].get(mesh, entry) | values
    path.write_text(json.dumps(document))


def damaged(path: Path) -> list[str]:
    return [kept.read_text() for kept in sorted(path.parent.glob("blocklist.json.damaged-*"))]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


class Disk:
    """Counts the saves; holds each of them until a test lets it go, or lets it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.attempts = 0
        self.full = False
        # Edits of the file just before it is written, one each time.
        self.edits: list[Callable[[], object]] = []
        self.free = threading.Event()
        self.free.set()
        self._save = BlockFile.save
        monkeypatch.setattr(BlockFile, "save", lambda file, blocklist: self._slow(file, blocklist))
        monkeypatch.setattr(blockfile, "write_atomically", self._write)

    def _slow(self, file: BlockFile, blocklist: BlocklistModel) -> None:
        self.begun += 1
        assert self.free.wait(60)
        self._save(file, blocklist)

    def _write(self, path: Path, content: bytes, mode: int, *, check: Callable[[], object]) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if path.suffix == ".json" and self.edits:
            self.edits.pop(0)()
        write_atomically(path, content, mode, check=check)

    @contextlib.asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """What is saved meanwhile takes until the end of this."""
        self.free.clear()
        try:
            yield
        finally:
            self.free.set()
