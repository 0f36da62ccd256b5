"""Runs each bot as a task of this process. Implements `Runner`.

A bot has crashed if an exception ends it. The exception is logged, and the bot is started again after a delay that
grows with each crash. After `max_process_restarts` restarts in a row it is not started again, and the reconciler
decides what follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ravesvc.bot.plugins import Sources
from ravesvc.common.log_fields import LogEvent, about, current_mesh
from ravesvc.common.signal import Signal
from ravesvc.common.text import count
from ravesvc.config.options import Config
from ravesvc.config.worker_settings import STABLE_AFTER_S, Session
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.runner import RunChange, WorkerReport
from ravesvc.core.worker_events import ErrorReported, read_event
from ravesvc.core.worker_status import SettingInfo, WorkerStatus, error_texts, plugin_infos, setting_infos
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.worker import Worker
from ravesvc.names import Announcement, ExitStatus
from ravesvc.single.local_link import LocalLink, LocalParent

log = logging.getLogger(__name__)

# The longest delay after a crash.
_MAX_DELAY_S = 300.0
# How long a broadcast waits for bots.
_BROADCAST_TIMEOUT_S = 2.0
# How long after `shutdown_timeout` a bot that has not stopped is cancelled.
_STOP_GRACE_S = 5.0


@dataclass(slots=True)
class _Bot:
    """The bot of a mesh: the task that runs it, and its worker; None while it waits for a restart."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    worker: Worker | None = None
    task: asyncio.Task[None] | None = None


class TaskRunner:
    """See `Runner`. No operator can start or stop a task past the service, so there are no manual overrides.

    Args:
        parent: makes the parent for the bot of a mesh.
        session: returns the session of the account; None if there is none.
        commands: where plugins are loaded from.
    """

    def __init__(
        self,
        settings: Config,
        *,
        parent: Callable[[str], LocalParent],
        session: Callable[[], Session | None],
        commands: Sources,
    ) -> None:
        self.changed: Signal[RunChange] = Signal("changes of tasks")
        self.reported: Signal[WorkerReport] = Signal("reports of bots")
        self._settings = settings
        self._mesh_settings = settings.mesh_settings()
        self._edition = settings.edition()
        self._parent = parent
        self._session = session
        self._commands = commands
        self._runs: dict[str, RunState] = {}
        self._bots: dict[str, _Bot] = {}
        self._processes = itertools.count(1)
        self._ending = False
        self._following: set[asyncio.Task[bool]] = set()

    @property
    def runs(self) -> Mapping[str, RunState]:
        """See `Runner`."""
        return self._runs

    async def start(self) -> None:
        """See `Runner`. There are no tasks to find, since none outlives its process."""

    async def stop_all(self) -> None:
        """Have all bots leave their meshes at the same time, and start none any more.

        Bots that take too long are cut off.
        """
        self._ending = True
        await asyncio.gather(*map(self.stop_mesh, list(self._bots)))

    async def close(self) -> None:
        """See `Runner`."""
        tasks = [bot.task for bot in self._bots.values() if bot.task]
        for task in [*tasks, *self._following]:
            task.cancel()
        await asyncio.gather(*tasks, *self._following, return_exceptions=True)

    async def start_mesh(self, mesh: str) -> str | None:
        """See `Runner`. A task runs at once."""
        bot = self._bots[mesh] = _Bot()
        self._enter(mesh, RunState(phase=RunPhase.RUNNING, process=next(self._processes)))
        bot.task = asyncio.create_task(self._live(mesh, bot))
        return None

    async def stop_mesh(self, mesh: str) -> None:
        """See `Runner`."""
        bot = self._bots.get(mesh)
        if bot is None or bot.task is None:
            return
        self._enter(mesh, RunState(phase=RunPhase.STOPPING, process=self._runs[mesh].process))
        bot.stopped.set()
        await asyncio.wait([bot.task], timeout=self._settings.shutdown_timeout + _STOP_GRACE_S)
        if not bot.task.done():
            log.warning("The bot of mesh %s does not stop: it is cut off", mesh, extra=about(mesh))
            bot.task.cancel()
            await asyncio.wait([bot.task])

    async def ended(self, mesh: str) -> None:
        """Wait until the bot that a mesh has now is gone."""
        bot = self._bots.get(mesh)
        if bot and bot.task:
            await asyncio.wait([bot.task])

    async def restart_mesh(self, mesh: str) -> str | None:
        """See `Runner`."""
        await self.stop_mesh(mesh)
        return None if self._ending or mesh in self._runs else await self.start_mesh(mesh)

    async def forget_end(self, mesh: str) -> None:
        """See `Runner`."""
        if mesh not in self._bots:
            self._enter(mesh, RunState())

    async def ends_while_away(self) -> Mapping[str, RunEnd]:
        """See `Runner`. No bot runs while the service does not."""
        return {}

    async def started_at_us(self, mesh: str) -> int:
        """See `Runner`. It raises NotRunning, since no bot was started while no service ran."""
        raise _not_running(mesh)

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        """See `Runner`."""
        return False

    async def status(self, mesh: str) -> WorkerStatus:
        """See `Runner`."""
        worker = self._worker(mesh)
        status = worker.status()
        return WorkerStatus(
            connected=status.connected,
            connected_s=status.lasted,
            attempts=status.attempts,
            last_error=status.last_error,
            plugins=plugin_infos(status.plugins),
            command_errors=error_texts(status.command_errors),
            unshown=status.unshown,
            chat_form=status.chat_form,
            edition=worker.edition,
        )

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """See `Runner`."""
        return await self._worker(mesh).users()

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """See `Runner`."""
        settings, total = self._worker(mesh).settings.listed()
        return setting_infos(settings), total

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """See `Runner`."""
        settings = self._worker(mesh).settings
        return SettingInfo(*settings.described(settings.find(name)))

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """See `Runner`."""
        return SettingInfo(*await self._worker(mesh).settings.change(name, value))

    async def settle(self, mesh: str) -> None:
        """Wait until the bot of a mesh has done what it has begun. Raises `RaveError` (NotRunning)."""
        await self._worker(mesh).settle()

    async def reconnect(self, mesh: str) -> None:
        """See `Runner`."""
        self._worker(mesh).reconnect()

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """See `Runner`. Raises `RaveError` (Refused)."""
        text = "bots in one process all log at the same level"
        raise RaveError(Code.REFUSED, text, hint=f"set debug: true in {self._settings.file}", mesh=mesh)

    async def broadcast(self, announcement: Announcement) -> tuple[int, int]:
        """See `Runner`."""
        tasks = [self._follow(_refreshed(bot.worker, announcement)) for bot in self._bots.values() if bot.worker]
        if tasks:
            await asyncio.wait(tasks, timeout=_BROADCAST_TIMEOUT_S)
        done = sum(task.done() and task.result() for task in tasks)
        return done, len(tasks) - done

    async def announce(self, mesh: str, announcement: Announcement) -> None:
        """See `Runner`."""
        await self._worker(mesh).refresh(announcement)

    async def forget_user(self, user: int) -> frozenset[str]:
        """See `Runner`."""
        workers = [bot.worker for bot in self._bots.values() if bot.worker]
        for worker in workers:
            worker.forget_user(user)
        # A bot that waits for a restart remembers no users, so it counts as having forgotten this one.
        return frozenset(self._bots)

    def is_mute(self, mesh: str) -> bool:
        """See `Runner`. Method calls are always answered."""
        return False

    async def catch_up(self) -> None:
        """See `Runner`. In one process reports arrive at once."""

    async def _live(self, mesh: str, bot: _Bot) -> None:
        """Run the bot of a mesh until it is stopped or ends by itself, and publish how it has ended."""
        current_mesh.set(mesh)
        ended = RunState()
        try:
            ended = await self._until_end(mesh, bot)
            log.info("Ended: %s", ended.last_exit)
        except Exception:
            # A bug of this program in one mesh must not stop the others.
            log.exception("Ended by an internal error")
        finally:
            del self._bots[mesh]
            self._enter(mesh, ended)

    async def _until_end(self, mesh: str, bot: _Bot) -> RunState:
        """Run a worker, and another one after each crash; returns how the last one has ended."""
        crashes = 0
        while True:
            begun = time.monotonic()
            status, crash = await self._run_once(mesh, bot)
            if status is not ExitStatus.CRASHED:
                return _ended(status)
            if bot.stopped.is_set():
                # A bot that crashes while it is being stopped has stopped.
                return _ended(ExitStatus.STOPPED)
            if time.monotonic() - begun >= STABLE_AFTER_S:
                crashes = 0
            crashes += 1
            if crashes > self._settings.max_process_restarts:
                detail = f"{count(crashes, 'time')} in a row; {crash}"
                return RunState(phase=RunPhase.ENDED, end=RunEnd(gave_up=True, detail=detail), last_exit="crashed")
            first_s = self._settings.process_restart_delay
            delay_s = min(first_s * 2.0 ** min(crashes - 1, 10), max(first_s, _MAX_DELAY_S))
            log.warning("The bot is started again in %.3g s", delay_s)
            self._enter(mesh, RunState(phase=RunPhase.WAITING, restarts=crashes, last_exit=crash))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await bot.stopped.wait()
            if bot.stopped.is_set():
                return _ended(ExitStatus.STOPPED)
            process = next(self._processes)
            self._enter(mesh, RunState(phase=RunPhase.RUNNING, process=process, restarts=crashes))

    async def _run_once(self, mesh: str, bot: _Bot) -> tuple[ExitStatus, str]:
        """Run one worker; returns its exit status, and if it has crashed, the exception in words."""
        try:
            link = partial(LocalLink, parent=self._parent(mesh), commands=self._commands, received=self._received)
            bot.worker = Worker(mesh, self._mesh_settings, self._edition, self._session(), link)
            return await bot.worker.run(bot.stopped), ""
        except Exception as error:
            log.exception("The bot has crashed", extra=about(mesh, LogEvent.ENDED))
            crash = f"it has crashed: {type(error).__name__}"
            self.reported.emit(WorkerReport(mesh, ErrorReported(crash)))
            return ExitStatus.CRASHED, crash
        finally:
            bot.worker = None

    def _enter(self, mesh: str, run: RunState) -> None:
        """Set the state of a mesh's bot, and emit the change."""
        old = self._runs.get(mesh, RunState())
        self._runs[mesh] = run
        if run.phase is RunPhase.ABSENT:
            del self._runs[mesh]
        self.changed.emit(RunChange(mesh, old, run))

    def _received(self, mesh: str, member: str, arguments: Sequence[Any]) -> None:
        """Pass on a report of a bot. It is not logged, as the bot has done so itself."""
        if event := read_event(member, arguments):
            self.reported.emit(WorkerReport(mesh, event))

    def _worker(self, mesh: str) -> Worker:
        bot = self._bots.get(mesh)
        if bot is None or bot.worker is None:
            raise _not_running(mesh)
        return bot.worker

    def _follow(self, coroutine: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        """Run a coroutine of a bot to its end, also when the caller no longer waits for it."""
        task = asyncio.create_task(coroutine)
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return task


def _ended(status: ExitStatus) -> RunState:
    words = status.name.lower().replace("_", " ")
    if status is ExitStatus.STOPPED:
        return RunState(last_exit=words)
    return RunState(phase=RunPhase.ENDED, end=RunEnd(status=status), last_exit=words)


def _not_running(mesh: str) -> RaveError:
    return RaveError(Code.NOT_RUNNING, f"the bot of mesh {mesh} does not run", mesh=mesh)


async def _refreshed(worker: Worker, announcement: Announcement) -> bool:
    """Have a bot follow an announcement; returns whether it has."""
    current_mesh.set(worker.mesh)
    try:
        await worker.refresh(announcement)
    except RaveError as e:
        # It asks again by itself.
        log.debug("It has not followed: %s", e)
        return False
    except Exception:
        log.exception("It could not read the change")
        return False
    return True
