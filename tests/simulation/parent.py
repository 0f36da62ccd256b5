"""The service around the real core: wired as in `ravesvc.core.service`, but for store, account and bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

from ravesvc.api.models import Listing
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import BlocklistChange, Reason, What
from ravesvc.common.waiting import first_of
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Edition
from ravesvc.core import inventory, mesh_state, reconciler
from ravesvc.core.inventory import Discovery
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.reconciler import Reconciler
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.scope_file import ScopeFile
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import Code, RaveError
from tests.simulation.clocks import Clocks
from tests.simulation.process import Process
from tests.simulation.rave import Rave, RaveApi
from tests.simulation.runner import SimulatedRunner
from tests.unit.scenarios.surroundings import SESSION
from tests.unit.scenarios.world import OWN

_SETTLING_S = 0.2
_TELLS_TIME = (inventory, mesh_state, reconciler)


class Judge(Protocol):
    """Hears what the service says of itself."""

    def announced(self, change: BlocklistChange, *, saved: bool) -> None:
        """A change of the blocklist was announced."""

    def asked(self) -> None:
        """Rave is asked for a list."""

    def listed(self, listing: Listing) -> None:
        """A list was read."""

    def rolled(self, error: RaveError | None) -> None:
        """A roll is over."""


class Parent:
    """One life of the service, in a `process`."""

    def __init__(
        self,
        settings: Config,
        directory: Path,
        rave: Rave,
        runner: SimulatedRunner,
        process: Process,
        clocks: Clocks,
        judge: Judge,
        edition: Callable[[], Edition],
    ) -> None:
        self.blocklist = Blocklist(
            settings.blocklist_persist_path,
            settings.blocklist_duration,
            clocks.steady(),
            announce=self._block_changed,
            changed=self._blocklist_changed,
        )
        self.starts = StartPolicy(
            settings.servers.api_host, settings.starts_per_minute, clock=clocks.monotonic, wall=clocks.wall
        )
        self.client = RaveClient(settings, self.starts.pauses, clock=clocks.monotonic)
        self.client._new_api = lambda *_args: RaveApi(rave, process.cross)  # type: ignore[method-assign,return-value,assignment]
        self.scope = ScopeFile(directory / "discovery.json")
        self.discovery = Discovery(self._meshes, settings.discovery_interval, self._round_ended)
        self.discovery.hold(RaveError(Code.NOT_RUNNING, "the service is still starting"))
        self.reconciler = Reconciler(
            runner=runner,
            inventory=self.discovery.inventory,
            blocklist=self.blocklist,
            limit=settings.max_processes,
            interval=settings.status_poll_interval,
            changed=self._show,
            leave=self._leave,
            answers=self._answers,
            own_user=lambda: OWN,
            starts=self.starts,
            advice=settings.advice,
        )
        for part in (self.reconciler.health, self.reconciler._exit_policy, self.reconciler.reports):
            part._now = clocks.monotonic
        self.roll = RollingRestart(self.reconciler, edition())
        self.roll.ended.connect(judge.rolled)
        self.started_at = clocks.monotonic()
        self.started = False
        self._judge = judge
        self._process = process
        self._edits_unread = False
        self._rereading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Start, and work until it is stopped from outside; `start_blocklist` comes first."""
        await self._start()
        await first_of(self.discovery.run(), self.reconciler.health.run(), self.blocklist.work())
        raise AssertionError("the work has ended by itself")

    async def start_blocklist(self) -> None:
        """Read what an earlier process has saved."""
        self.discovery.inventory.enter(self.scope.load())
        await self.blocklist.start()

    async def _start(self) -> None:
        self.client.use(SESSION)
        self.discovery.inventory.enter(self.client.scope)
        await self.reconciler.start()
        self.started = True
        self.discovery.session_changed()
        self._discover_if_possible()

    async def close(self) -> None:
        """End in good order."""
        await self.roll.close()
        await self.reconciler.close()
        await self.client.close()
        if self._rereading:
            await asyncio.wait([self._rereading])
        await self.blocklist.close()

    def edited(self) -> None:
        """The file of the blocklist was touched."""
        self._edits_unread = True
        if self._rereading is None or self._rereading.done():
            self._rereading = asyncio.create_task(self._reread())

    async def _reread(self) -> None:
        while self._edits_unread:
            await asyncio.sleep(_SETTLING_S)
            self._edits_unread = False
            await self.blocklist.reload()

    async def _answers(self) -> bool:
        return not self.blocklist.error and not self.discovery.error and await self.discovery.check()

    async def _meshes(self) -> Listing:
        await self.scope.keep(self.discovery.inventory.scope)
        self._judge.asked()
        listing = await self.client.meshes(self.reconciler.enough)
        self._judge.listed(listing)
        return listing

    async def _leave(self, mesh: str) -> None:
        await self.client.leave(mesh)
        self.discovery.ask()

    def _discover_if_possible(self) -> None:
        if self.blocklist.error:
            self.discovery.hold(self.blocklist.error)
        elif self.started:
            self.discovery.release()

    def _blocklist_changed(self) -> None:
        if self.blocklist.error is not self.discovery.obstacle and self.started:
            self._discover_if_possible()

    def _block_changed(self, change: BlocklistChange) -> None:
        if not self._process.alive:
            return
        self._judge.announced(change, saved=self.blocklist.save_error is None)
        if change.what is What.BLOCKED and change.block.reason is Reason.LEFT:
            self.discovery.ask()
        self.reconciler.block_changed(change)

    def _round_ended(self) -> None:
        if self.discovery.listed:
            self.reconciler.reconcile()

    def _show(self, record: MeshState) -> None:
        self.roll.mesh_changed(record)


@contextmanager
def virtual_time(clocks: Clocks) -> Iterator[None]:
    """Have the core tell the time of the simulated machine."""
    with ExitStack() as stack:
        for module in _TELLS_TIME:
            stack.enter_context(patch.object(module, "time", clocks.module))
        yield


def sizes(part: Any) -> dict[str, int]:
    """How much each collection holds that is reachable from an object of the service, by its path."""
    found: dict[str, int] = {}
    _measure(part, type(part).__name__, found, {id(part)}, 0)
    return found


def _measure(value: Any, path: str, found: dict[str, int], seen: set[int], depth: int) -> None:
    if isinstance(value, dict | set | list):
        found[path] = len(value)
        return
    if depth > 4 or not type(value).__module__.startswith("ravesvc."):
        return
    for name, part in getattr(value, "__dict__", {}).items():
        if id(part) not in seen:
            seen.add(id(part))
            _measure(part, f"{path}.{name}", found, seen, depth + 1)
