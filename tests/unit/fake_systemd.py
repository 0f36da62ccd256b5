"""systemd on a private bus, as far as the parent looks at it: its manager and `rave-mesh@` units, and their jobs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fnmatch
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, allow_all, method
from tests.unit.bus_fakes import connected

ROOT = "/org/freedesktop/systemd1"
DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

RUNNING = {"ActiveState": "active", "SubState": "running", "MainPID": 100}
# The same in every process: pytest-xdist compares the names of tests.
MESH = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
OTHER = "9f8e7d6c-5b4a-4f3e-8d2c-1b0a4f3e2d1c"

DEAD = {"ActiveState": "inactive", "SubState": "dead", "MainPID": 0}


def new_mesh() -> str:
    return str(uuid.uuid4())


def ended(status: int, code: int = 1) -> dict[str, Any]:
    """The properties of a unit that has failed for good."""
    result = "exit-code" if code == 1 else "signal"
    exited = {"ExecMainCode": code, "ExecMainStatus": status, "Result": result}
    return {"ActiveState": "failed", "SubState": "failed", "MainPID": 0, **exited}


async def settle(*buses: Bus) -> None:
    """What these connections have sent is with the daemon, and what it sent to them before has been handled."""
    await asyncio.sleep(0)
    for bus in buses:
        await bus.call(*DAEMON, "GetId")


def process_of(pidfd: int) -> int:
    """The process id that a process descriptor stands for."""
    described = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return next(int(line.split()[1]) for line in described.splitlines() if line.startswith("Pid:"))


class UnitObject(Interface):
    interface = "org.freedesktop.systemd1.Unit"
    properties: ClassVar = {
        "ActiveState": "s",
        "SubState": "s",
        "Job": "(uo)",
        "ActiveEnterTimestamp": "t",
        "InactiveExitTimestampMonotonic": "t",
    }


class JobObject(Interface):
    interface = "org.freedesktop.systemd1.Job"
    properties: ClassVar = {"JobType": "s"}


class ServiceObject(Interface):
    interface = "org.freedesktop.systemd1.Service"
    properties: ClassVar = {
        "MainPID": "u",
        "NRestarts": "u",
        "Result": "s",
        "ExecMainCode": "i",
        "ExecMainStatus": "i",
        "ExecMainExitTimestampMonotonic": "t",
        "StatusText": "s",
    }


class FakeSystemd(Interface):
    """Owns org.freedesktop.systemd1. A job ends at once, as `outcomes` says, or in `finish` while `jobs_wait`."""

    interface = "org.freedesktop.systemd1.Manager"
    signals: ClassVar = {
        "JobNew": {"id": "u", "job": "o", "unit": "s"},
        "JobRemoved": {"id": "u", "job": "o", "unit": "s", "result": "s"},
        "UnitRemoved": {"id": "s", "unit": "o"},
        "Reloading": {"active": "b"},
    }

    def __init__(self, bus: Bus) -> None:
        super().__init__(allow_all)
        self.bus = bus
        self.units: dict[str, tuple[UnitObject, ServiceObject]] = {}
        self.asked: list[str] = []
        self.verbs: list[tuple[str, str]] = []
        self.jobs_wait = False
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.unit_of_process: dict[int, str] = {}
        self.target = UnitObject(allow_all)
        self.target.set(ActiveState="active")
        self.parent = UnitObject(allow_all)
        self.parent.set(ActiveState="active", Job=[0, "/"])
        for name, unit in ((names.TARGET_UNIT, self.target), (names.ORCHESTRATOR_UNIT, self.parent)):
            bus.export(f"{ROOT}/unit/{names.escape(name)}", unit)
        self._jobs: dict[str, tuple[str, dict[str, Any]]] = {}
        self._serial = 0

    # What a test does.

    def load(self, mesh: str, **properties: Any) -> None:
        """A unit is loaded."""
        unit, service = self.units[mesh] = UnitObject(allow_all), ServiceObject(allow_all)
        service.set(Result="success")
        self._set(mesh, {**DEAD, **properties})
        self.bus.export(self.path(mesh), unit, service)

    def change(self, mesh: str, **properties: Any) -> None:
        """A unit changes; the properties of the service are announced first, as systemd does."""
        self._set(mesh, properties)
        unit, service = self.units[mesh]
        service._announce_changes()
        unit._announce_changes()

    def order_parent(self, verb: str) -> None:
        """The parent's own unit gets a job."""
        job = f"{ROOT}/job/9"
        described = JobObject(allow_all)
        described.set(JobType=verb)
        self.bus.export(job, described)
        self.parent.set(Job=[9, job])

    def move_target(self) -> None:
        """The target is stopped and comes back."""
        self.emit("JobNew", 7, f"{ROOT}/job/7", names.TARGET_UNIT)

    def unload(self, mesh: str) -> None:
        """A unit is collected."""
        del self.units[mesh]
        self.bus.unexport(self.path(mesh))
        self.emit("UnitRemoved", names.mesh_unit(mesh), self.path(mesh))

    def finish(self, mesh: str, result: str = "done") -> None:
        """The job of a unit ends. The change of the unit is announced before the end of the job, as systemd does."""
        job = next(job for job, (waiting, _) in self._jobs.items() if waiting == mesh)
        _, outcome = self._jobs.pop(job)
        self.bus.unexport(job)
        self.change(mesh, **outcome, Job=[0, "/"])
        self.emit("JobRemoved", int(job.rpartition("/")[2]), job, names.mesh_unit(mesh), result)

    def start(self, mesh: str) -> str:
        """Queue a start job."""
        if mesh not in self.units:
            self.load(mesh)
        begun = {"ActiveState": "activating", "SubState": "start"}
        return self._queue("start", mesh, begun, self.outcomes.get(mesh, RUNNING))

    def stop(self, mesh: str) -> str:
        """Queue a stop job."""
        if mesh == names.TARGET_UNIT:
            self.verbs.append(("stop", mesh))
            return f"{ROOT}/job/8"
        unit, _ = self.units[mesh]
        if unit.get("ActiveState") == "failed":
            # As systemd does: there is nothing to stop, and the failure stays until it is reset.
            return self._queue("stop", mesh, {}, {})
        return self._queue("stop", mesh, {"ActiveState": "deactivating", "SubState": "stop-sigterm"}, DEAD)

    def restart(self, mesh: str) -> str:
        """Queue a restart job."""
        begun = {"ActiveState": "deactivating", "SubState": "stop-sigterm", "MainPID": 0}
        return self._queue("restart", mesh, begun, self.outcomes.get(mesh, {**RUNNING, "MainPID": 101}))

    def reset_failed(self, mesh: str) -> None:
        """A failed unit counts as dead again."""
        self.verbs.append(("reset-failed", mesh))
        self.change(mesh, ActiveState="inactive", SubState="dead", Result="success")

    @staticmethod
    def path(mesh: str) -> str:
        return f"{ROOT}/unit/{names.escape(names.mesh_unit(mesh))}"

    def _set(self, mesh: str, properties: dict[str, Any]) -> None:
        for each in self.units[mesh]:
            each.set(**{name: value for name, value in properties.items() if name in each.properties})

    def _queue(self, verb: str, mesh: str, begun: dict[str, Any], outcome: dict[str, Any]) -> str:
        self.verbs.append((verb, mesh))
        self._serial += 1
        job = f"{ROOT}/job/{self._serial}"
        self._jobs[job] = (mesh, outcome)
        described = JobObject(allow_all)
        described.set(JobType=verb)
        self.bus.export(job, described)
        self.emit("JobNew", self._serial, job, names.mesh_unit(mesh))
        self.change(mesh, **begun, Job=[self._serial, job])
        if not self.jobs_wait:
            # After the reply.
            asyncio.get_running_loop().call_soon(self.finish, mesh)
        return job

    # What the parent calls.

    @method()
    async def subscribe(self, call: Call) -> None:
        self.asked.append("Subscribe")

    @method(takes={"states": "as", "patterns": "as"}, returns={"units": "a(ssssssouso)"})
    async def list_units_by_patterns(self, call: Call, states: list[str], patterns: list[str]) -> list[Any]:
        self.asked.append("ListUnitsByPatterns")
        (pattern,) = patterns
        return [
            [name, "", "loaded", unit.get("ActiveState"), unit.get("SubState"), "", self.path(mesh), job, "", at]
            for mesh, (unit, _) in self.units.items()
            if fnmatch.fnmatch(name := names.mesh_unit(mesh), pattern)
            for job, at in [unit.get("Job")]
        ]

    @method(takes={"name": "s"}, returns={"unit": "o"})
    async def load_unit(self, call: Call, name: str) -> str:
        if name in (names.TARGET_UNIT, names.ORCHESTRATOR_UNIT):
            return f"{ROOT}/unit/{names.escape(name)}"
        mesh = names.mesh_of_unit(name)
        assert mesh
        if mesh not in self.units:
            self.load(mesh)
        return self.path(mesh)

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def start_unit(self, call: Call, name: str, mode: str) -> str:
        return self.start(names.mesh_of_unit(name) or "")

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def stop_unit(self, call: Call, name: str, mode: str) -> str:
        return self.stop(names.mesh_of_unit(name) or name)

    @method(takes={"name": "s", "mode": "s"}, returns={"job": "o"})
    async def restart_unit(self, call: Call, name: str, mode: str) -> str:
        return self.restart(names.mesh_of_unit(name) or "")

    @method(takes={"name": "s"})
    async def reset_failed_unit(self, call: Call, name: str) -> None:
        self.reset_failed(names.mesh_of_unit(name) or "")

    @method(takes={"pidfd": "h"}, returns={"unit": "o", "unit_id": "s", "invocation_id": "ay"})
    async def get_unit_by_pidfd(self, call: Call, pidfd: int) -> tuple[str, str, bytes]:
        unit = self.unit_of_process[process_of(pidfd)]
        return f"{ROOT}/unit/{names.escape(unit)}", unit, bytes(16)


# A name that CamelCase does not give.
FakeSystemd.methods["GetUnitByPIDFD"] = dataclasses.replace(
    FakeSystemd.methods.pop("GetUnitByPidfd"), name="GetUnitByPIDFD"
)


class FakeUnits:
    """`unit_control.Units` without its helper process; a verb fails once for each error in `errors`."""

    def __init__(self, systemd: FakeSystemd) -> None:
        self.errors: list[Exception] = []
        self._systemd = systemd

    async def start(self, unit: str) -> str:
        await self._next_turn()
        if unit.startswith("rave-kill@"):
            self._systemd.verbs.append(("kill", unit.removeprefix("rave-kill@").removesuffix(".service")))
            return f"{ROOT}/job/6"
        return self._systemd.start(names.mesh_of_unit(unit) or "")

    async def stop(self, unit: str) -> str:
        await self._next_turn()
        return self._systemd.stop(names.mesh_of_unit(unit) or unit)

    async def restart(self, unit: str) -> str:
        await self._next_turn()
        return self._systemd.restart(names.mesh_of_unit(unit) or "")

    async def reset_failed(self, unit: str) -> None:
        await self._next_turn()
        self._systemd.reset_failed(names.mesh_of_unit(unit) or "")

    async def _next_turn(self) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)


S = TypeVar("S", bound=FakeSystemd)


@contextlib.asynccontextmanager
async def systemd_on(address: str, make: Callable[[Bus], S] = FakeSystemd) -> AsyncIterator[S]:  # type: ignore[assignment]
    """A systemd on a bus."""
    async with connected(address) as (bus,):
        systemd = make(bus)
        bus.export(ROOT, systemd)
        await bus.request_name("org.freedesktop.systemd1")
        yield systemd


def with_process_fd(bus: Bus, processes: dict[str, int]) -> None:
    """Let a connection believe that its daemon tells processes, as it does from 1.15 on.

    `processes` has the process id of connections by unique name.
    """
    real = bus.call

    async def call(*args: Any, **named: Any) -> list[Any]:
        reply = await real(*args, **named)
        if args[3] == "GetConnectionCredentials" and args[5] in processes:
            reply[0]["ProcessFD"] = os.pidfd_open(processes[args[5]])
        return reply

    bus.call = call  # type: ignore[method-assign]
