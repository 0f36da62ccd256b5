"""Brings the bots that run in line with the plan, and decides from what becomes of them.

The order of two things matters. What follows from the end of a bot is saved first, and only then the runner forgets
the end: a service that dies in between finds the end again, and decides the same.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, TypeVar

from ravesvc.api.models import Mesh
from ravesvc.blocklist.blocklist import Blocklist, await_saved
from ravesvc.blocklist.model import SERVICE, BlocklistChange, Reason, What
from ravesvc.common.coalesced import Coalesced
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.config.advice import Advice
from ravesvc.core.exit_policy import ExitPolicy
from ravesvc.core.health import Health
from ravesvc.core.inventory import Inventory
from ravesvc.core.left_alone import LeftAlone
from ravesvc.core.manual_override import ManualOverrides
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.plan import Action, Decision, enough, plan
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.runner import RunChange, Runner, WorkerReport
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.steps import MeshStep, Steps
from ravesvc.core.worker_events import Ready, WorkerReports
from ravesvc.errors import Code, RaveError, new_incident, with_incident
from ravesvc.names import ExitStatus

T = TypeVar("T")

log = logging.getLogger(__name__)

# Starting Python is work for a processor: as many at a time as keep the processors busy, and no more.
_STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
# Of the meshes that are blocked and nothing else, so many have a record: those that were blocked last. Each costs an
# object on the bus, at every start, and of thousands an operator reads the list at most.
_MAX_BLOCKED_SHOWN = 200
# After this time what could not be stopped is stopped again.
_STOP_AGAIN_S = 10.0


class Fleet:
    """Every mesh that is listed or has a process, and the latest of those that are blocked only, in `records` by id.

    Args:
        interval: seconds between two questions to a bot how it is.
        changed: called with each record that may look different now, also with one that has just left `records`.
        trusted: returns the users of whose meshes there may be more than `per_user`.
        leave: leaves a mesh on Rave's side, after a kick.
        answers: returns whether Rave answers at all.
        own_user: returns the id of the bot's account; 0 while that is not known.
        starts: says when a mesh may be started.

    Attributes:
        reports: what bots say of themselves.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        census: Inventory,
        blocks: Blocklist,
        limit: int | None,
        per_user: int | None = None,
        trusted: Callable[[], AbstractSet[int]] = frozenset,
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
        self._census = census
        self._blocks = blocks
        self._limit = limit
        self._per_user = per_user
        self._trusted = trusted
        self._changed = changed
        self._leave = leave
        self._starts = starts
        self._advice = advice
        self._lessons = ExitPolicy(self.records, census, blocks, answers, starts.outages)
        self.reports = WorkerReports(self.records, census, blocks, starts, self._lessons)
        self._company = LeftAlone(census, blocks, own_user)
        self._overrides = ManualOverrides(runner, blocks)
        self._steps = Steps()
        # Those that are busy, and whose process has ended meanwhile.
        self._ended_meanwhile: set[str] = set()
        # Those whose process had ended before this one began.
        self._ended_before: set[str] = set()
        self._turn = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._apply = Coalesced(self.apply_plan)
        self._adopted = False  # what runs already is known
        self._planning = False
        self._more_blocked = 0  # records of meshes that came to be blocked since the last `refresh`
        runner.changed.connect(self._run_changed)
        runner.reported.connect(self._reported)

    async def start(self) -> None:
        """Listen, then adopt what runs already. Raises `RaveError` (Bus, Timeout)."""
        await self._runner.start()
        runs = self._runner.runs
        running = [mesh for mesh, run in runs.items() if run.runs]
        await self._overrides.adopt(running)
        self._census.adopt({*running, *self._blocks.alone})
        self._lessons.recall()
        self._adopted = self._planning = True
        self._ended_before |= {mesh for mesh, run in runs.items() if run.end}
        # These first: a bot may have been kicked, started again by hand, and have ended for another reason. The note
        # of the kick is forgotten together with that end.
        await self._learn_from_ends_while_away()
        for mesh in list(runs):
            self._learn_if_ended(mesh)
        # What is blocked by now is not to run on until there is a list.
        self._schedule_apply()
        await self.health.adopt(mesh for mesh in running if self._run(mesh).phase is RunPhase.RUNNING)
        self.refresh()

    def stop_planning(self) -> None:
        """Start and stop nothing more; what becomes of the bots is learnt on."""
        self._planning = False
        self._apply.cancel()

    async def close(self, *, grace_s: float = 0.0) -> None:
        """Stop acting; what is under way has `grace_s` seconds to end. Bots run on if the runner lets them."""
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
        """What would be done now."""
        return plan(
            self._census.meshes,
            self._blocks.in_force(),
            self._runs,
            self._limit,
            resting=self._starts.rests.meshes,
            starting=self._steps.starting,
            missing=self._census.missing,
            held=self._starts.held(self.records.values()),
            unread=self._census.unread,
            whole=self._census.whole,
            alone=self._company.wanting,
            per_user=self._per_user,
            trusted=self._trusted(),
        )

    def enough(self, found: Collection[Mesh]) -> bool:
        """Whether no more of the list of meshes need be read than this."""
        census = self._census
        needed = self._needed & census.known if census.whole else self._needed
        out = census.left | self._company.wanting
        return enough(found, self._blocks.in_force(), needed, out, self._limit, self._per_user, self._trusted())

    @property
    def _needed(self) -> AbstractSet[str]:
        """Those of which the next list has to tell."""
        return {mesh for mesh, run in self._runs.items() if run.present} | self._blocks.alone

    def in_use(self) -> set[str] | None:
        """The meshes that are listed, or have a bot; None while lists are not known."""
        running = {mesh for mesh, run in self._runs.items() if run.present}
        return None if self._census.meshes is None else self._census.meshes.keys() | running

    def reconcile(self) -> None:
        """Begin to bring the meshes in line with a good round of discovery."""
        self._census.forget_unread(self._needed)
        self._company.welcome()
        self._lessons.unlearn()
        self._starts.rests.round_finished()
        self.refresh()
        for mesh, run in self._runs.items():
            # What could not be saved, or reset, the last time.
            self._learn_if_ended(mesh)
            if run.phase is RunPhase.RUNNING and not self._record(mesh).worker.ready:
                # It did not answer when it was to be adopted.
                self.health.ask(mesh)
        self.apply_plan()

    def apply_plan(self) -> None:
        """Begin to start and stop what the plan says; what is being started or stopped already is left alone."""
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
                self._begin(decision.mesh, MeshStep.START_PENDING, self._start)
            elif decision.action is Action.STOP and self._steps[decision.mesh] is MeshStep.IDLE:
                extra = about(decision.mesh, LogEvent.STOPPED)
                log.info("Stopping mesh %s: %s", decision.mesh, decision.reason, extra=extra)
                self._begin(decision.mesh, MeshStep.STOPPING, self._runner.stop_mesh)

    def pause(self, mesh: str) -> tuple[float, str]:
        """For how many more seconds the bot of a mesh is to leave Rave alone, and why; 0 when it need not."""
        return self._starts.pause(self._record(mesh))

    def refresh(self) -> None:
        """Bring the records in line with what is listed, blocked and loaded."""
        alive = (self._census.meshes or {}).keys() | self._runner.runs.keys() | self._steps.busy
        known = alive | self._latest_blocked(alive)
        self._more_blocked = 0
        for mesh in self.records.keys() - known:
            self._starts.forget(mesh)
            self._changed(self.records.pop(mesh))
        for mesh in known:
            record = self._record(mesh)
            self._look_up(record)
            record.block = self._blocks.announced.get(mesh)
            self._changed(record)

    def block_changed(self, change: BlocklistChange) -> None:
        """A change of the blocklist is safe: show it, and do what follows from it."""
        mesh = change.block.mesh
        known = mesh in self.records
        more = change.what is What.BLOCKED and not known
        self._more_blocked += more
        # Of thousands that an operator puts into the file at once, most would have a record for a moment only.
        if known or (more and self._blocks.announcements_left < _MAX_BLOCKED_SHOWN):
            self._record(mesh).block = self._blocks.announced.get(mesh)
            self._publish(mesh)
        if self._more_blocked > _MAX_BLOCKED_SHOWN and not self._blocks.announcements_left:
            self.refresh()
        if known and (change.what is not What.BLOCKED or change.actor != SERVICE):
            # What the service blocks by itself ends by itself; what had no record is neither listed nor loaded.
            self._schedule_apply()

    def _latest_blocked(self, alive: AbstractSet[str]) -> set[str]:
        """The meshes to be shown that are blocked, and nothing else."""
        blocks = (block for mesh, block in self._blocks.announced.items() if mesh not in alive)
        return {block.mesh for block in heapq.nlargest(_MAX_BLOCKED_SHOWN, blocks, key=lambda block: block.since)}

    @property
    def states(self) -> list[str]:
        """The state of every mesh in a word. Those without a record are on the blocklist, and count as blocked."""
        unrecorded = len(self._blocks.announced) - sum(record.block is not None for record in self.records.values())
        return [record.state for record in self.records.values()] + ["blocked"] * max(0, unrecorded)

    @property
    def _runs(self) -> dict[str, RunState]:
        """The processes that there are, and those that have ended and are not forgotten yet."""
        return {mesh: self._record(mesh).run for mesh in self._runner.runs}

    def _run(self, mesh: str) -> RunState:
        record = self.records.get(mesh)
        return record.run if record else RunState()

    def find(self, mesh: str) -> MeshState | None:
        """What is known of a mesh, whether it has a record or is blocked only; None if nothing is."""
        block = self._blocks.announced.get(mesh)
        return self.records.get(mesh) or (MeshState(mesh, block=block) if block else None)

    async def start_mesh(self, mesh: str, actor: str) -> None:
        """Start a mesh on an operator's word, which lifts any block but a kick and an operator's own.

        Raises `RaveError`: NoSuchMesh when discovery does not list it, Blocked when something else keeps it from
        running, BadFile when it is done but could not be saved.
        """
        block = self._blocks.get(mesh)
        if block and block.reason in (Reason.KICKED, Reason.OPERATOR):
            invite = ", then invite the bot again" if block.reason is Reason.KICKED else ""
            hint = f"{self._advice.unblock} {mesh} unblocks it{invite}"
            raise RaveError(Code.BLOCKED, f"mesh {mesh} is blocked: {block.describe()}", hint=hint, mesh=mesh)
        if mesh not in (self._census.meshes or {}):
            hint = "invite the bot, or wait for the next discovery"
            raise RaveError(Code.NO_SUCH_MESH, f"discovery does not list mesh {mesh}", hint=hint, mesh=mesh)
        self._starts.release(mesh)
        self._blocks.clear_left_alone(mesh)
        saved = self._blocks.remove(mesh, actor)
        self.apply_plan()
        for decision in self.plan():
            if decision.mesh == mesh and decision.action is Action.SKIP and not self._steps.is_busy(mesh):
                raise RaveError(Code.BLOCKED, f"mesh {mesh} is not started: {decision.reason}", mesh=mesh)
        await await_saved(mesh, saved)

    async def stop_mesh(self, mesh: str, actor: str) -> None:
        """Stop a mesh on an operator's word, and keep it stopped. Raises `RaveError` (NoSuchMesh, BadFile)."""
        if self.find(mesh) is None:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {mesh}", mesh=mesh)
        saved = self._blocks.add(mesh, Reason.HELD, actor=actor)
        self.apply_plan()
        await await_saved(mesh, saved)

    async def restart_mesh(self, mesh: str) -> None:
        """Give a running mesh another process, and wait for it to be ready.

        Raises `RaveError`: NotRunning, Blocked, Busy, or what keeps systemd from doing it (Unit, Bus, Timeout,
        AccessDenied).
        """
        self._insist_on_running(mesh)
        if self._steps.is_busy(mesh):
            raise RaveError(Code.BUSY, f"mesh {mesh} is being started or stopped", mesh=mesh)
        task = self._begin(mesh, MeshStep.RESTARTING, self._restart)
        # Shielded: whoever asked may go away, but half a restart is none.
        await asyncio.wait([task])
        if error := task.result():
            raise error

    async def reconnect_mesh(self, mesh: str) -> None:
        """Have the bot of a mesh connect anew. Raises `RaveError` (NotRunning, Bus, Timeout)."""
        await self._runner.reconnect(mesh)

    async def forget_user(self, user: int) -> set[str]:
        """Have all bots forget a user; returns the meshes of those that may not have heard of it."""
        heard = await self._runner.forget_user(user)
        return {mesh for mesh, run in self._runs.items() if run.runs} - heard

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """Who is in a mesh now, as its child says: ids and names of some, and how many there are.

        Raises `RaveError` as `reconnect_mesh`, and BadData.
        """
        return await self._runner.users(mesh)

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """Let a mesh's child log all there is, or no more than usual. Raises `RaveError` as `reconnect_mesh`."""
        await self._runner.set_debug(mesh, debug)
        log.info("Mesh %s logs %s", mesh, "all there is" if debug else "no more than usual", extra=about(mesh))
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
        """Do something with a mesh in the background, and nothing else with it meanwhile; the result is a failure."""
        self._steps.enter(mesh, step)
        return self._spawn(self._guard(mesh, action))

    async def _guard(self, mesh: str, action: Callable[[str], Awaitable[None]]) -> RaveError | None:
        failure = None
        try:
            await action(mesh)
        except RaveError as e:
            failure = e
            # Said in words: a traceback would add nothing.
            log.error("Mesh %s: %s", mesh, e, extra=about(mesh))  # noqa: TRY400
        except Exception:
            # A bug of ours in a step of one mesh costs no other mesh anything.
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
        # From one end we learn once: a save or reset that fails would fail again and again, so it waits for the next
        # `reconcile`.
        if mesh in self._ended_meanwhile:
            self._ended_meanwhile.discard(mesh)
            self._learn_if_ended(mesh)
        # What was decided meanwhile.
        self._schedule_apply()
        return failure

    def _stop_again(self, mesh: str) -> None:
        if self._steps[mesh] is MeshStep.STOP_FAILED:
            self._steps.enter(mesh, MeshStep.IDLE)
        self._schedule_apply()

    def _insist_on_running(self, mesh: str) -> None:
        if block := self._blocks.get(mesh):
            raise RaveError(Code.BLOCKED, f"mesh {mesh} is {block.state}: {block.describe()}", mesh=mesh)
        if not self._run(mesh).runs:
            raise RaveError(Code.NOT_RUNNING, f"mesh {mesh} does not run", mesh=mesh)

    async def _start(self, mesh: str) -> None:
        await self._starts.turn()
        async with self._turn:
            if not self._may_start(mesh):
                return
            self._steps.enter(mesh, MeshStep.STARTING)
            await self._finish(mesh, await self._runner.start_mesh(mesh))
        if self._run(mesh).phase is RunPhase.ABSENT and not self._blocks.get(mesh):
            hint = self._advice.mesh_log.format(mesh=mesh)
            raise RaveError(Code.UNIT, f"the process of mesh {mesh} did not start", hint=hint, mesh=mesh)

    def _may_start(self, mesh: str) -> bool:
        """Whether it was not decided otherwise while a mesh waited for its turn.

        An operator may have started it, and it may have failed since, which is to be learnt from first.
        """
        wanted = self._census.lists(mesh) and not self._blocks.get(mesh)
        return wanted and self._run(mesh).phase is RunPhase.ABSENT and not self._starts.holds(self._record(mesh))

    async def _restart(self, mesh: str) -> None:
        async with self._turn:
            # It may have been kicked while it waited for its turn.
            self._insist_on_running(mesh)
            await self._finish(mesh, await self._runner.restart_mesh(mesh))

    async def _finish(self, mesh: str, other_order: str | None) -> None:
        """A start is over; an operator may have put a stop in its place."""
        if other_order is not None:
            await self._overrides.stopping(mesh, other_order)

    def _learn_if_ended(self, mesh: str) -> None:
        end = self._run(mesh).end
        if end and not self._steps.is_busy(mesh):
            self._begin(mesh, MeshStep.EXAMINING, partial(self._learn, end=end))

    async def _learn(self, mesh: str, end: RunEnd) -> None:
        """Save what the end of a process teaches, then have the runner forget it."""
        ended_before = mesh in self._ended_before
        self._ended_before.discard(mesh)
        if end.status is ExitStatus.ALONE:
            await self._learn_alone(mesh)
            return
        lesson = await self._lessons.learn(mesh, end)
        self._look_up(self._record(mesh))
        if lesson.excuse:
            # What an operator had to mend may be mended by now if our service has been started since.
            if end.needs_person and not ended_before:
                self._starts.rests.back_off(mesh)
            else:
                self._starts.rests.add(mesh)
            self._record(mesh).worker.fail(lesson.excuse)
        if not lesson.saved:
            # The failed unit is the only lasting trace then, so it stays.
            return
        await self._runner.forget_end(mesh)
        if lesson.reason is Reason.KICKED:
            await self._leave(mesh)

    async def _learn_alone(self, mesh: str) -> None:
        # Why it does not run is said by the plan.
        self._record(mesh).worker.fail("")
        if await self._company.missed(mesh):
            await self._runner.forget_end(mesh)

    async def _learn_from_ends_while_away(self) -> None:
        """Learn from ends of which the runner has no other trace."""
        for mesh, end in (await self._runner.ends_while_away()).items():
            if not self._steps.is_busy(mesh):
                log.info("Mesh %s has ended while the service was away", mesh, extra=about(mesh))
                self._ended_before.add(mesh)
                self._begin(mesh, MeshStep.EXAMINING, partial(self._learn, end=end))

    def _run_changed(self, change: RunChange) -> None:
        mesh, old, run = change.mesh, change.old, change.new
        record = self._record(mesh)
        record.run = run
        record.last_exit = run.last_exit or record.last_exit
        if old.process not in (0, run.process) or not run.runs:
            # Another process, or none: what the last one said no longer holds. Its last words are kept. (The first
            # words of a process may be quicker than the news of its id, and hold.)
            record.worker = WorkerState(last_error=record.worker.last_error)
        if run.phase is RunPhase.WAITING and old.phase is not RunPhase.WAITING:
            self._lessons.crashed(mesh, run.last_exit or "they end by themselves")
        if run.phase is RunPhase.RUNNING and old.phase is not RunPhase.RUNNING:
            record.worker.heard = time.monotonic()
        self._publish(mesh)
        if not self._adopted:
            return
        if self._steps.is_busy(mesh):
            if run.end and run.end != old.end:
                self._ended_meanwhile.add(mesh)
            return
        self._learn_if_ended(mesh)
        if change.stop_order is not None:
            self._spawn(self._overrides.stopping(mesh, change.stop_order))
        if run.runs and not old.present:
            # An operator who starts it wants it there.
            self._blocks.clear_left_alone(mesh)
            if self._overrides.starting(mesh):
                # What blocks it stops it again.
                self._schedule_apply()
        elif run.runs and self._blocks.get(mesh):
            # It has ended, and is started again: not all that ends for a reason says so.
            self._schedule_apply()
        elif old.present and run.phase is RunPhase.ABSENT:
            self._starts.rests.add(mesh)
        if self._limit is not None and old.present and not run.present:
            # There may be room for another one.
            self._schedule_apply()

    def _unhealthy(self, mesh: str) -> None:
        """A child does not answer: another process may."""
        self._publish(mesh)
        if not self._steps.is_busy(mesh):
            text = "Restarting mesh %s, because its process does not answer"
            log.warning(text, mesh, extra=about(mesh, LogEvent.UNHEALTHY))
            self._begin(mesh, MeshStep.RESTARTING, self._restart)

    def _answered(self, mesh: str) -> None:
        """A child has told how it is."""
        worker = self._record(mesh).worker
        if worker.attempts > self._blocks.memory(mesh).failures:
            # It has failed while we were away.
            self._blocks.record_failure(mesh, worker.attempts, worker.last_error)
        if worker.attempts and not worker.connected:
            self._lessons.failed(mesh, worker.last_error)
        self.reports.reset_failures_if_stable(mesh)
        self._publish(mesh)

    def _reported(self, report: WorkerReport) -> None:
        """A bot has said something."""
        self.reports.apply(report.mesh, report.event)
        if isinstance(report.event, Ready):
            # Which program it is, and how it is: there is more to it than fits into an event.
            self.health.ask(report.mesh)
        self._publish(report.mesh)

    def _look_up(self, record: MeshState) -> None:
        """Take over what lists say of a mesh."""
        record.look_up(self._census)

    def _record(self, mesh: str) -> MeshState:
        return self.records.setdefault(mesh, MeshState(mesh))

    def _publish(self, mesh: str) -> None:
        self._changed(self._record(mesh))
