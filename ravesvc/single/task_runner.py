"""The bots of all meshes as tasks of this process: starts and stops what the plan says, and learns how they end.

It does what fleet and systemd do together for the service. An exception that escapes from a bot is its crash: it is
logged, and the bot is started again after a growing delay; too many in a row block the mesh, as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ravesvc.api.models import Mesh
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import SERVICE, BlocklistChange, Reason, What
from ravesvc.bot.plugins import Sources
from ravesvc.common.coalesced import Coalesced
from ravesvc.common.log_fields import LogEvent, about, current_mesh
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import STABLE_AFTER_S, Session
from ravesvc.core.exit_policy import ExitPolicy
from ravesvc.core.inventory import Inventory
from ravesvc.core.left_alone import LeftAlone
from ravesvc.core.mesh_state import MeshState, WorkerState, usual_chat_form
from ravesvc.core.plan import Action, enough, plan
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.start_policy import StartPolicy
from ravesvc.core.worker_events import WorkerReports, read_event
from ravesvc.errors import RaveError
from ravesvc.mesh.worker import Worker
from ravesvc.names import Announcement, ExitStatus
from ravesvc.single.host import RoomLink, RoomParent

log = logging.getLogger(__name__)

# Seconds: the longest delay after a crash, and how long a change waits for bots to follow.
_MOST_DELAY = 300.0
_TELL_TIMEOUT = 2.0
# Beyond shutdown_timeout, for saving what the last ones have taught.
_GRACE = 5.0


@dataclass(slots=True)
class _Room:
    """A mesh that has a bot: the task that runs it, and the bot itself while it is no crash that is waited out."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    worker: Worker | None = None
    task: asyncio.Task[None] | None = None


class TaskRunner:
    """Every mesh that is listed, blocked or has a bot, in `records` by id.

    Args:
        parent: makes the parent that the bot of a mesh asks.
        session: that of the account now.
        commands: where own commands come from.
        leave: leaves a mesh on Rave's side, after a kick.
        answers: tells whether Rave answers at all.
        starts: says when a mesh may be started.
        admins: tells the admins, of whose meshes there may be any number.
    """

    def __init__(
        self,
        settings: Config,
        census: Inventory,
        blocks: Blocklist,
        *,
        parent: Callable[[str], RoomParent],
        session: Callable[[], Session | None],
        commands: Sources,
        leave: Callable[[str], Awaitable[None]],
        answers: Callable[[], Awaitable[bool]],
        starts: StartPolicy,
        admins: Callable[[], AbstractSet[int]],
    ) -> None:
        self.records: dict[str, MeshState] = {}
        self._settings = settings
        self._mesh_settings = settings.mesh_settings()
        self._edition = settings.edition()
        self._census = census
        self._blocks = blocks
        self._parent = parent
        self._session = session
        self._commands = commands
        self._leave = leave
        self._starts = starts
        self._admins = admins
        self._lessons = ExitPolicy(self.records, census, blocks, answers, starts.outages)
        self._reports = WorkerReports(self.records, census, blocks, starts, self._lessons)
        self._company = LeftAlone(census, blocks, self._own_user)
        self._rooms: dict[str, _Room] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._apply = Coalesced(self._apply_plan)
        self._acting = True

    def start(self) -> None:
        """Recall what earlier processes have learnt."""
        self._lessons.recall()

    def reconcile(self) -> None:
        """Begin to bring the bots in line with a good round of discovery."""
        self._census.forget_unread(self._rooms.keys() | self._blocks.alone)
        self._company.welcome()
        self._lessons.unlearn()
        self._starts.rests.round_finished()
        for mesh in self._rooms:
            self._reports.reset_failures_if_stable(mesh)
        self._refresh()
        self._apply_plan()

    def in_use(self) -> set[str] | None:
        """The meshes that are listed, or have a bot; None while lists are not known."""
        return None if self._census.meshes is None else self._census.meshes.keys() | self._rooms.keys()

    def enough(self, found: Collection[Mesh]) -> bool:
        """Whether no more of the list of meshes need be read than this."""
        census, limit = self._census, self._settings.max_processes
        needed = (self._rooms.keys() | self._blocks.alone) & census.known
        out = census.left | self._company.wanting
        return enough(
            found, self._blocks.in_force(), needed, out, limit, self._settings.max_meshes_per_user, self._trusted()
        )

    def block_changed(self, change: BlocklistChange) -> None:
        """A change of the blocklist is safe: do what follows from it."""
        mesh = change.block.mesh
        self._record(mesh).block = self._blocks.announced.get(mesh)
        if change.what is not What.BLOCKED or change.actor != SERVICE:
            # What the service blocks by itself ends by itself.
            self._apply.schedule()

    async def tell(self, announcement: Announcement) -> None:
        """Have all bots ask again. One that takes longer than two seconds is not waited for, and follows later."""
        workers = [room.worker for room in self._rooms.values() if room.worker]
        tasks = [asyncio.create_task(_refresh(worker, announcement)) for worker in workers]
        for task in tasks:
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=_TELL_TIMEOUT)

    def forget_user(self, user: int) -> None:
        """Have all bots forget a user."""
        for room in self._rooms.values():
            if room.worker:
                room.worker.forget_user(user)

    def pause(self, mesh: str) -> tuple[float, str]:
        """For how many more seconds the bot of a mesh is to leave Rave alone, and why; 0 when it need not."""
        return self._starts.pause(self._record(mesh))

    def chat_form(self, mesh: str) -> str:
        """The form in which other bots have learned to send chat to servers such as that of a mesh."""
        for other, room in self._rooms.items():
            if room.worker:
                self._record(other).worker.chat_form = room.worker.status().chat_form
        return usual_chat_form(mesh, self.records)

    async def close(self) -> None:
        """Have all bots leave their rooms, at the same time; whichever takes too long is cut off."""
        self._acting = False
        for room in self._rooms.values():
            room.stopped.set()
        tasks = [room.task for room in self._rooms.values() if room.task]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.shutdown_timeout + _GRACE)
        tasks += self._telling
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refresh(self) -> None:
        """Bring the records in line with what is listed, blocked and has a bot."""
        listed = self._census.meshes or {}
        known = listed.keys() | self._blocks.announced.keys() | self._rooms.keys()
        for mesh in self.records.keys() - known:
            self._starts.forget(mesh)
            del self.records[mesh]
        for mesh in known:
            record = self._record(mesh)
            record.look_up(self._census)
            record.block = self._blocks.announced.get(mesh)

    def _apply_plan(self) -> None:
        """Start and stop what the plan says."""
        self._apply.cancel()
        if not self._acting:
            return
        runs = {mesh: self._record(mesh).run for mesh in self._rooms}
        limit = self._settings.max_processes
        decisions = plan(
            self._census.meshes,
            self._blocks.in_force(),
            runs,
            limit,
            resting=self._starts.rests.meshes,
            missing=self._census.missing,
            held=self._starts.held(self.records.values()),
            unread=self._census.unread,
            whole=self._census.whole,
            alone=self._company.wanting,
            per_user=self._settings.max_meshes_per_user,
            trusted=self._trusted(),
        )
        for decision in decisions:
            mesh = decision.mesh
            self._record(mesh).decision = decision
            if decision.action is Action.START:
                self._start(mesh)
            elif decision.action is Action.STOP:
                log.info("Stopping mesh %s: %s", mesh, decision.reason, extra=about(mesh, LogEvent.STOPPED))
                self._record(mesh).run = RunState(phase=RunPhase.STOPPING)
                self._rooms[mesh].stopped.set()

    def _start(self, mesh: str) -> None:
        room = self._rooms[mesh] = _Room()
        self._record(mesh).run = RunState(phase=RunPhase.RUNNING)
        room.task = asyncio.create_task(self._live(mesh, room))

    async def _live(self, mesh: str, room: _Room) -> None:
        """A mesh with a bot, from its start until it is stopped or ends by itself."""
        current_mesh.set(mesh)
        record = self._record(mesh)
        try:
            await self._starts.turn()
            status = await self._bots(room, record)
            record.last_exit = status.name.lower().replace("_", " ")
            log.info("Ended: %s", record.last_exit)
            if status is not ExitStatus.STOPPED:
                await self._learn(record, status)
        except Exception:
            # Nothing of one mesh is worth the others.
            log.exception("Ended by a fault of this program")
            self._starts.rests.add(mesh)
        finally:
            del self._rooms[mesh]
            record.run = RunState()
            self._forget_words(record)
            self._apply.schedule()

    async def _bots(self, room: _Room, record: MeshState) -> ExitStatus:
        """One bot after another, as long as they crash; returns how the last one has ended."""
        crashes = 0
        while True:
            begun = time.monotonic()
            status = await self._bot(room, record)
            if status is not ExitStatus.CRASHED or room.stopped.is_set() or self._blocks.get(record.mesh):
                # A bot that crashes while it is being stopped is gone as well; one that crashes when it has been
                # kicked must not come back.
                return ExitStatus.STOPPED if status is ExitStatus.CRASHED else status
            if time.monotonic() - begun >= STABLE_AFTER_S:
                crashes = 0
            crashes += 1
            if crashes > self._settings.max_process_restarts:
                return status
            first = self._settings.process_restart_delay
            delay = min(first * 2.0 ** min(crashes - 1, 10), max(first, _MOST_DELAY))
            log.warning("The bot is started again in %.3g s", delay)
            self._lessons.crashed(record.mesh, record.worker.last_error)
            record.run = RunState(phase=RunPhase.WAITING, restarts=crashes)
            self._forget_words(record)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await room.stopped.wait()
            if room.stopped.is_set():
                return ExitStatus.STOPPED
            record.run = RunState(phase=RunPhase.RUNNING, restarts=crashes)

    async def _bot(self, room: _Room, record: MeshState) -> ExitStatus:
        """One bot, from its start to its end; whatever it raises is a crash."""
        mesh = record.mesh
        try:
            link = partial(RoomLink, parent=self._parent(mesh), commands=self._commands, heard=self._heard)
            room.worker = Worker(mesh, self._mesh_settings, self._edition, self._session(), link)
            return await room.worker.run(room.stopped)
        except Exception as error:
            log.exception("The bot has crashed", extra=about(mesh, LogEvent.ENDED))
            record.worker.fail(f"it has crashed: {type(error).__name__}")
            return ExitStatus.CRASHED
        finally:
            room.worker = None

    async def _learn(self, record: MeshState, status: ExitStatus) -> None:
        """Save what the end of a mesh's bot teaches."""
        mesh = record.mesh
        if status is ExitStatus.ALONE:
            # Why it does not run is said by the plan.
            record.worker.fail("")
            await self._company.missed(mesh)
            return
        if status is ExitStatus.CRASHED:
            detail = f"{self._settings.max_process_restarts + 1} times in a row; {record.worker.last_error}"
            end = RunEnd(gave_up=True, detail=detail)
        else:
            end = RunEnd(status=status)
        record.run = RunState(phase=RunPhase.ENDED, end=end)
        lesson = await self._lessons.learn(mesh, end)
        if lesson.excuse:
            record.worker.fail(lesson.excuse)
            if end.needs_person:
                self._starts.rests.back_off(mesh)
            else:
                self._starts.rests.add(mesh)
        if lesson.reason is Reason.KICKED:
            await self._leave(mesh)

    def _heard(self, mesh: str, member: str, arguments: Sequence[Any]) -> None:
        """The bot of a mesh says something; it has logged that itself."""
        if event := read_event(member, arguments):
            self._reports.apply(mesh, event)

    def _forget_words(self, record: MeshState) -> None:
        """There is no bot that what was said last still holds for, but for its last words."""
        record.worker = WorkerState(last_error=record.worker.last_error)

    def _trusted(self) -> AbstractSet[int]:
        """The users of whose meshes there may be any number."""
        return self._admins() | {self._own_user()}

    def _own_user(self) -> int:
        session = self._session()
        return session.user_id if session else 0

    def _record(self, mesh: str) -> MeshState:
        return self.records.setdefault(mesh, MeshState(mesh))


async def _refresh(worker: Worker, announcement: Announcement) -> None:
    current_mesh.set(worker.mesh)
    try:
        await worker.refresh(announcement)
    except RaveError as e:
        # It asks again by itself.
        log.debug("It has not followed: %s", e)
    except Exception:
        log.exception("It could not follow")
