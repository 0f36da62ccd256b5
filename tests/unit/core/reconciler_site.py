"""A reconciler over a SystemdRunner, with a fake systemd, a private bus and a blocklist on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist import file as blockfile
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.file import BlockFile
from ravesvc.blocklist.model import Block, BlocklistChange, BlocklistModel
from ravesvc.bus import Bus
from ravesvc.common.steady_clock import Clock
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.core import reconciler as reconciler_module
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.plan import BotLimits
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.exit_notes import ExitNotes
from ravesvc.orchestrator.systemd_runner import SystemdRunner
from ravesvc.orchestrator.worker_log import log_news
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_systemd import (
    FakeSystemd,
    FakeUnits,
    settle,
    systemd_on,
)
from tests.unit.mesh.test_worker_object import FakeWorker

Run = Callable[[Any], Any]


def listed(*meshes: str) -> list[Mesh]:
    # Each on a server of its own.
    return [Mesh(mesh, f"{mesh[:8]}:1", "A film", True, (1,)) for mesh in meshes]


# Ourselves, as a user.
OWN = 900000001


class Site:
    """A fleet with its surroundings. `shown` is every state and reason that was told of a mesh."""

    def __init__(self, bus: Bus, systemd: FakeSystemd, path: Path, limit: int | None = None) -> None:
        self.bus = bus
        self.systemd = systemd
        self.path = path
        self.now = 1000.0
        self.units = FakeUnits(systemd)
        self.inventory = Inventory()
        self.clock = Clock(wall=lambda: self.now, boottime=lambda: self.now, boot="b")
        self.changes: list[BlocklistChange] = []
        self.blocklist = Blocklist(
            path,
            60.0,
            self.clock,
            announce=self._announced,
            changed=lambda: None,
            title_of=lambda mesh: self.reconciler.title(mesh),
            retry_s=3600,
        )
        self.shown: list[tuple[str, str, str]] = []
        self.left: list[str] = []
        self.rave_answers = True
        self.watchers: list[Callable[[MeshState], None]] = []
        self.verified: dict[str, str] = {}
        self.bots: dict[str, FakeWorker] = {}
        self.starts = StartPolicy("api.test", 0)
        self.runner = SystemdRunner(
            bus,
            self.units,  # type: ignore[arg-type]
            ExitNotes(path.with_name("ended")),
            stop_limit_s=15.0,
        )
        self.reconciler = Reconciler(
            runner=self.runner,
            inventory=self.inventory,
            blocklist=self.blocklist,
            limits=lambda: BotLimits(limit),
            interval=30.0,
            changed=self._changed,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: OWN,
            starts=self.starts,
            advice=FOR_SERVICE,
        )
        self.reconciler.reports.news.connect(log_news)
        self.runner.workers._unit_of = self._unit_of  # type: ignore[method-assign]

    async def _unit_of(self, sender: str) -> str:
        return self.verified[sender]

    def _changed(self, record: MeshState) -> None:
        if record.mesh in self.reconciler.records:
            self.shown.append((record.mesh, record.state, record.reason))
        for watcher in self.watchers:
            watcher(record)

    def _announced(self, change: BlocklistChange) -> None:
        self.changes.append(change)
        self.reconciler.block_changed(change)

    async def _leave(self, mesh: str) -> None:
        self.left.append(mesh)

    async def _answers(self) -> bool:
        await asyncio.sleep(0)
        return self.rave_answers

    def discover(self, *meshes: str) -> None:
        self.inventory.observe(listed(*meshes))
        self.reconciler.reconcile()

    async def begin(self, *meshes: str) -> None:
        """The fleet starts, and discovery has found these meshes."""
        await self.reconciler.start()
        self.discover(*meshes)
        await self.idle()

    async def state(self, mesh: str, state: str) -> None:
        await until(lambda: mesh in self.reconciler.records and self.reconciler.records[mesh].state == state)

    async def idle(self) -> None:
        """Everything has been said, and nothing is being done."""
        for _ in range(2):
            await settle(self.systemd.bus, self.bus)
            await until(lambda: not self.reconciler._tasks and not self.reconciler.health._asking)
            await until(lambda: not self.blocklist._unannounced and not self.blocklist._io.locked())
            await settle(self.systemd.bus, self.bus)
        assert not self.reconciler._tasks

    def saved(self) -> BlocklistModel:
        return (
            blockfile.from_json(self.path.read_text(), "it", self.clock) if self.path.exists() else BlocklistModel()
        )

    def on_disk(self) -> dict[str, Block]:
        return {block.mesh: block for block in self.saved()}

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.blocklist._expire()

    async def bot(self, bus: Bus, mesh: str) -> FakeWorker:
        """The bot of a mesh on the bus."""
        self.verified[bus.unique_name] = names.mesh_unit(mesh)
        bot = self.bots[mesh] = FakeWorker()
        bus.export(names.worker_path(mesh), bot)
        await bus.request_name(names.worker_name(mesh))
        return bot


@contextlib.asynccontextmanager
async def site_on(address: str, directory: Path, limit: int | None = None) -> AsyncIterator[Site]:
    async with systemd_on(address) as systemd, connected(address) as (bus,):
        site = Site(bus, systemd, directory / "blocklist.json", limit)
        await site.blocklist.start()
        try:
            yield site
        finally:
            await site.reconciler.close()
            await site.blocklist.close()


def no_space(_: BlockFile, blocklist: BlocklistModel) -> None:
    """In the place of `BlockFile.save`."""
    raise RaveError(Code.BAD_FILE, "it can't be written: No space left on device")


def with_users(mesh: str, *users: int) -> list[Mesh]:
    return [Mesh(mesh, None, "", True, tuple(users))]


# What may change between a decision and its turn.


@contextlib.asynccontextmanager
async def no_turn(site: Site) -> AsyncIterator[None]:
    """Others are being started, as many as may be at a time."""
    async with contextlib.AsyncExitStack() as turns:
        for _ in range(reconciler_module._STARTS_AT_ONCE):
            await turns.enter_async_context(site.reconciler._turn)
        yield


async def kick(site: Site, bus: Bus, mesh: str) -> None:
    """The bot says so, and still has its process."""
    bot = await site.bot(bus, mesh)
    bot.emit("Kicked")
    await until(lambda: mesh in site.on_disk())
