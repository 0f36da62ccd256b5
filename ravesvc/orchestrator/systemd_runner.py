"""Runs each bot as a unit of systemd, `rave-mesh@ID.service`, and calls it on the bus. Implements `Runner`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, errors
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.signal import Signal
from ravesvc.core.run_state import RunEnd, RunState
from ravesvc.core.runner import RunChange, WorkerReport
from ravesvc.core.worker_events import read_event
from ravesvc.core.worker_status import SettingInfo, WorkerStatus
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.orchestrator.exit_notes import ExitNotes
from ravesvc.orchestrator.stop_deadline import StopDeadline
from ravesvc.orchestrator.unit_run import run_state
from ravesvc.orchestrator.worker_client import Workers
from ravesvc.systemd.unit_control import Units
from ravesvc.systemd.unit_monitor import UnitMonitor
from ravesvc.systemd.unit_state import NO_JOB, UnitState

log = logging.getLogger(__name__)

_JOB_TIMEOUT_S = 120.0
# A kill may fail when a bot keeps systemd busy; it is tried again after this time.
_KILL_AGAIN_S = 15.0
# How long after the kill of a bot that does not stop the end waits for it to be gone.
_KILLED_S = 5.0
# The job types of a stop that no start follows; the type of a job that is over already is empty.
_STOPS = ("stop", "")


class SystemdRunner:
    """See `Runner`. Its orders are object paths of systemd's jobs.

    Args:
        stop_limit_s: seconds after which a bot that is still stopping is killed.
        exit_notes: the notes of how bots have ended while the service was away.

    Attributes:
        workers: receives the signals of bots, and calls them.
    """

    def __init__(self, bus: Bus, units: Units, exit_notes: ExitNotes, *, stop_limit_s: float) -> None:
        self.changed: Signal[RunChange] = Signal("changes of units")
        self.reported: Signal[WorkerReport] = Signal("reports of bots")
        self.workers = Workers(bus, self._heard, self._too_large)
        self._bus = bus
        self._units = units
        self._exit_notes = exit_notes
        self._monitor = UnitMonitor(bus, self._unit_changed)
        self._stop_all_timeout_s = stop_limit_s + _KILLED_S
        self._stop_deadline = StopDeadline(stop_limit_s, lambda mesh: self._spawn(self._end_stop(mesh)))
        self._runs: dict[str, RunState] = {}
        self._killed_at: dict[str, float] = {}  # seconds of time.monotonic, by mesh
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def runs(self) -> Mapping[str, RunState]:
        """See `Runner`."""
        return self._runs

    async def start(self) -> None:
        """See `Runner`."""
        await self.workers.start()
        await self._monitor.start()

    async def close(self) -> None:
        """See `Runner`. If the service is stopped and not restarted, all bots are stopped, too."""
        self._stop_deadline.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if await self._monitor.stopping_for_good():
                # systemd stops the target by itself when no unit needs it any more (StopWhenUnneeded=), but not while
                # a mesh is being started or restarted; and it does not try again.
                await self._units.stop(names.TARGET_UNIT)
        except RaveError as e:
            # Without the bus it is no stop: systemd starts the service again, and the bots are to run on.
            if not self._bus.lost.done():
                log.warning("Meshes may be left running: %s", e)
        await self.workers.close()
        await self._monitor.close()

    async def stop_all(self) -> bool:
        """Stop all bots together, and wait until they are gone; returns False if some have not gone in time.

        It watches the bots and not the target, because systemd stops the target only after our own unit. Raises
        `RaveError` as `Units` does.
        """
        gone = asyncio.Event()

        def look(_: RunChange | None) -> None:
            if not any(run.present for run in self._runs.values()):
                gone.set()

        await self._units.stop(names.TARGET_UNIT)
        self.changed.connect(look)
        look(None)
        try:
            await asyncio.wait_for(gone.wait(), self._stop_all_timeout_s)
        except TimeoutError:
            return False
        return True

    async def is_stopping_for_good(self) -> bool:
        """Whether systemd stops the service without starting it again. Raises `RaveError` (Bus, Timeout)."""
        return await self._monitor.stopping_for_good()

    async def start_mesh(self, mesh: str) -> str | None:
        """See `Runner`."""
        job = await self._units.start(names.mesh_unit(mesh))
        return await self._finish(job, mesh)

    async def stop_mesh(self, mesh: str) -> None:
        """See `Runner`."""
        job = await self._units.stop(names.mesh_unit(mesh))
        await self._monitor.job(job, mesh, _JOB_TIMEOUT_S)

    async def restart_mesh(self, mesh: str) -> str | None:
        """See `Runner`."""
        job = await self._units.restart(names.mesh_unit(mesh))
        return await self._finish(job, mesh)

    async def forget_end(self, mesh: str) -> None:
        """See `Runner`. The file goes first: if the service dies in between, the failed unit is still there."""
        await self._monitor.wait_for_note(mesh)
        await asyncio.to_thread(self._exit_notes.forget, mesh)
        if self._monitor.state(mesh).failed:
            await self._units.reset_failed(names.mesh_unit(mesh))

    async def ends_while_away(self) -> Mapping[str, RunEnd]:
        """See `Runner`. The notes remain when a failed unit was reset or the machine has booted."""
        notes = await asyncio.to_thread(self._exit_notes.read)
        ends = {}
        for mesh, status in notes.items():
            run = self._runs.get(mesh, RunState())
            if not run.outdates(status):
                ends[mesh] = RunEnd(status=status)
            elif run.present:
                # Removed now, since a bot that is only stopped later leaves no end with which to remove it. Otherwise
                # the note would count after the next boot.
                log.info("The bot of mesh %s was started again after its end", mesh, extra=about(mesh))
                await asyncio.to_thread(self._exit_notes.forget, mesh)
        return ends

    async def started_at_us(self, mesh: str) -> int:
        """See `Runner`."""
        return await self._monitor.active_since(mesh)

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        """See `Runner`. False if all bots are stopped together, or if the unit is to run on."""
        monitor = self._monitor
        # When the answer is here, all signals that systemd sent before it are read, also those about the target.
        if await monitor.draining() or monitor.drained_lately:
            return False
        # A restart whose start systemd refused may be over by now. Its result is "failed", that of a stop "done".
        if monitor.result(order) == "failed":
            return False
        unit = monitor.state(mesh)
        return not unit.running and (unit.job == NO_JOB or await monitor.job_type(unit.job) in _STOPS)

    async def status(self, mesh: str) -> WorkerStatus:
        """See `Runner`."""
        return await self.workers.status(mesh)

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """See `Runner`."""
        try:
            return await self.workers.users(mesh)
        except RaveError as e:
            raise _too_old(e, mesh) from e

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """See `Runner`."""
        try:
            return await self.workers.settings(mesh)
        except RaveError as e:
            raise _too_old(e, mesh) from e

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """See `Runner`."""
        try:
            return await self.workers.setting(mesh, name)
        except RaveError as e:
            raise _too_old(e, mesh) from e

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """See `Runner`."""
        try:
            return await self.workers.change_setting(mesh, name, value)
        except RaveError as e:
            raise _too_old(e, mesh) from e

    async def reconnect(self, mesh: str) -> None:
        """See `Runner`."""
        await self.workers.call(mesh, "RestartConnection")

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """See `Runner`."""
        try:
            await self.workers.call(mesh, "SetDebug", "b", debug)
        except RaveError as e:
            raise _too_old(e, mesh) from e

    async def broadcast(self, announcement: Announcement) -> tuple[int, int]:
        """See `Runner`."""
        return await self.workers.tell(announcement)

    async def announce(self, mesh: str, announcement: Announcement) -> None:
        """See `Runner`."""
        await self.workers.call(mesh, announcement)

    async def forget_user(self, user: int) -> frozenset[str]:
        """See `Runner`."""
        return await self.workers.forget_user(user)

    def is_mute(self, mesh: str) -> bool:
        """See `Runner`."""
        return self.workers.is_mute(mesh)

    async def catch_up(self) -> None:
        """See `Runner`."""
        await self.workers.catch_up()

    async def _finish(self, job: str, mesh: str) -> str | None:
        """Wait for the end of a start or restart; returns the job if another one has replaced it."""
        return job if await self._monitor.job(job, mesh, _JOB_TIMEOUT_S) == "canceled" else None

    def _unit_changed(self, mesh: str, before: UnitState, unit: UnitState) -> None:
        self._stop_deadline.unit_changed(mesh, unit)
        if unit.main_pid != before.main_pid:
            self._killed_at.pop(mesh, None)
        if before.main_pid not in (0, unit.main_pid) or not unit.running:
            # The process was replaced or has ended: unbind its connection. When a process is new nothing is unbound,
            # as its first signal may come before systemd's signal with its id.
            self.workers.forget(mesh)
        if unit.main_pid and unit.suspect:
            self._kill_taken_over(mesh, unit.suspect)
        old, new = self._runs.get(mesh, RunState()), run_state(unit)
        self._runs[mesh] = new
        if new == RunState():
            del self._runs[mesh]
        self.changed.emit(RunChange(mesh, old, new, _stop_order(before, unit)))

    def _heard(self, mesh: str, member: str, arguments: Sequence[Any]) -> None:
        """Emit the event of a verified bot's signal."""
        if event := read_event(member, arguments):
            self.reported.emit(WorkerReport(mesh, event))

    def _too_large(self, mesh: str) -> None:
        self._kill_taken_over(mesh, "has sent a message of more than 64 kB on the bus, which none of ours does")

    def _kill_taken_over(self, mesh: str, deed: str) -> None:
        """Kill a bot that does what only foreign code would; again only if it is still there after a while."""
        now = time.monotonic()
        if now - self._killed_at.get(mesh, float("-inf")) > _KILL_AGAIN_S:
            self._killed_at[mesh] = now
            text = "The bot of mesh %s %s: it was taken over, and is killed"
            log.warning(text, mesh, deed, extra=about(mesh, LogEvent.TAKEN_OVER))
            self._spawn(self._kill(mesh))

    async def _end_stop(self, mesh: str) -> None:
        """Kill a bot that does not stop in time."""
        try:
            # If the service is late, the bot may have stopped already.
            await self.workers.catch_up()
        except RaveError as e:
            log.debug("Whether mesh %s has stopped is not known: %s", mesh, e)
        if self._monitor.state(mesh).active == "deactivating":
            log.warning("The bot of mesh %s does not stop: it is killed", mesh, extra=about(mesh))
            await self._kill(mesh)

    async def _kill(self, mesh: str) -> None:
        """Kill a bot, which counts as a crash."""
        try:
            await self._units.start(names.kill_unit(mesh))
        except RaveError as e:
            log.warning("The bot of mesh %s could not be killed: %s", mesh, e, extra=about(mesh))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _stop_order(old: UnitState, new: UnitState) -> str | None:
    """The job that stops a unit, or that has cancelled its automatic restart; None if there is none.

    A process that ends by itself has no job. If it announces its end and then runs on, a job may still stop it.
    """
    ordered = new.job != NO_JOB and (old.running or new.job != old.job)
    stops = new.active == "deactivating" and ordered
    return new.job if stops or (old.restarting and new.active == "inactive") else None


def _too_old(error: RaveError, mesh: str) -> RaveError:
    """The error of a call to a bot; in other words if the bot's older program does not have the method."""
    if error.attributes.get("error_name") != errors.UNKNOWN_METHOD:
        return error
    text = f"the process of mesh {mesh} runs an older program, which can't do that"
    return RaveError(Code.BUS, text, hint="ravectl roll replaces it")
