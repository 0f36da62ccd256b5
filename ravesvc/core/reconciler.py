"""Starts and stops bots until what runs agrees with the plan, and decides what follows when a bot ends.

Three scenarios in which the order matters:

A bot ends, and the service dies at the same moment. What follows from the end, such as a block, is saved first, and
only then does the runner forget the end. A service that dies in between finds the end again when it is back, and
decides the same. In the other order it could forget a kick, and would send the bot back into the room.

A bot ends while a step of its mesh is under way, such as a restart. A mesh has one step at a time, so the mesh waits
in `_ended_meanwhile`, and the end is examined when the step is over. Two steps at once could save a block for the old
process while the new one is being started.

A bot is kicked, and then crashes before it exits. It reports the kick first, and the block is set at once. The exit
then looks like a crash, whose block ranks lower and does not replace that of the kick.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar

from ravesvc.api.models import Mesh
from ravesvc.blocklist.blocklist import Blocklist, await_saved
from ravesvc.blocklist.model import SERVICE, Block, BlocklistChange, Reason, What
from ravesvc.common.coalesced import Coalesced
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.config.advice import Advice
from ravesvc.core.exit_policy import ExitPolicy
from ravesvc.core.health import Health
from ravesvc.core.inventory import Inventory
from ravesvc.core.left_alone import LeftAlone
from ravesvc.core.manual_override import ManualOverrides
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, BotLimits, Decision, PlanInput, enough, plan
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.runner import RunChange, Runner, WorkerReport
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.steps import MeshStep, Steps
from ravesvc.core.worker_events import Ready, WorkerReports
from ravesvc.core.worker_status import SettingInfo
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.names import ExitStatus

T = TypeVar("T")

log = logging.getLogger(__name__)

# A process that starts needs a processor: start as many at a time as keep the processors busy, and no more.
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
# So many meshes that are blocked, and neither listed nor running, have a record: those that were blocked last. Each
# record costs an object on the bus at every start. All others can still be read in the blocklist.
_MAX_BLOCKED_SHOWN = 200
# The delay after which a failed stop is tried again.
_STOP_AGAIN_S = 10.0


class Reconciler:
    """All meshes of this host, and the loop that starts and stops their bots.

    Args:
        limits: returns how many bots may run now.
        interval: seconds between two health checks of a bot.
        changed: called with each record that may have changed, also with one that has just been removed.
        leave: deletes the invitation to a mesh at Rave, after a kick.
        answers: returns whether Rave answers at all.
        own_user: returns the user id of the bot's account; 0 while that is not known.
        starts: decides when a mesh may be started.

    Attributes:
        records: by id, each mesh that is listed or has a process, and those of the others that were blocked last.
        reports: applies what bots report.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        inventory: Inventory,
        blocklist: Blocklist,
        limits: Callable[[], BotLimits],
        interval: float,
        changed: Callable[[MeshState], None],
        leave: Callable[[str], Awaitable[None]],
        answers: Callable[[], Awaitable[bool]],
        own_user: Callable[[], int],
        starts: StartPolicy,
        advice: Advice,
    ) -> None:
        self.records: dict[str, MeshState] = {}
        self.health = Health(
            runner, self.records, interval=interval, answered=self._answered, unhealthy=self._unhealthy
        )
        self._runner = runner
        self._inventory = inventory
        self._blocklist = blocklist
        self._limits = limits
        self._changed = changed
        self._leave = leave
        self._starts = starts
        self._advice = advice
        self._exit_policy = ExitPolicy(self.records, inventory, blocklist, answers, starts.outages)
        self.reports = WorkerReports(self.records, inventory, blocklist, starts, self._exit_policy)
        self._left_alone = LeftAlone(inventory, blocklist, own_user)
        self._overrides = ManualOverrides(runner, blocklist)
        self._steps = Steps()
        # Meshes whose process has ended while a step was under way.
        self._ended_meanwhile: set[str] = set()
        # Meshes whose process had ended before this service started.
        self._ended_before: set[str] = set()
        self._turn = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pending: dict[str, asyncio.Task[Any]] = {}  # the latest start of each mesh
        self._apply = Coalesced(self.apply_plan)
        self._adopted = False  # whether `start` has found what runs already
        self._planning = False
        self._more_blocked = 0  # meshes without a record that were blocked since the last `refresh`
        runner.changed.connect(self._run_changed)
        runner.reported.connect(self._reported)

    async def start(self) -> None:
        """Subscribe to the runner, then adopt what runs already. Raises `RaveError` (Bus, Timeout)."""
        await self._runner.start()
        runs = self._runner.runs
        running = [mesh for mesh, run in runs.items() if run.runs]
        await self._overrides.adopt(running)
        self._inventory.adopt([*running, *sorted(self._blocklist.alone)])
        self._exit_policy.restore()
        self._adopted = self._planning = True
        self._ended_before |= {mesh for mesh, run in runs.items() if run.end}
        # The notes come first. Say a bot was kicked while the service was away, an operator started it again by hand,
        # and it has ended for another reason since. To forget that second end also deletes the note of the kick.
        await self._examine_ends_while_away()
        for mesh in list(runs):
            self._examine_if_ended(mesh)
        # A mesh that is blocked by now must stop at once, and not only when discovery has read a list.
        self._schedule_apply()
        await self.health.adopt(mesh for mesh in running if self._run(mesh).phase is RunPhase.RUNNING)
        self.refresh()

    def stop_planning(self) -> None:
        """Begin no more starts and stops, those that wait for their turn included; ends are still examined."""
        self._planning = False
        self._apply.cancel()
        for mesh, task in self._pending.items():
            if self._steps[mesh] is MeshStep.START_PENDING:
                task.cancel()

    async def close(self, *, grace_s: float = 0.0) -> None:
        """Stop all work; steps that are under way have `grace_s` seconds to finish.

        Whether the bots run on depends on the runner: units do, tasks of this process do not.
        """
        self.stop_planning()
        if grace_s and self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        self._adopted = False
        await self.health.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.close()

    def plan(self) -> tuple[Decision, ...]:
        """Decide what to do with every mesh now, without doing it."""
        inventory, starts = self._inventory, self._starts
        return plan(
            PlanInput(
                listed=inventory.meshes,
                missing=inventory.missing,
                unread=inventory.unread,
                whole=inventory.whole,
                blocks=self._blocklist.in_force(),
                runs=self._runs,
                starting=self._steps.starting,
                resting=starts.rests.meshes,
                waiting=starts.waiting(self.records.values()),
                alone=self._left_alone.still_empty,
                limits=self._limits(),
            )
        )

    def enough(self, found: Collection[Mesh]) -> bool:
        """Whether discovery may stop reading, because `found` has all meshes that the plan needs."""
        inventory = self._inventory
        needed = self._needed & inventory.known if inventory.whole else self._needed
        out = inventory.left | self._left_alone.still_empty
        return enough(found, self._blocklist.in_force(), needed, out, self._limits())

    @property
    def _needed(self) -> AbstractSet[str]:
        """The meshes that discovery must look for in the next list: those that run, and those left as empty."""
        return {mesh for mesh, run in self._runs.items() if run.present} | self._blocklist.alone

    def in_use(self) -> set[str] | None:
        """The ids of the meshes that are listed or have a bot; None before the first list was read."""
        running = {mesh for mesh, run in self._runs.items() if run.present}
        return None if self._inventory.meshes is None else self._inventory.meshes.keys() | running

    def reconcile(self) -> None:
        """Apply a good round of discovery: update what is known of each mesh, then start and stop bots."""
        self._inventory.forget_unread(self._needed)
        self._left_alone.round_finished()
        self._exit_policy.lift_gone()
        self._starts.rests.round_finished()
        self.refresh()
        for mesh, run in self._runs.items():
            # An end whose consequence could not be saved, or that the runner could not forget, is examined again.
            self._examine_if_ended(mesh)
            if run.phase is RunPhase.RUNNING and not self._record(mesh).worker.ready:
                # The bot did not answer when the service adopted it.
                self.health.ask(mesh)
        self.apply_plan()

    def apply_plan(self) -> None:
        """Begin the starts and stops of the plan, but for meshes that have a step under way.

        When that step is over the plan is applied again.
        """
        self._apply.cancel()
        if not self._planning:
            return
        for decision in self.plan():
            record = self._record(decision.mesh)
            if record.decision != decision:
                record.decision = decision
                self._publish(decision.mesh)
            if self._steps.is_busy(decision.mesh):
                continue
            if decision.action is Action.START:
                task = self._begin(decision.mesh, MeshStep.START_PENDING, self._start)
                self._pending[decision.mesh] = task
                task.add_done_callback(partial(self._start_is_over, decision.mesh))
            elif decision.action is Action.STOP and self._steps[decision.mesh] is MeshStep.IDLE:
                extra = about(decision.mesh, LogEvent.STOPPED)
                log.info("Stopping mesh %s: %s", decision.mesh, decision.reason, extra=extra)
                self._begin(decision.mesh, MeshStep.STOPPING, self._runner.stop_mesh)

    def pause(self, mesh: str) -> tuple[float, str]:
        """For how many more seconds the bot of a mesh must not call Rave, and why in words; 0 when it may."""
        return self._starts.pause(self._record(mesh))

    def refresh(self) -> None:
        """Update `records` from the inventory, the blocklist and the runner."""
        alive = (self._inventory.meshes or {}).keys() | self._runner.runs.keys() | self._steps.busy
        known = alive | self._latest_blocked(alive)
        self._more_blocked = 0
        for mesh in sorted(self.records.keys() - known):
            self._starts.forget(mesh)
            self._changed(self.records.pop(mesh))
        # In an order that another process has as well: a simulation is to be repeatable.
        for mesh in sorted(known):
            record = self._record(mesh)
            self._look_up(record)
            record.block = self._blocklist.announced.get(mesh)
            self._changed(record)

    def block_changed(self, change: BlocklistChange) -> None:
        """Publish a change of the blocklist that has been saved, and apply the plan if it depends on the change."""
        mesh = change.block.mesh
        known = mesh in self.records
        more = change.what is What.BLOCKED and not known
        self._more_blocked += more
        # If an operator adds thousands of meshes to the file at once, only the last of them get a record. Most of the
        # others would lose theirs a moment later.
        if known or (more and self._blocklist.announcements_left < _MAX_BLOCKED_SHOWN):
            self._record(mesh).block = self._blocklist.announced.get(mesh)
            self._publish(mesh)
        if self._more_blocked > _MAX_BLOCKED_SHOWN and not self._blocklist.announcements_left:
            self.refresh()
        if known and (change.what is not What.BLOCKED or change.actor != SERVICE):
            # No need to plan again for other changes: a bot whose mesh the service blocks has already ended, or is
            # about to; and a mesh without a record is neither listed nor running.
            self._schedule_apply()

    def _latest_blocked(self, alive: AbstractSet[str]) -> set[str]:
        """The ids of the meshes not in `alive` that were blocked last, `_MAX_BLOCKED_SHOWN` at most."""
        entries = (block for mesh, block in self._blocklist.announced.items() if mesh not in alive)
        return {block.mesh for block in heapq.nlargest(_MAX_BLOCKED_SHOWN, entries, key=lambda block: block.since)}

    @property
    def states(self) -> list[str]:
        """The `MeshState.state` of every mesh. A mesh without a record is on the blocklist, and counts as blocked."""
        unrecorded = len(self._blocklist.announced) - sum(
            record.block is not None for record in self.records.values()
        )
        return [record.state for record in self.records.values()] + ["blocked"] * max(0, unrecorded)

    @property
    def _runs(self) -> dict[str, RunState]:
        """By mesh, the processes that exist, and those whose end the runner has not forgotten yet."""
        return {mesh: self._record(mesh).run for mesh in self._runner.runs}

    def _run(self, mesh: str) -> RunState:
        record = self.records.get(mesh)
        return record.run if record else RunState()

    def find(self, mesh: str) -> MeshState | None:
        """The state of a mesh that has a record or a block; None for any other."""
        block = self._blocklist.announced.get(mesh)
        return self.records.get(mesh) or (MeshState(mesh, block=block) if block else None)

    def title(self, mesh: str) -> str:
        """The title of a mesh, as strangers have written it; empty if it is not known."""
        record, block = self.records.get(mesh), self._blocklist.announced.get(mesh)
        # Before the first plan, a record does not have its block yet.
        return (record.title if record else "") or (block.title if block else "")

    async def start_mesh(self, mesh: str, actor: str) -> None:
        """Start a mesh at an operator's request. That removes its block, unless a kick or an operator has caused it.

        Raises `RaveError`: NoSuchMesh if discovery does not list the mesh, Blocked if something else keeps it from
        running, BadFile if the block was removed but the blocklist could not be saved.
        """
        block = self._blocklist.get(mesh)
        if block and block.reason in (Reason.KICKED, Reason.OPERATOR):
            text = f"mesh {mesh} stays blocked, because {block.describe()}"
            raise RaveError(Code.BLOCKED, text, hint=self._way_out(block), mesh=mesh)
        if mesh not in (self._inventory.meshes or {}):
            hint = "invite the bot, or wait for the next discovery"
            raise RaveError(Code.NO_SUCH_MESH, f"discovery does not list mesh {mesh}", hint=hint, mesh=mesh)
        self._starts.release(mesh)
        self._blocklist.clear_left_alone(mesh)
        saved = self._blocklist.remove(mesh, actor)
        self.apply_plan()
        for decision in self.plan():
            if decision.mesh == mesh and decision.action is Action.SKIP and not self._steps.is_busy(mesh):
                raise RaveError(Code.BLOCKED, f"mesh {mesh} is not started: {decision.reason}", mesh=mesh)
        if self._steps[mesh] is MeshStep.START_PENDING:
            # Otherwise a start that fails as the last one did would change no property, and a caller that waits for
            # its end would not hear of it.
            self._record(mesh).worker.fail("")
            self._publish(mesh)
        await await_saved(mesh, saved)

    async def stop_mesh(self, mesh: str, actor: str) -> None:
        """Stop a mesh at an operator's request, and hold it.

        After a kick, or when an operator has blocked it, the mesh stays blocked for that reason, and is not held.
        Raises `RaveError` (NoSuchMesh, BadFile).
        """
        if self.find(mesh) is None:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", mesh=mesh)
        saved = self._blocklist.add(mesh, Reason.HELD, actor=actor)
        self.apply_plan()
        await await_saved(mesh, saved)

    async def restart_mesh(self, mesh: str) -> None:
        """Replace the process of a running mesh, and wait until the new one is ready.

        Raises `RaveError`: NotRunning, Blocked, Busy, or why the runner could not do it (Unit, Bus, Timeout,
        AccessDenied).
        """
        self._raise_unless_running(mesh)
        if self._steps.is_busy(mesh):
            raise RaveError(Code.BUSY, f"mesh {mesh} is being started or stopped", mesh=mesh)
        task = self._begin(mesh, MeshStep.RESTARTING, self._restart)
        # `wait` does not cancel the task: if the caller is cancelled, the restart is completed all the same.
        await asyncio.wait([task])
        if error := task.result():
            raise error

    async def reconnect_mesh(self, mesh: str) -> None:
        """Have the bot of a mesh open a new connection. Raises `RaveError` (NotRunning, Bus, Timeout)."""
        with self._explaining_absence(mesh):
            await self._runner.reconnect(mesh)

    async def forget_user(self, user: int) -> set[str]:
        """Have all bots forget a user; returns the meshes of running bots that have not confirmed it."""
        heard = await self._runner.forget_user(user)
        return {mesh for mesh, run in self._runs.items() if run.runs} - heard

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """The users in a mesh as its bot reports them: ids and names of some, and how many there are.

        Raises `RaveError` as `reconnect_mesh`, and BadData.
        """
        with self._explaining_absence(mesh):
            return await self._runner.users(mesh)

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """The settings of a mesh as its bot reports them: some, and how many there are. Raises as `users`."""
        with self._explaining_absence(mesh):
            return await self._runner.settings(mesh)

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """A setting of a mesh. Raises as `users`, and InvalidArgument if the bot knows none of that name."""
        with self._explaining_absence(mesh):
            return await self._runner.setting(mesh, name)

    async def change_setting(self, mesh: str, name: str, value: str, actor: str) -> SettingInfo:
        """Change a setting of a mesh at an operator's request, and return it. Raises as `setting`, and TooLarge."""
        with self._explaining_absence(mesh):
            changed = await self._runner.change_setting(mesh, name, value)
        log.info("%s has set %s of mesh %s: %s", actor, changed.name, mesh, changed.value, extra=about(mesh))
        return changed

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """Turn debug logging of a running bot on or off. Raises `RaveError` as `reconnect_mesh`."""
        with self._explaining_absence(mesh):
            await self._runner.set_debug(mesh, debug)
        log.info("Debug logging of mesh %s is %s", mesh, "on" if debug else "off", extra=about(mesh))
        self._record(mesh).worker.debug = debug
        self._publish(mesh)

    def _schedule_apply(self) -> None:
        if self._planning:
            self._apply.schedule()

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(
        self, mesh: str, step: MeshStep, action: Callable[[str], Awaitable[None]]
    ) -> asyncio.Task[RaveError | None]:
        """Run a step of a mesh in the background; no other step of the mesh may begin until it is over.

        The task returns the error that made the step fail, or None.
        """
        self._steps.enter(mesh, step)
        # Of one that has ended while the service was away there may be nothing else but a note.
        self._record(mesh)
        return self._spawn(self._guard(mesh, action))

    async def _guard(self, mesh: str, action: Callable[[str], Awaitable[None]]) -> RaveError | None:
        failure = None
        try:
            await action(mesh)
        except RaveError as e:
            failure = e
            # The error says in words what failed; a traceback would add nothing.
            log.error("Mesh %s: %s", mesh, e, extra=about(mesh))  # noqa: TRY400
        except Exception:
            # A bug of this program that shows in one mesh must not keep the others from being started and stopped.
            incident = new_incident()
            failure = RaveError(
                Code.INTERNAL, with_incident("internal error", incident), mesh=mesh, incident=incident
            )
            log.exception("Mesh %s: %s", mesh, failure, extra=about(mesh))
        finally:
            if failure:
                self._record(mesh).worker.fail(str(failure))
                self._starts.rests.add(mesh)
            stop_failed = failure and self._steps[mesh] is MeshStep.STOPPING
            self._steps.enter(mesh, MeshStep.STOP_FAILED if stop_failed else MeshStep.IDLE)
            self._publish(mesh)
        if stop_failed:
            asyncio.get_running_loop().call_later(_STOP_AGAIN_S, self._stop_again, mesh)
        # Only an end that came during the step is examined now. If the step itself was the examination of an end and
        # could not save it, an immediate second try would fail again, without end: the next `reconcile` tries again.
        if mesh in self._ended_meanwhile:
            self._ended_meanwhile.discard(mesh)
            self._examine_if_ended(mesh)
        # The plan may have changed during the step.
        self._schedule_apply()
        return failure

    def _start_is_over(self, mesh: str, task: asyncio.Task[Any]) -> None:
        if self._pending.get(mesh) is task:
            del self._pending[mesh]

    def _stop_again(self, mesh: str) -> None:
        if self._steps[mesh] is MeshStep.STOP_FAILED:
            self._steps.enter(mesh, MeshStep.IDLE)
        self._schedule_apply()

    def _raise_unless_running(self, mesh: str) -> None:
        if block := self._blocklist.get(mesh):
            text = f"mesh {mesh} does not run, because {block.describe()}"
            raise RaveError(Code.BLOCKED, text, hint=self._way_out(block), mesh=mesh)
        if not self._run(mesh).runs:
            hint = f"{self._advice.start_mesh.format(mesh=mesh)} starts it"
            raise RaveError(Code.NOT_RUNNING, f"mesh {mesh} does not run", hint=hint, mesh=mesh)

    @contextlib.contextmanager
    def _explaining_absence(self, mesh: str) -> Iterator[None]:
        """Ask the bot of a mesh in the block; if it does not run, the error says what is true of the mesh instead."""
        try:
            yield
        except RaveError as e:
            phase = self._run(mesh).phase
            if e.code is not Code.NOT_RUNNING or phase is RunPhase.RUNNING:
                raise
            again = "try again in some seconds"
            if block := self._blocklist.get(mesh):
                what, hint = f"does not run, because {block.describe()}", self._way_out(block)
            elif phase is RunPhase.STARTING:
                what, hint = "is starting", again
            elif phase in (RunPhase.STOPPING, RunPhase.WAITING):
                restarts = phase is RunPhase.WAITING or self._steps[mesh] is MeshStep.RESTARTING
                what, hint = "is being restarted" if restarts else "is stopping", again
            else:
                what, hint = "does not run", f"{self._advice.start_mesh.format(mesh=mesh)} starts it"
            raise RaveError(Code.NOT_RUNNING, f"the bot of mesh {mesh} {what}", hint=hint, mesh=mesh) from e

    def _way_out(self, block: Block) -> str:
        if block.reason not in (Reason.KICKED, Reason.OPERATOR):
            return f"{self._advice.start_mesh.format(mesh=block.mesh)} starts it"
        invite = ", then invite the bot again" if block.reason is Reason.KICKED else ""
        return f"{self._advice.unblock_mesh.format(mesh=block.mesh)} unblocks it{invite}"

    async def _start(self, mesh: str) -> None:
        await self._starts.turn()
        async with self._turn:
            if not self._may_start(mesh):
                return
            self._steps.enter(mesh, MeshStep.STARTING)
            await self._finish(mesh, await self._runner.start_mesh(mesh))
        if self._run(mesh).phase is RunPhase.ABSENT and not self._blocklist.get(mesh):
            hint = self._advice.mesh_log.format(mesh=mesh)
            raise RaveError(Code.UNIT, f"the process of mesh {mesh} did not start", hint=hint, mesh=mesh)

    def _may_start(self, mesh: str) -> bool:
        """Whether a mesh is still to be started, now that its turn has come.

        While it waited, it may have been blocked, or an operator may have started it by hand. If that process has
        failed since, its end must be examined before another start.
        """
        wanted = self._inventory.lists(mesh) and not self._blocklist.get(mesh)
        return wanted and self._run(mesh).phase is RunPhase.ABSENT and not self._starts.must_wait(self._record(mesh))

    async def _restart(self, mesh: str) -> None:
        async with self._turn:
            # The bot may have been kicked while the restart waited for its turn.
            self._raise_unless_running(mesh)
            await self._finish(mesh, await self._runner.restart_mesh(mesh))
        if not self._run(mesh).runs and not self._blocklist.get(mesh):
            hint = self._advice.mesh_log.format(mesh=mesh)
            raise RaveError(Code.UNIT, f"the new process of mesh {mesh} has ended", hint=hint, mesh=mesh)

    async def _finish(self, mesh: str, cancelled_order: str | None) -> None:
        """Hold the mesh if its start was replaced by an operator's stop, which `cancelled_order` names."""
        if cancelled_order is not None:
            await self._overrides.hold_if_stopped_by_hand(mesh, cancelled_order)

    def _examine_if_ended(self, mesh: str) -> None:
        end = self._run(mesh).end
        if end and not self._steps.is_busy(mesh):
            self._begin(mesh, MeshStep.EXAMINING, partial(self._examine, end=end))

    async def _examine(self, mesh: str, end: RunEnd) -> None:
        """Decide what follows from the end of a process, save it, and only then have the runner forget the end."""
        ended_before = mesh in self._ended_before
        self._ended_before.discard(mesh)
        if end.status is ExitStatus.ALONE:
            await self._examine_left_alone(mesh)
            return
        lesson = await self._exit_policy.apply(mesh, end)
        self._look_up(self._record(mesh))
        if lesson.outage_reason:
            # If the process ended before this service started, an operator may have fixed the cause since: then the
            # mesh waits only for the next round of discovery.
            if end.needs_person and not ended_before:
                self._starts.rests.back_off(mesh)
            else:
                self._starts.rests.add(mesh)
            self._record(mesh).worker.fail(lesson.outage_reason)
        if not lesson.saved:
            # The failed unit is now the only trace that outlives this service, so it is kept.
            return
        await self._runner.forget_end(mesh)
        if lesson.reason is Reason.KICKED:
            await self._leave(mesh)

    async def _examine_left_alone(self, mesh: str) -> None:
        # Clear the error: the plan says why this mesh does not run.
        self._record(mesh).worker.fail("")
        if await self._left_alone.add(mesh):
            await self._runner.forget_end(mesh)

    async def _examine_ends_while_away(self) -> None:
        """Examine the ends that the runner noted while no service ran, and of which its units show nothing more."""
        for mesh, end in (await self._runner.ends_while_away()).items():
            if not self._steps.is_busy(mesh):
                log.info("Mesh %s has ended while the service was away", mesh, extra=about(mesh))
                self._ended_before.add(mesh)
                self._begin(mesh, MeshStep.EXAMINING, partial(self._examine, end=end))

    def _run_changed(self, change: RunChange) -> None:
        mesh, old, run = change.mesh, change.old, change.new
        record = self._record(mesh)
        record.run = run
        record.last_exit = run.last_exit or record.last_exit
        if old.process not in (0, run.process) or not run.runs:
            # The process was replaced or has ended: drop what it reported, but for its last error. When a process is
            # new (`old.process` is 0) nothing is dropped, as its first report may come before the news of its id.
            record.worker = WorkerState(last_error=record.worker.last_error)
        if run.phase is RunPhase.WAITING and old.phase is not RunPhase.WAITING:
            self._exit_policy.crashed(mesh, run.last_exit or "they end by themselves")
        if run.phase is RunPhase.RUNNING and old.phase is not RunPhase.RUNNING:
            record.worker.heard = time.monotonic()
        self._publish(mesh)
        if not self._adopted:
            return
        if self._steps.is_busy(mesh):
            if run.end and run.end != old.end:
                self._ended_meanwhile.add(mesh)
            if self._steps[mesh] is MeshStep.EXAMINING and run.runs and not old.present:
                # This step starts nothing, so an operator has.
                self._started_by_hand(mesh)
            return
        self._examine_if_ended(mesh)
        if change.stop_order is not None:
            self._spawn(self._overrides.hold_if_stopped_by_hand(mesh, change.stop_order))
        if run.runs and not old.present:
            self._started_by_hand(mesh)
        elif run.runs and self._blocklist.get(mesh):
            # Its process was restarted although it is blocked, as when a bot crashes after a kick: the plan stops it.
            self._schedule_apply()
        elif old.present and run.phase is RunPhase.ABSENT:
            self._starts.rests.add(mesh)
        if self._limits().total is not None and old.present and not run.present:
            # Another mesh may take the place.
            self._schedule_apply()

    def _started_by_hand(self, mesh: str) -> None:
        """An operator has started a mesh, and wants the bot there even if the room is empty."""
        self._blocklist.clear_left_alone(mesh)
        self._overrides.lift_hold(mesh)
        if self._blocklist.get(mesh):
            # Another block is in force: the plan stops the mesh again.
            self._schedule_apply()

    def _unhealthy(self, mesh: str) -> None:
        """Replace the process of a mesh that does not answer."""
        self._publish(mesh)
        if not self._steps.is_busy(mesh):
            text = "Restarting mesh %s, because its process does not answer"
            log.warning(text, mesh, extra=about(mesh, LogEvent.UNHEALTHY))
            self._begin(mesh, MeshStep.RESTARTING, self._restart)

    def _answered(self, mesh: str) -> None:
        """Apply the answer of a bot to a health check, which `Health` has put into its record."""
        worker = self._record(mesh).worker
        if worker.attempts > self._blocklist.memory(mesh).failures:
            # Attempts have failed while the service was away.
            self._blocklist.record_failure(mesh, worker.attempts, worker.last_error)
        if worker.attempts and not worker.connected:
            self._exit_policy.failed(mesh, worker.last_error)
        self.reports.reset_failures_if_stable(mesh)
        self._publish(mesh)

    def _reported(self, report: WorkerReport) -> None:
        """Apply a report of a bot."""
        self.reports.apply(report.mesh, report.event)
        if isinstance(report.event, Ready):
            # The event does not say which version runs, nor whether it is connected.
            self.health.ask(report.mesh)
        self._publish(report.mesh)

    def _look_up(self, record: MeshState) -> None:
        """Update a record from the inventory."""
        record.look_up(self._inventory)

    def _record(self, mesh: str) -> MeshState:
        record = self.records.get(mesh)
        if record is None:
            record = self.records[mesh] = MeshState(mesh)
        return record

    def _publish(self, mesh: str) -> None:
        self._changed(self._record(mesh))
