"""The children as a whole: puts plans into action, and learns from what systemd and the children say.

What a child's end teaches is saved before anything else happens, and only then is its unit reset: a parent that dies
in between finds the failed unit again and learns the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.orchestrator.discovery import Census
from ravesvc.orchestrator.plan import Action, Decision, plan
from ravesvc.orchestrator.record import Record, WorkerState
from ravesvc.orchestrator.unit import UnitState, why_failed
from ravesvc.orchestrator.watch import UnitWatch
from ravesvc.orchestrator.workers import Workers
from ravesvc.store.blocklist import Reason
from ravesvc.units import Units
from ravesvc.words import printable

log = logging.getLogger(__name__)

# Starting Python is work for a processor: as many at a time as keep the processors busy, and no more.
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
_JOB_TIMEOUT = 120.0
_ADOPTIONS_AT_ONCE = 8
_ADOPTION_TIMEOUT = 15.0
# Characters of what a child says: it may have been taken over.
_LONGEST = 300


class Fleet:
    """Every mesh that is listed, blocked or has a unit, in `records` by id; their children are `workers`.

    Args:
        changed: hears of every record that may look different now, also of one that has just left `records`.
        leave: leaves a mesh on Rave's side, after a kick.
        answers: tells whether Rave answers at all.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        units: Units,
        census: Census,
        blocks: Blocks,
        limit: int | None,
        changed: Callable[[Record], None],
        leave: Callable[[str], Awaitable[None]],
        answers: Callable[[], Awaitable[bool]],
    ) -> None:
        self.records: dict[str, Record] = {}
        self.workers = Workers(bus, self._heard)
        self._units = units
        self._census = census
        self._blocks = blocks
        self._limit = limit
        self._changed = changed
        self._leave = leave
        self._answers = answers
        self._watch = UnitWatch(bus, self._unit_changed)
        self._busy: set[str] = set()
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._adopting = asyncio.Semaphore(_ADOPTIONS_AT_ONCE)
        self._asked: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, then adopt what runs already. Raises `RaveError` (Bus, Timeout)."""
        await self.workers.start()
        await self._watch.start()
        running = [self._adopt(mesh) for mesh, unit in self._watch.states.items() if unit.active == "active"]
        if running:
            # Those that hang must not keep us from starting.
            done, _ = await asyncio.wait(running, timeout=_ADOPTION_TIMEOUT)
            log.info("%d of %d running meshes have answered", len(done), len(running))
        self.refresh()

    async def close(self) -> None:
        """Stop acting. The children run on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.workers.close()
        await self._watch.close()

    def plan(self) -> tuple[Decision, ...]:
        """What `reconcile` would do now."""
        return plan(self._census.meshes, self._blocks.in_force(), self._watch.states, self._limit)

    def reconcile(self) -> None:
        """Begin to start and stop what the plan says; what is being started or stopped already is left alone."""
        for block in self._blocks.drop_expired():
            log.info("Mesh %s is no longer blocked (%s)", block.mesh, block.describe())
        for mesh, block in self._blocks.in_force().items():
            if block.reason is Reason.GONE and mesh in (self._census.meshes or {}):
                log.info("Mesh %s is there again", mesh)
                self._blocks.remove(mesh)
        self.refresh()
        for mesh, unit in self._watch.states.items():
            # What could not be saved, or reset, the last time.
            self._learn_if_failed(mesh)
            if unit.active == "active" and not self._record(mesh).worker.ready and mesh not in self._asked:
                # It did not answer when it was to be adopted.
                self._adopt(mesh)
        for decision in self.plan():
            if decision.mesh in self._busy:
                continue
            if decision.action is Action.START:
                self._act(decision.mesh, self._start)
            elif decision.action is Action.STOP:
                log.info("Stopping mesh %s: %s", decision.mesh, decision.reason)
                self._act(decision.mesh, self._stop)

    def refresh(self) -> None:
        """Bring the records in line with what is listed, blocked and loaded."""
        listed = self._census.meshes or {}
        blocks = self._blocks.in_force()
        known = listed.keys() | blocks.keys() | self._watch.states.keys()
        for mesh in self.records.keys() - known:
            self._changed(self.records.pop(mesh))
        for mesh in known:
            record = self.records.setdefault(mesh, Record(mesh))
            record.listed = listed.get(mesh, record.listed)
            record.block = blocks.get(mesh)
            self._changed(record)

    def start_mesh(self, mesh: str) -> None:
        """Start a mesh on an operator's word, which lifts any block but a kick.

        Raises `RaveError`: NoSuchMesh when discovery does not list it, Blocked after a kick or by max_processes,
        BadFile when it is done but could not be saved.
        """
        block = self._blocks.get(mesh)
        if block and block.reason is Reason.KICKED:
            hint = "take it out of blocklist.json and restart rave-orchestrator to join it again"
            raise RaveError(Code.BLOCKED, f"the bot was kicked from mesh {mesh}", hint=hint, mesh=mesh)
        if mesh not in (self._census.meshes or {}):
            hint = "invite the bot, or wait for the next discovery"
            raise RaveError(Code.NO_SUCH_MESH, f"discovery does not list mesh {mesh}", hint=hint, mesh=mesh)
        saved = True
        if block:
            log.info("Mesh %s is unblocked by an operator", mesh)
            saved = self._blocks.remove(mesh)
        self.reconcile()
        for decision in self.plan():
            if decision.mesh == mesh and decision.action is Action.SKIP and mesh not in self._busy:
                raise RaveError(Code.BLOCKED, f"mesh {mesh} is not started: {decision.reason}", mesh=mesh)
        _insist(mesh, saved=saved)

    def stop_mesh(self, mesh: str) -> None:
        """Stop a mesh on an operator's word, and keep it stopped. Raises `RaveError` (NoSuchMesh, BadFile)."""
        if mesh not in self.records:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", mesh=mesh)
        saved = self._blocks.add(mesh, Reason.HELD, "", actor="operator")
        self.reconcile()
        _insist(mesh, saved=saved)

    async def reconnect_mesh(self, mesh: str) -> None:
        """Let a mesh's child connect anew. Raises `RaveError` (NotRunning, Bus, Timeout)."""
        await self.workers.call(mesh, "RestartConnection")

    def _adopt(self, mesh: str) -> asyncio.Task[None]:
        self._asked.add(mesh)
        task = asyncio.create_task(self._ask_status(mesh))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask_status(self, mesh: str) -> None:
        """Learn from a running child how it is."""
        async with self._adopting:
            try:
                status = await self.workers.status(mesh)
            except RaveError as e:
                log.warning("The running child of mesh %s does not answer: %s", mesh, e)
                return
            finally:
                self._asked.discard(mesh)
        worker = self._record(mesh).worker
        worker.ready = True
        worker.connected = status.get("Connected") is True
        worker.last_error = printable(status.get("LastError"), _LONGEST)
        worker.since = time.time()
        self._publish(mesh)

    def _act(self, mesh: str, action: Callable[[str], Awaitable[None]]) -> None:
        """Do something with a mesh in the background, and nothing else with it meanwhile."""
        self._busy.add(mesh)
        task = asyncio.create_task(self._guard(mesh, action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, mesh: str, action: Callable[[str], Awaitable[None]]) -> None:
        before = self._watch.state(mesh)
        try:
            await action(mesh)
        except RaveError as e:
            self._record(mesh).worker.last_error = str(e)
            log.error("Mesh %s: %s", mesh, e)  # noqa: TRY400 - said in words, a traceback would add nothing
        finally:
            self._busy.discard(mesh)
            self._publish(mesh)
        # It may have failed while nobody was to touch it. From one failure we learn once: a save or reset that fails
        # would fail again and again, so it waits for the next `reconcile`.
        if self._watch.state(mesh) != before:
            self._learn_if_failed(mesh)

    async def _start(self, mesh: str) -> None:
        async with self._starting:
            job = await self._units.start(names.mesh_unit(mesh))
            unit = await self._watch.job(job, mesh, _JOB_TIMEOUT)
        if unit.active == "inactive":
            raise RaveError(
                Code.UNIT, f"{names.mesh_unit(mesh)} did not start", hint=f"journalctl -u {names.mesh_unit(mesh)}"
            )
        if self._planned(mesh, Action.STOP):
            # Unwanted while it was starting.
            await self._stop(mesh)

    async def _stop(self, mesh: str) -> None:
        job = await self._units.stop(names.mesh_unit(mesh))
        await self._watch.job(job, mesh, _JOB_TIMEOUT)
        if self._planned(mesh, Action.START):
            # Wanted again while it was stopping.
            await self._start(mesh)

    def _planned(self, mesh: str, action: Action) -> bool:
        return any(decision.mesh == mesh and decision.action is action for decision in self.plan())

    def _learn_if_failed(self, mesh: str) -> None:
        unit = self._watch.state(mesh)
        # A result of success belongs to a unit that is being reset; that it is no longer failed comes right after.
        if unit.failed and unit.result != "success" and mesh not in self._busy:
            self._act(mesh, partial(self._learn, unit=unit))

    async def _learn(self, mesh: str, unit: UnitState) -> None:
        """Save what a failed unit teaches, then let systemd forget it."""
        reason, detail = why_failed(unit)
        if reason is Reason.CONNECTION_FAILURES and not await self._answers():
            # Nobody can be reached, which is no fault of the mesh: the first good round starts it again.
            reason, detail = None, "Rave does not answer"
        if reason is None:
            self._record(mesh).worker.last_error = detail
            log.warning("Mesh %s has ended: %s", mesh, detail)
        elif not self._block(mesh, reason, detail):
            # The failed unit is the only lasting trace then, so it stays.
            return
        await self._units.reset_failed(names.mesh_unit(mesh))
        if reason is Reason.KICKED:
            await self._leave(mesh)

    def _block(self, mesh: str, reason: Reason, detail: str) -> bool:
        saved = self._blocks.add(mesh, reason, detail)
        record = self._record(mesh)
        known, record.block = record.block, self._blocks.get(mesh)
        if record.block and (known is None or record.block.describe() != known.describe()):
            log.warning("Mesh %s is blocked: %s", mesh, record.block.describe())
        if reason in (Reason.GONE, Reason.LEFT):
            self._census.forget(mesh)
        self._publish(mesh)
        return saved

    def _unit_changed(self, mesh: str, unit: UnitState) -> None:
        record = self._record(mesh)
        if record.unit.main_pid not in (0, unit.main_pid) or not unit.running:
            # Another process, or none: what the last one said no longer holds. Its last words are kept. (The first
            # words of a process may be quicker than the news of its id, and hold.)
            self.workers.forget(mesh)
            record.worker = WorkerState(last_error=record.worker.last_error)
        record.unit = unit
        self._publish(mesh)
        self._learn_if_failed(mesh)

    def _heard(self, mesh: str, member: str, body: Sequence[Any]) -> None:
        """A verified child speaks."""
        worker = self._record(mesh).worker
        match member, list(body):
            case "Ready", []:
                worker.ready = True
            case "Connected", []:
                worker.connected, worker.since, worker.last_error = True, time.time(), ""
                log.info("Mesh %s is connected", mesh)
            case "Disconnected", [str(reason)]:
                worker.connected, worker.since, worker.last_error = False, time.time(), printable(reason, _LONGEST)
                log.info("Mesh %s is disconnected: %s", mesh, worker.last_error)
            case "ConnectionFailed", [int(attempt), str(error)]:
                worker.last_error = printable(error, _LONGEST)
                log.warning("Mesh %s could not be reached, attempt %d: %s", mesh, attempt, worker.last_error)
            case "Error", [str(message)]:
                worker.last_error = printable(message, _LONGEST)
                log.warning("Mesh %s reports: %s", mesh, worker.last_error)
            case "Left", [str(reason)]:
                worker.connected, worker.last_error = False, printable(reason, _LONGEST)
            case "Kicked", []:
                worker.connected, worker.last_error = False, "the bot was kicked"
                known = self._blocks.get(mesh)
                if known is None or known.reason is not Reason.KICKED:
                    # At once, not only when the process has ended: the sooner it is on disk the better.
                    self._block(mesh, Reason.KICKED, "")
            case _:
                log.warning("Mesh %s sent an unknown signal %s", mesh, member)
        self._publish(mesh)

    def _record(self, mesh: str) -> Record:
        return self.records.setdefault(mesh, Record(mesh))

    def _publish(self, mesh: str) -> None:
        self._changed(self._record(mesh))


def _insist(mesh: str, *, saved: bool) -> None:
    if not saved:
        hint = "the log says why"
        raise RaveError(
            Code.BAD_FILE, f"done, but the blocklist could not be saved: mesh {mesh}", hint=hint, mesh=mesh
        )
