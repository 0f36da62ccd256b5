"""The states of the `rave-mesh@` units, by systemd's signals: nothing is polled (org.freedesktop.systemd1(5)).

A state is put together from signals and from questions, and their order matters:

* A bot ends while its unit is being read. The answer about `ActiveState` is from before the end, that about
  `ExecMainStatus` from after it. Together they would be a state that the unit never had, so the answers are dropped
  when a signal about the unit has come meanwhile: it has all the newer values (`_read`).
* A job is done. That does not say how the unit is now: its process may have ended since, and the signal about that
  may have come before the end of the job or may still come. So the unit is read after each job (`job`).
* systemd reloads its files. For each unit it announces that the unit is removed, and then loads it again. If that
  were believed, each mesh would seem to have no bot, and the service would start one that runs (`_unit_removed`).
"""

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

# After a job of the target, signals about units that stop together with it come within this time.
_DRAIN_S = 5.0

# The longest time that an exit note takes, and how often we look for it.
_NOTE_TIMEOUT_S = 15.0
_NOTE_POLL_S = 0.05

# Changes of one unit: two for each message of its process to systemd; a start causes 15. A process that sends systemd
# messages without end causes more signals than we can read, and then the bus refuses calls to us.
_CHANGE_RATE = Rate(200, 10.0)
# Changes that one job causes, such as the start of a unit that runs. No bot can request a job.
_CHANGES_PER_JOB = 4
_FORGED_STATUS = "has a status that none of ours sends"
_TOO_MANY_CHANGES = "tells systemd more than any of ours"

# Results of ended jobs that are kept for a later `job`.
_MAX_ENDED_JOBS = 256


class UnitMonitor:
    """Keeps the state of every `rave-mesh@` unit; `changed(mesh, before, after)` is called for each change."""

    def __init__(self, bus: Bus, changed: Callable[[str, UnitState, UnitState], None]) -> None:
        self._bus = bus
        self._on_change = changed
        self._states: dict[str, UnitState] = {}
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._signals: Counter[str] = Counter()  # how many came about a mesh's unit
        self._change_buckets: dict[str, TokenBucket] = {}  # changes that a unit may still cause, by mesh
        self._target_job_at = -_DRAIN_S
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
        """Subscribe first, then list, so that no change in between is missed. Raises `RaveError` (Bus, Timeout)."""
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
        """Wait until rave-ended@.service has noted how a mesh's bot has ended.

        systemd starts it before it announces that the bot has ended. Raises `RaveError` (Bus, Timeout).
        """
        unit = names.ended_unit(mesh)
        try:
            async with asyncio.timeout(_NOTE_TIMEOUT_S):
                # Only signals about our bots' units are read, and this unit ends soon: so it is polled.
                while await self._note_pending(unit):  # noqa: ASYNC110
                    await asyncio.sleep(_NOTE_POLL_S)
        except TimeoutError as e:
            raise RaveError(Code.TIMEOUT, f"{unit} has not finished after {_NOTE_TIMEOUT_S:g} s", mesh=mesh) from e

    async def _note_pending(self, unit: str) -> bool:
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
        """Whether they have just been: the target may be active again (Upholds=) before `draining` is called."""
        return asyncio.get_running_loop().time() < self._target_job_at + _DRAIN_S

    async def _unit_path(self, unit: str) -> str:
        (path,) = await self._bus.call(_SYSTEMD, _ROOT, _MANAGER, "LoadUnit", "s", unit)
        return str(path)

    async def _get(self, path: str, interface: str, name: str) -> Any:
        (value,) = await self._bus.call(_SYSTEMD, path, _PROPERTIES, "Get", "ss", interface, name)
        return value

    async def _read(self, mesh: str, listed: dict[str, Any], signals: int) -> None:
        """Complete a listed state with properties that a list lacks; one by one, because GetAll returns hundreds.

        If a signal has come since `signals` were counted, it had the same properties with newer values: then the
        values that were read are dropped.
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
            self._merge(mesh, values, too_many_changes=self._exceeds_change_rate(mesh, values))

    def _exceeds_change_rate(self, mesh: str, values: dict[str, Any]) -> bool:
        """Whether the unit of a mesh changes more often than a bot of ours can cause."""
        now = asyncio.get_running_loop().time()
        known_pid = self.state(mesh).main_pid
        if mesh not in self._change_buckets or values.get("MainPID", known_pid) != known_pid:
            self._change_buckets[mesh] = TokenBucket(_CHANGE_RATE, now)
        return self._change_buckets[mesh].take(now) > 0

    def _merge(self, mesh: str, values: dict[str, Any], *, too_many_changes: bool = False) -> None:
        fields = {field: values[name] for name, field in _FIELDS.items() if name in values}
        if "job" in fields:
            _, fields["job"] = fields["job"]
        if too_many_changes or "StatusText" in values:
            forged = not sendable(values.get("StatusText", ""))
            fields["suspect"] = _FORGED_STATUS if forged else _TOO_MANY_CHANGES if too_many_changes else ""
        self._store(mesh, dataclasses.replace(self.state(mesh), **fields))

    def _store(self, mesh: str, state: UnitState) -> None:
        old = self.state(mesh)
        self._states[mesh] = state
        if state == UnitState():
            del self._states[mesh]
        if state != old:
            self._on_change(mesh, old, state)

    def _job_new(self, signal: SignalMessage) -> None:
        if signal.body[2] == names.TARGET_UNIT:
            self._target_job_at = asyncio.get_running_loop().time()

    def _job_removed(self, signal: SignalMessage) -> None:
        _, path, unit, result = signal.body
        mesh = names.mesh_of_unit(unit)
        if mesh is None:
            return
        if bucket := self._change_buckets.get(mesh):
            for _ in range(_CHANGES_PER_JOB):
                bucket.refund(asyncio.get_running_loop().time())
        waiting = self._jobs.get(path)
        if waiting and not waiting.done():
            waiting.set_result(result)
        self._ended[path] = result
        while len(self._ended) > _MAX_ENDED_JOBS:
            self._ended.popitem(last=False)

    def _unit_removed(self, signal: SignalMessage) -> None:
        mesh = names.mesh_of_unit(signal.body[0])
        # A reload removes all units and loads them again: their state has not changed.
        if mesh and not self._reloading_now:
            self._change_buckets.pop(mesh, None)
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
