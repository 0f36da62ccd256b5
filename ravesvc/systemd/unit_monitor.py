"""What systemd says of the `rave-mesh@` units, as it happens: nothing is polled (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, SignalMessage
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.errors import Code, RaveError
from ravesvc.systemd.notify import sendable
from ravesvc.systemd.unit_state import NO_JOB, UnitState

log = logging.getLogger(__name__)

_SYSTEMD = "org.freedesktop.systemd1"
_ROOT = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_UNIT_PREFIX = f"{_ROOT}/unit/"
_UNIT = "org.freedesktop.systemd1.Unit"
_SERVICE = "org.freedesktop.systemd1.Service"
_JOB = "org.freedesktop.systemd1.Job"

# systemd's property -> our field.
_FIELDS = {
    "ActiveState": "active",
    "SubState": "sub",
    "Result": "result",
    "ExecMainCode": "exec_main_code",
    "ExecMainStatus": "exec_main_status",
    "MainPID": "main_pid",
    "NRestarts": "n_restarts",
    "Job": "job",
    "ExecMainExitTimestampMonotonic": "exec_main_exit_timestamp_monotonic",
    "InactiveExitTimestampMonotonic": "inactive_exit_timestamp_monotonic",
}

# Seconds within which what is stopped together with the target is heard of.
_DRAIN = 5.0

# Seconds: the longest time that a note takes, and how often one looks.
_NOTING = 15.0
_MOMENT = 0.05

# Changes of a unit, two for each message of its process; a start has 15. A process that tells systemd something all
# the time has us read more than we can, and the bus refuses who calls us then.
_CHANGES = Rate(200, 10.0)
# Of these a job has so many, such as a start of what runs. No bot can ask for one.
_CHANGES_OF_JOB = 4
_FORGED = "has a status that none of ours sends"
_NOISY = "tells systemd more than any of ours"

# Results of jobs that ended before anybody asked for them.
_JOBS_KEPT = 256


class UnitMonitor:
    """Keeps the state of every `rave-mesh@` unit; `changed(mesh, before, after)` hears of each change."""

    def __init__(self, bus: Bus, changed: Callable[[str, UnitState, UnitState], None]) -> None:
        self._bus = bus
        self._changed = changed
        self._states: dict[str, UnitState] = {}
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._signals: Counter[str] = Counter()  # how many have told of a mesh's unit
        self._noise: dict[str, TokenBucket] = {}  # how many more a unit may cause, by mesh
        self._target_moved = -_DRAIN
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
            ("JobNew", self._job_new),
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
        listed = {
            mesh: {"ActiveState": unit[3], "SubState": unit[4], "Job": [unit[7], unit[9]]}
            for unit in units
            if (mesh := names.mesh_of_unit(unit[0]))
        }
        for mesh, values in listed.items():
            await self._read(mesh, values, signals[mesh])
        for mesh in known - listed.keys():
            if self._signals[mesh] == signals[mesh]:
                self._store(mesh, UnitState())

    async def close(self) -> None:
        """Read no more."""
        if self._relisting:
            self._relisting.cancel()
            await asyncio.gather(self._relisting, return_exceptions=True)

    async def job(self, path: str, mesh: str, timeout: float) -> str:  # noqa: ASYNC109 - a D-Bus-like time-out
        """Wait for the end of a job, then read the unit: a job's result alone is not the truth.

        Returns the result, such as done, or canceled when another job has taken its place. Raises `RaveError`
        (Timeout, Bus).
        """
        result = self._ended.get(path)
        if result is None:
            ended = self._jobs.setdefault(path, asyncio.get_running_loop().create_future())
            try:
                result = await asyncio.wait_for(asyncio.shield(ended), timeout)
            except TimeoutError as e:
                unit = names.mesh_unit(mesh)
                raise RaveError(
                    Code.TIMEOUT, f"systemd has not finished with {unit} after {timeout:g} s", mesh=mesh
                ) from e
            finally:
                self._jobs.pop(path, None)
        self._ended.pop(path, None)
        signals = self._signals[mesh]
        path = await self._unit_path(names.mesh_unit(mesh))
        values = {name: await self._get(path, _UNIT, name) for name in ("ActiveState", "SubState", "Job")}
        await self._read(mesh, values, signals)
        return result

    async def job_type(self, path: str) -> str:
        """What a job does, in a word such as stop or restart; empty when it is over already."""
        try:
            return str(await self._get(path, _JOB, "JobType"))
        except RaveError:
            return ""

    def result(self, path: str) -> str:
        """How a job has ended, in a word such as done or failed; empty when it goes on, or is not known."""
        return self._ended.get(path, "")

    async def wait_for_note(self, mesh: str) -> None:
        """Wait until rave-ended@.service has noted how a mesh's bot has ended, which has begun before we heard of it.

        It takes a moment. Raises `RaveError` (Bus, Timeout).
        """
        unit = names.ended_unit(mesh)
        try:
            async with asyncio.timeout(_NOTING):
                # We are told of changes of our bots' units alone, and this one is soon over.
                while await self._noting(unit):  # noqa: ASYNC110
                    await asyncio.sleep(_MOMENT)
        except TimeoutError as e:
            raise RaveError(Code.TIMEOUT, f"{unit} has not finished after {_NOTING:g} s", mesh=mesh) from e

    async def _noting(self, unit: str) -> bool:
        (units,) = await self._bus.call(_SYSTEMD, _ROOT, _MANAGER, "ListUnitsByPatterns", "asas", [], [unit])
        return any(each[3] in ("active", "activating", "deactivating") or each[7] for each in units)

    async def active_since(self, mesh: str) -> int:
        """When a mesh's unit was last started, in microseconds since the epoch. Raises `RaveError` (Bus, Timeout)."""
        path = await self._unit_path(names.mesh_unit(mesh))
        return int(await self._get(path, _UNIT, "ActiveEnterTimestamp"))

    async def draining(self) -> bool:
        """Whether all meshes are being stopped together: with the service, or with the machine.

        Raises `RaveError` (Bus, Timeout).
        """
        path = await self._unit_path(names.TARGET_UNIT)
        active = await self._get(path, _UNIT, "ActiveState")
        _, job = await self._get(path, _UNIT, "Job")
        # Nothing restarts or reloads the target, so that a job of an active one stops it.
        return bool(active != "active" or job != NO_JOB)

    async def stopping_for_good(self) -> bool:
        """Whether our own unit is being stopped, and not to be started again at once.

        Raises `RaveError` (Bus, Timeout).
        """
        path = await self._unit_path(names.ORCHESTRATOR_UNIT)
        _, job = await self._get(path, _UNIT, "Job")
        return job != NO_JOB and await self.job_type(job) == "stop"

    @property
    def drained_lately(self) -> bool:
        """Whether they have just been: the target may be up again already (Upholds=), before anybody has asked."""
        return asyncio.get_running_loop().time() < self._target_moved + _DRAIN

    async def _unit_path(self, unit: str) -> str:
        (path,) = await self._bus.call(_SYSTEMD, _ROOT, _MANAGER, "LoadUnit", "s", unit)
        return str(path)

    async def _get(self, path: str, interface: str, name: str) -> Any:
        (value,) = await self._bus.call(_SYSTEMD, path, _PROPERTIES, "Get", "ss", interface, name)
        return value

    async def _read(self, mesh: str, listed: dict[str, Any], signals: int) -> None:
        """Complete a listed state with what a list does not tell; single properties, because GetAll has hundreds.

        A signal that has arrived since there were `signals` brings all of them, and newer ones: then what was read
        is dropped.
        """
        path = _UNIT_PREFIX + names.escape(names.mesh_unit(mesh))
        values = dict(listed)
        for name in ("MainPID", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus", "StatusText"):
            values[name] = await self._get(path, _SERVICE, name)
        if values["ActiveState"] == "failed":
            for interface, name in (
                (_SERVICE, "ExecMainExitTimestampMonotonic"),
                (_UNIT, "InactiveExitTimestampMonotonic"),
            ):
                values[name] = await self._get(path, interface, name)
        if self._signals[mesh] == signals:
            self._merge(mesh, values)

    def _properties_changed(self, signal: SignalMessage) -> None:
        if not signal.path.startswith(_UNIT_PREFIX + "rave_2dmesh_40"):
            return
        mesh = names.mesh_of_unit(names.unescape(signal.path.removeprefix(_UNIT_PREFIX)))
        if mesh:
            self._signals[mesh] += 1
            values = signal.body[1]
            self._merge(mesh, values, noisy=self._too_noisy(mesh, values))

    def _too_noisy(self, mesh: str, values: dict[str, Any]) -> bool:
        """Whether the unit of a mesh changes more often than it could, were its process a bot of ours."""
        now = asyncio.get_running_loop().time()
        if mesh not in self._noise or values.get("MainPID", self.state(mesh).main_pid) != self.state(mesh).main_pid:
            self._noise[mesh] = TokenBucket(_CHANGES, now)
        return self._noise[mesh].take(now) > 0

    def _merge(self, mesh: str, values: dict[str, Any], *, noisy: bool = False) -> None:
        fields = {field: values[name] for name, field in _FIELDS.items() if name in values}
        if "job" in fields:
            _, fields["job"] = fields["job"]
        if noisy or "StatusText" in values:
            forged = not sendable(values.get("StatusText", ""))
            fields["suspect"] = _FORGED if forged else _NOISY if noisy else ""
        self._store(mesh, dataclasses.replace(self.state(mesh), **fields))

    def _store(self, mesh: str, state: UnitState) -> None:
        old = self.state(mesh)
        self._states[mesh] = state
        if state == UnitState():
            del self._states[mesh]
        if state != old:
            self._changed(mesh, old, state)

    def _job_new(self, signal: SignalMessage) -> None:
        if signal.body[2] == names.TARGET_UNIT:
            self._target_moved = asyncio.get_running_loop().time()

    def _job_removed(self, signal: SignalMessage) -> None:
        _, path, unit, result = signal.body
        mesh = names.mesh_of_unit(unit)
        if mesh is None:
            return
        if noise := self._noise.get(mesh):
            for _ in range(_CHANGES_OF_JOB):
                noise.give_back(asyncio.get_running_loop().time())
        waiting = self._jobs.get(path)
        if waiting and not waiting.done():
            waiting.set_result(result)
        self._ended[path] = result
        while len(self._ended) > _JOBS_KEPT:
            self._ended.popitem(last=False)

    def _unit_removed(self, signal: SignalMessage) -> None:
        mesh = names.mesh_of_unit(signal.body[0])
        # A reload drops all units and loads them again; nothing has happened to them.
        if mesh and not self._reloading_now:
            self._noise.pop(mesh, None)
            self._signals[mesh] += 1
            self._store(mesh, UnitState())

    def _reloading(self, signal: SignalMessage) -> None:
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
