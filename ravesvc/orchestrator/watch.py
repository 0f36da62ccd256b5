"""What systemd says of the `rave-mesh@` units, as it happens: nothing is polled (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, Signal
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.unit import UnitState

log = logging.getLogger(__name__)

_SYSTEMD = "org.freedesktop.systemd1"
_ROOT = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_UNIT_PREFIX = f"{_ROOT}/unit/"
_SERVICE = "org.freedesktop.systemd1.Service"

# systemd's property -> our field.
_FIELDS = {
    "ActiveState": "active",
    "SubState": "sub",
    "Result": "result",
    "ExecMainCode": "exec_main_code",
    "ExecMainStatus": "exec_main_status",
    "MainPID": "main_pid",
    "NRestarts": "n_restarts",
}

# Results of jobs that ended before anybody asked for them.
_JOBS_KEPT = 256


class UnitWatch:
    """Keeps the state of every `rave-mesh@` unit, and tells each change."""

    def __init__(self, bus: Bus, changed: Callable[[str, UnitState], None]) -> None:
        self._bus = bus
        self._changed = changed
        self._states: dict[str, UnitState] = {}
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._signals: Counter[str] = Counter()  # how many have told of a mesh's unit
        self._reloading_now = False
        self._relist_due = False
        self._relisting: asyncio.Task[None] | None = None

    @property
    def states(self) -> dict[str, UnitState]:
        """The state of every loaded unit, by mesh id."""
        return self._states

    def state(self, mesh: str) -> UnitState:
        """The state of a mesh's unit; that of no unit when systemd has none loaded."""
        return self._states.get(mesh, UnitState())

    async def start(self) -> None:
        """Subscribe first, then list: what happens in between is not missed. Raises `RaveError` (Bus, Timeout)."""
        # One rule for all units of the machine: a rule for each mesh would exceed the bus's 512 in a large fleet,
        # and other units change seldom.
        rule = f"type='signal',sender='{_SYSTEMD}',interface='{_PROPERTIES}',path_namespace='{_ROOT}/unit'"
        await self._bus.match(rule, self._properties_changed)
        for member, handler in (
            ("JobRemoved", self._job_removed),
            ("UnitRemoved", self._unit_removed),
            ("Reloading", self._reloading),
        ):
            rule = f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}',member='{member}',path='{_ROOT}'"
            await self._bus.match(rule, handler)
        await self._bus.call(_SYSTEMD, _ROOT, _MANAGER, "Subscribe")
        await self.relist()

    async def relist(self) -> None:
        """Read the state of all units anew."""
        signals = self._signals.copy()
        known = set(self._states)
        (units,) = await self._bus.call(
            _SYSTEMD, _ROOT, _MANAGER, "ListUnitsByPatterns", "asas", [], [names.MESH_UNIT_PATTERN]
        )
        listed = {mesh: (unit[3], unit[4]) for unit in units if (mesh := names.mesh_of_unit(unit[0]))}
        for mesh, (active, sub) in listed.items():
            await self._read(mesh, active, sub, signals[mesh])
        for mesh in known - listed.keys():
            if self._signals[mesh] == signals[mesh]:
                self._store(mesh, UnitState())

    async def close(self) -> None:
        """Read no more."""
        if self._relisting:
            self._relisting.cancel()
            await asyncio.gather(self._relisting, return_exceptions=True)

    async def job(self, path: str, mesh: str, timeout: float) -> UnitState:  # noqa: ASYNC109 - a D-Bus-like time-out
        """Wait for the end of a job, then read the unit: a job's result alone is not the truth.

        Raises `RaveError` (Timeout, Bus).
        """
        if path not in self._ended:
            ended = self._jobs.setdefault(path, asyncio.get_running_loop().create_future())
            try:
                await asyncio.wait_for(asyncio.shield(ended), timeout)
            except TimeoutError as e:
                unit = names.mesh_unit(mesh)
                raise RaveError(
                    Code.TIMEOUT, f"systemd has not finished with {unit} after {timeout:g} s", mesh=mesh
                ) from e
            finally:
                self._jobs.pop(path, None)
        self._ended.pop(path, None)
        signals = self._signals[mesh]
        path = await self._unit_path(mesh)
        active = await self._get(path, "org.freedesktop.systemd1.Unit", "ActiveState")
        sub = await self._get(path, "org.freedesktop.systemd1.Unit", "SubState")
        await self._read(mesh, active, sub, signals)
        return self.state(mesh)

    async def _unit_path(self, mesh: str) -> str:
        (path,) = await self._bus.call(_SYSTEMD, _ROOT, _MANAGER, "LoadUnit", "s", names.mesh_unit(mesh))
        return str(path)

    async def _get(self, path: str, interface: str, name: str) -> Any:
        (value,) = await self._bus.call(_SYSTEMD, path, _PROPERTIES, "Get", "ss", interface, name)
        return value

    async def _read(self, mesh: str, active: str, sub: str, signals: int) -> None:
        """Complete a listed state with what a list does not tell; single properties, because GetAll has hundreds.

        A signal that has arrived since there were `signals` brings all of them, and newer ones: then what was read
        is dropped.
        """
        path = _UNIT_PREFIX + names.escape(names.mesh_unit(mesh))
        values: dict[str, Any] = {"ActiveState": active, "SubState": sub}
        for name in ("MainPID", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus"):
            values[name] = await self._get(path, _SERVICE, name)
        if self._signals[mesh] == signals:
            self._merge(mesh, values)

    def _properties_changed(self, signal: Signal) -> None:
        if not signal.path.startswith(_UNIT_PREFIX + "rave_2dmesh_40"):
            return
        mesh = names.mesh_of_unit(names.unescape(signal.path.removeprefix(_UNIT_PREFIX)))
        if mesh:
            self._signals[mesh] += 1
            self._merge(mesh, signal.body[1])

    def _merge(self, mesh: str, values: dict[str, Any]) -> None:
        fields = {field: values[name] for name, field in _FIELDS.items() if name in values}
        self._store(mesh, dataclasses.replace(self.state(mesh), **fields))

    def _store(self, mesh: str, state: UnitState) -> None:
        old = self.state(mesh)
        self._states[mesh] = state
        if state == UnitState():
            del self._states[mesh]
        if state != old:
            self._changed(mesh, state)

    def _job_removed(self, signal: Signal) -> None:
        _, path, unit, result = signal.body
        if names.mesh_of_unit(unit) is None:
            return
        waiting = self._jobs.get(path)
        if waiting and not waiting.done():
            waiting.set_result(result)
        self._ended[path] = result
        while len(self._ended) > _JOBS_KEPT:
            self._ended.popitem(last=False)

    def _unit_removed(self, signal: Signal) -> None:
        mesh = names.mesh_of_unit(signal.body[0])
        # A reload drops all units and loads them again; nothing has happened to them.
        if mesh and not self._reloading_now:
            self._signals[mesh] += 1
            self._store(mesh, UnitState())

    def _reloading(self, signal: Signal) -> None:
        """Signals can get lost while systemd reloads, so read everything again when it is done."""
        (self._reloading_now,) = signal.body
        if self._reloading_now:
            return
        self._relist_due = True
        if self._relisting is None or self._relisting.done():
            self._relisting = asyncio.create_task(self._relist_logged())

    async def _relist_logged(self) -> None:
        while self._relist_due:
            self._relist_due = False
            try:
                await self.relist()
            except RaveError as e:
                log.warning("The units could not be listed again after a reload of systemd: %s", e)
