"""A world around the service whose bots are units of systemd: the whole parent on a private bus, with a fake systemd.

What bots say is handed to the fleet where it comes from those that were verified: what precedes that is no matter of
what is done with meshes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bus import Bus
from ravesvc.config.worker_settings import STABLE_AFTER_S, Edition
from ravesvc.core import reconciler as reconciler_module
from ravesvc.core import service as core_service_module
from ravesvc.core.mesh_state import usual_chat_form
from ravesvc.core.worker_status import WorkerStatus, read_status
from ravesvc.names import ExitStatus
from ravesvc.orchestrator import app as program_module
from ravesvc.orchestrator.app import Orchestrator
from tests.unit.bus_fakes import connected
from tests.unit.fake_systemd import DAEMON, DEAD, ROOT, RUNNING, FakeSystemd, FakeUnits, ended, settle
from tests.unit.scenarios.program_world import ProgramWorld
from tests.unit.scenarios.surroundings import BotState, signal_of, use_virtual_time, virtual_clock
from tests.unit.scenarios.virtual_time import VirtualTime, quiet
from tests.unit.scenarios.world import (
    MAX_RESTARTS,
    RESTART_DELAY_S,
    BotEvent,
    Connected,
)

_OPERATOR = "alice"
_SYSTEMD_NAME = "org.freedesktop.systemd1"
_MAX_ROUND_TRIPS = 1000
_CLEAN = {"NRestarts": 0, "ExecMainCode": 0, "ExecMainStatus": 0, "Result": "success"}


class _NoEdits:
    """Stands in the place of the watch on the blocklist's file, which takes one of the few that a machine has."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class _Process(BotState):
    """The process of a bot, as far as it answers when it is asked how it is."""

    edition: Edition = field(kw_only=True)
    begun: float = field(default_factory=VirtualTime.monotonic)

    def status(self) -> dict[str, Any]:
        return {
            "Connected": self.connected_since is not None,
            "ConnectedUSec": int(self.lasted * 1_000_000),
            "Attempts": self.attempts,
            "LastError": self.error,
            "ChatForm": self.chat_form,
            "Version": self.edition.version,
            "SettingsDigest": self.edition.digest,
        }


class _Systemd(FakeSystemd):
    """One that has processes: it starts them again when they crash, as often as rave-mesh@.service lets it."""

    def __init__(self, bus: Bus, world: ServiceWorld) -> None:
        super().__init__(bus)
        self._world = world
        self._crashes: dict[str, int] = {}  # in a row, by mesh

    def start(self, mesh: str) -> str:
        self.outcomes.setdefault(mesh, {**RUNNING, **_CLEAN})
        return super().start(mesh)

    def _queue(self, verb: str, mesh: str, begun: dict[str, Any], outcome: dict[str, Any]) -> str:
        self.jobs_wait = self._world.slow
        return super()._queue(verb, mesh, begun, outcome)

    def finish(self, mesh: str, result: str = "done") -> None:
        super().finish(mesh, result)
        if self.units[mesh][0].get("ActiveState") == "active":
            self._crashes.pop(mesh, None)
            self._world.process_started(mesh)

    def is_busy(self, mesh: str) -> bool:
        """Whether a unit has a job."""
        return any(waiting == mesh for waiting, _ in self._jobs.values())

    def end(self, mesh: str, status: ExitStatus, lasted: float) -> None:
        """The process of a unit ends after so many seconds, without an order to, or in the middle of its stop."""
        if self.is_busy(mesh):
            self._end_stop(mesh, status)
        elif status is ExitStatus.STOPPED:
            self.change(mesh, **DEAD, ExecMainCode=1, ExecMainStatus=0)
        elif status is ExitStatus.CRASHED:
            self._crash(mesh, lasted)
        else:
            self.change(mesh, **ended(status))

    def _end_stop(self, mesh: str, status: ExitStatus) -> None:
        (job,) = [job for job, (waiting, _) in self._jobs.items() if waiting == mesh]
        if status is not ExitStatus.STOPPED:
            # It has ended after it last left the state of a unit that has failed: systemd has not given it up.
            self._jobs[job] = (mesh, {**ended(status), "ExecMainExitTimestampMonotonic": 2})
        self.finish(mesh)

    def _crash(self, mesh: str, lasted: float) -> None:
        crashes = self._crashes[mesh] = 1 if lasted >= STABLE_AFTER_S else self._crashes.get(mesh, 0) + 1
        crash = ended(ExitStatus.CRASHED)
        if crashes > MAX_RESTARTS:
            self.change(mesh, **crash, NRestarts=crashes)
            return
        self.change(mesh, **{**crash, "SubState": "failed-before-auto-restart"})
        self.change(mesh, ActiveState="activating", SubState="auto-restart", NRestarts=crashes)
        asyncio.get_running_loop().call_later(RESTART_DELAY_S, self._restarted, mesh)

    def _restarted(self, mesh: str) -> None:
        unit, _ = self.units[mesh]
        if unit.get("SubState") == "auto-restart":
            self.change(mesh, **RUNNING)
            self._world.process_started(mesh)


class ServiceWorld(ProgramWorld):
    """See `World`."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, bus_address: str) -> None:
        super().__init__(directory, monkeypatch)
        self._address = bus_address
        self._machine = AsyncExitStack()
        self._systemd: _Systemd | None = None
        self._buses: list[Bus] = []
        self._sent = 0  # messages, by all of these, when nothing was under way
        self._started: list[str] = []  # the meshes whose bots have not said anything yet
        self._processes: dict[str, _Process] = {}
        self._edition = Edition("", "")
        use_virtual_time(monkeypatch, reconciler_module)
        monkeypatch.setattr(core_service_module, "Clock", virtual_clock)
        monkeypatch.setattr(program_module, "FileWatch", _NoEdits)

    # The program.

    async def _begin(self, program_settings: Any) -> None:
        systemd = self._systemd or await self._boot()
        bus, callers = [await Bus.connect(self._address) for _ in range(2)]
        self._buses, self._sent = [systemd.bus, bus], -1
        program = self._program = Orchestrator(program_settings, bus, callers)
        self._prepare(program._service)
        self._edition = program_settings.edition()
        program._runner._units = FakeUnits(systemd)  # type: ignore[assignment]
        program._runner.workers.status = self._status  # type: ignore[method-assign]
        await self._start_service()
        self._callers = callers

    async def _boot(self) -> _Systemd:
        """The machine starts, with its systemd."""
        (bus,) = await self._machine.enter_async_context(connected(self._address))
        systemd = self._systemd = _Systemd(bus, self)
        bus.export(ROOT, systemd)
        await bus.request_name(_SYSTEMD_NAME)
        return systemd

    async def _end(self) -> None:
        await self._program.close()
        _, bus = self._buses
        await bus.close()
        await self._callers.close()
        self._buses.remove(bus)

    async def shut_down(self) -> None:
        """The machine is switched off."""
        if self._systemd:
            # At once: the bus may find out about the end of a connection later than the next test begins.
            await self._systemd.bus.call(*DAEMON, "ReleaseName", "s", _SYSTEMD_NAME)
        await self._machine.aclose()

    async def _settle(self) -> None:
        for _ in range(_MAX_ROUND_TRIPS):
            await quiet()
            sent = sum(bus._serial for bus in self._buses)
            if sent != self._sent:
                # Twice: what one has sent before the first time the other has received before the second.
                for _ in range(2):
                    await settle(*self._buses)
                self._sent = sent + 2 * len(self._buses)
            elif self._started:
                self._first_words()
            else:
                return
        raise AssertionError("it never comes to rest")

    async def _status(self, mesh: str) -> WorkerStatus:
        return read_status(self._processes[mesh].status())

    # Bots.

    def process_started(self, mesh: str) -> None:
        """A unit is active."""
        self._bots[mesh] += 1
        self._processes[mesh] = _Process(edition=self._edition)
        self._started.append(mesh)

    def _first_words(self) -> None:
        """What bots say that have started. By then the service knows that they have: that takes longer to happen."""
        started, self._started = self._started, []
        for mesh in started:
            self._program._runner._heard(mesh, "Ready", [])
            if self.new_bots_connect:
                self._say(mesh, Connected())

    async def say(self, mesh: str, event: BotEvent) -> None:
        self._say(mesh, event)
        await self._settle()

    def _say(self, mesh: str, event: BotEvent) -> None:
        self._processes[mesh].says(event)
        if signal := signal_of(event):
            self._program._runner._heard(mesh, *signal)

    def _end_bot(self, mesh: str, status: ExitStatus) -> None:
        assert self._systemd
        self._systemd.end(mesh, status, VirtualTime.monotonic() - self._processes[mesh].begun)

    async def finish(self, mesh: str) -> None:
        assert self._systemd
        self.slow = False
        if self._systemd.is_busy(mesh):
            self._systemd.finish(mesh)
        await self._settle()

    def running(self) -> set[str]:
        assert self._systemd
        units = self._systemd.units.items()
        return {mesh for mesh, (unit, _) in units if unit.get("ActiveState") in ("active", "deactivating")}

    # The operator.

    async def hold(self, mesh: str) -> None:
        await self._service.reconciler.stop_mesh(mesh, _OPERATOR)
        await self._settle()

    async def release(self, mesh: str) -> None:
        await self._service.reconciler.start_mesh(mesh, _OPERATOR)
        await self._settle()

    async def outdate(self) -> None:
        for process in self._processes.values():
            process.edition = Edition("0.0.1", "")
        for mesh in self.running():
            self._service.reconciler.health.ask(mesh)
        await self._settle()

    def chat_form(self, mesh: str) -> str:
        return usual_chat_form(mesh, self._service.reconciler.records)
