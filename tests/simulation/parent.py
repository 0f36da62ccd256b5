"""The real service, `ravesvc.core.service`, with simulated clocks, Rave and runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol
from unittest.mock import patch

from ravesvc.api.models import Listing
from ravesvc.blocklist import model
from ravesvc.blocklist.model import BlocklistChange
from ravesvc.common.waiting import first_of
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import Edition
from ravesvc.core import command_packages, inventory, mesh_state, reconciler, service
from ravesvc.core.rave_client import RaveClient
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.core.service import BotService
from ravesvc.core.start_policy import StartPolicy
from ravesvc.errors import RaveError
from ravesvc.store.model import Host
from tests.simulation.clocks import Clocks
from tests.simulation.process import Process
from tests.simulation.rave import Rave, RaveApi
from tests.simulation.runner import SimulatedRunner
from tests.unit.scenarios.surroundings import SESSION

_HOST = Host(id="simulated", name="simulated")
# Fewer meshes are remembered than by the real service, or a fleet of this size would come to the bound in years only.
MAX_MEMORIES = 60
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


class Parent(BotService):
    """One life of the service, in a `process`. There are no bus and no store: its account is there from the start.

    Attributes:
        started: whether it has found the bots that run, and is not told to end.
        started_at: when it was made, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        settings: Config,
        rave: Rave,
        runner: SimulatedRunner,
        process: Process,
        clocks: Clocks,
        judge: Judge,
        edition: Callable[[], Edition],
    ) -> None:
        with (
            patch.object(service, "Clock", clocks.steady),
            patch.object(service, "StartPolicy", partial(StartPolicy, clock=clocks.monotonic, wall=clocks.wall)),
            patch.object(service, "RaveClient", partial(RaveClient, clock=clocks.monotonic)),
        ):
            super().__init__(settings, runner, _HOST, settings.state_path.with_name("commands.d"))
        self.rave._new_api = lambda *_args: RaveApi(rave, process.cross)  # type: ignore[method-assign,return-value,assignment]
        for part in (self.reconciler.health, self.reconciler._exit_policy, self.reconciler.reports):
            part._now = clocks.monotonic
        self.roll = RollingRestart(self.reconciler, edition())
        self.roll.ended.connect(judge.rolled)
        self.started_at = clocks.monotonic()
        self.started = False
        self._judge = judge
        self._process = process

    async def run(self) -> None:
        """Start, and work until it is stopped from outside; `start_blocklist` comes first."""
        self.account.session, self.account.obstacle = SESSION, None
        self._account_changed()
        await self.start()
        self.started = True
        await first_of(self.discovery.run(), self.reconciler.health.run(), self.blocklist.work())
        raise AssertionError("the work has ended by itself")

    async def start_blocklist(self) -> None:
        """Read what an earlier process has saved."""
        self.discovery.inventory.enter(self._scope.load())
        await self.blocklist.start()

    async def end(self) -> None:
        """End in good order."""
        self.begin_closing()
        await self.roll.close()
        await self.reconciler.close()
        await self.close()

    async def _read_list(self) -> Listing:
        self._judge.asked()
        listing = await super()._read_list()
        self._judge.listed(listing)
        return listing

    def _block_changed(self, change: BlocklistChange) -> None:
        if self._process.alive:
            self._judge.announced(change, saved=self.blocklist.save_error is None)
            super()._block_changed(change)


@contextmanager
def virtual_time(clocks: Clocks) -> Iterator[None]:
    """Have the core tell the time of the simulated machine."""
    with ExitStack() as stack:
        # Which packages are installed makes no difference here, and takes time to find out.
        stack.enter_context(patch.object(command_packages, "find", list))
        for module in _TELLS_TIME:
            stack.enter_context(patch.object(module, "time", clocks.module))
        stack.enter_context(patch.object(model, "_MAX_MEMORIES", MAX_MEMORIES))
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
