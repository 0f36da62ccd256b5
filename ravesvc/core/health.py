"""Health checks: asks each bot at an interval how it is, a few at a time.

A bot whose event loop hangs is killed by systemd's watchdog (WatchdogSec=). A bot whose loop runs, but that does not
answer on the bus, is unhealthy, and is restarted. A bot that answers, but is not in its mesh, is disconnected: it
connects again by itself. A bot that is still starting is not asked.

Scenario: the service itself is late. Under a flood of messages the answers of all bots wait unread until the
questions have timed out, and all bots would be restarted for that. So before a bot is judged unhealthy, it is asked
once more between two calls that the bus itself answers. After the first of them the bot has the question; after the
second the service has read all that was sent to it before.

Scenario: a bot that was taken over sends signals all the time, and answers nothing. The bus counts each unanswered
call. When the service has 128 of them the bus refuses its calls to all other bots, too. So signals do not count as
answers: a bot that has left many calls unanswered is asked once more, and is then unhealthy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import count
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunPhase
from ravesvc.core.runner import MAX_UNANSWERED_CALLS, Runner
from ravesvc.core.worker_status import WorkerStatus
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

# Seconds without an answer after which a bot is unhealthy; with long intervals, the length of two of them.
MAX_SILENCE_S = 60.0
_AT_ONCE = 8
# How often a bot is asked in a row while its signals cross the answers. A bot may send signals without end.
_MAX_QUESTIONS = 3
# Seconds that a bot has to answer the last question, once it has it; and seconds for that with the two calls of the
# bus around it. If it takes longer, the service itself is late. It must be less than the time-out of a question.
_LAST_CHANCE_S = 5.0
_CONFIRMED_WITHIN_S = 8.0
# Seconds for which the start of the service waits for the answers of bots that run already.
_ADOPTION_S = 15.0
# Seconds for which an operator who wants the present answers of all bots waits for them.
_ASK_AGAIN_S = 5.0


class Stats(NamedTuple):
    """How many meshes there are of each kind; healthy ones are connected or disconnected."""

    total: int
    healthy: int
    unhealthy: int
    connected: int
    disconnected: int
    stopped: int


def stats(states: Sequence[str]) -> Stats:
    """Count meshes by kind, given the `MeshState.state` of each.

    A mesh without a process, or whose process is stopping, counts as stopped.
    """
    unhealthy, connected = states.count("unhealthy"), states.count("connected")
    stopped = sum(map(states.count, ("blocked", "held", "stopped", "stopping", "failed")))
    healthy = len(states) - unhealthy - stopped
    return Stats(len(states), healthy, unhealthy, connected, healthy - connected, stopped)


class Health:
    """Asks the bots of all meshes in `records` how they are.

    Args:
        interval: seconds from the end of one round of questions to the start of the next.
        answered: called with a mesh after its bot's answer was put into the record.
        unhealthy: called with a mesh whose bot is unhealthy.
        now: seconds of the monotonic clock.
    """

    def __init__(
        self,
        runner: Runner,
        records: Mapping[str, MeshState],
        *,
        interval: float,
        answered: Callable[[str], None],
        unhealthy: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._records = records
        self.set_interval(interval)
        self._answered = answered
        self._unhealthy = unhealthy
        self._now = now
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._asking: dict[str, asyncio.Task[None]] = {}

    def set_interval(self, seconds: float) -> None:
        """Ask at this interval from the next round of questions on."""
        self._interval = seconds
        self._silence = max(MAX_SILENCE_S, 2 * seconds)

    async def adopt(self, meshes: Iterable[str]) -> None:
        """Ask the bots that an earlier process of the service has started; wait a bounded time for the answers."""
        tasks = [self.ask(mesh) for mesh in meshes]
        if tasks:
            await asyncio.wait(tasks, timeout=_ADOPTION_S)
            answered = sum(record.worker.ready for record in self._records.values())
            log.info("%d of %s answered", answered, count(len(tasks), "running mesh"))

    async def run(self) -> None:
        """Ask all running bots, round after round, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await asyncio.gather(*map(self.ask, self._running()), return_exceptions=True)

    async def ask_again(self) -> None:
        """Ask all running bots now; wait a bounded time for the answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN_S):
                # A question that is under way may be answered with what was so before.
                await _ends(list(self._asking.values()))
                await _ends(map(self.ask, self._running()))

    def ask(self, mesh: str) -> asyncio.Task[None]:
        """Begin to ask a bot, unless that is under way; the task ends after its answer or time-out."""
        if mesh not in self._asking:
            task = self._asking[mesh] = asyncio.create_task(self._ask(mesh))
            task.add_done_callback(lambda _: self._asking.pop(mesh, None))
        return self._asking[mesh]

    def silence(self, mesh: str) -> float:
        """For how many seconds nothing was received from a bot; 0 if its process does not run."""
        record = self._records.get(mesh)
        return self._now() - record.worker.heard if record and record.run.phase is RunPhase.RUNNING else 0.0

    def _running(self) -> list[str]:
        return [mesh for mesh, record in self._records.items() if record.run.phase is RunPhase.RUNNING]

    async def close(self) -> None:
        """Cancel all questions."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, mesh: str) -> None:
        async with self._few:
            record = self._records.get(mesh)
            if record is None:
                return
            worker = record.worker
            try:
                status = await self._status(mesh, worker)
            except RaveError as e:
                log.debug("The bot of mesh %s has not answered: %s", mesh, e)
                if self._owes_an_answer(record, worker):
                    await self._ask_once_more(record, worker, e)
                return
            self._take_over(record, worker, status)

    def _take_over(self, record: MeshState, worker: WorkerState, status: WorkerStatus) -> None:
        if record.worker is not worker:
            # The process was replaced after the question; this answer is that of the old one.
            return
        worker.heard, worker.healthy = self._now(), True
        worker.answer(status, worker.heard)
        self._answered(record.mesh)

    async def _status(self, mesh: str, worker: WorkerState) -> WorkerStatus:
        """The answer of a bot, asked again if a signal has crossed it.

        Scenario: a bot that has just started answers that it is not connected, and a moment later signals that it is.
        On a busy machine both are read at once. Then the signal is handled first, and the older answer would undo it.
        """
        for _ in range(_MAX_QUESTIONS):
            signals = worker.signals
            status = await self._runner.status(mesh)
            if worker.signals == signals:
                break
        return status

    def _owes_an_answer(self, record: MeshState, worker: WorkerState) -> bool:
        silent = self.silence(record.mesh) > self._silence or self._runner.is_mute(record.mesh)
        return record.worker is worker and silent

    async def _ask_once_more(self, record: MeshState, worker: WorkerState, error: RaveError) -> None:
        """Ask a bot so that it certainly gets the question and its answer is certainly read; then judge it."""
        question = asyncio.create_task(self._status(record.mesh, worker))
        try:
            async with asyncio.timeout(_CONFIRMED_WITHIN_S):
                await self._runner.catch_up()
                await asyncio.wait({question}, timeout=_LAST_CHANCE_S)
                await self._runner.catch_up()
        except (RaveError, TimeoutError) as e:
            log.debug("The bot of mesh %s is not judged, because the service or the bus is late: %s", record.mesh, e)
        else:
            if _succeeded(question):
                self._take_over(record, worker, question.result())
            elif not _was_undelivered(question):
                self._missed(record, worker, error)
        finally:
            question.cancel()
            await asyncio.gather(question, return_exceptions=True)

    def _missed(self, record: MeshState, worker: WorkerState, error: RaveError) -> None:
        if not self._owes_an_answer(record, worker):
            # Meanwhile a report of the bot has come, or its process was replaced.
            return
        if worker.healthy:
            mute = self._runner.is_mute(record.mesh)
            seconds = f"has not answered for {self.silence(record.mesh):.0f} s"
            what = f"has left {MAX_UNANSWERED_CALLS} calls unanswered" if mute else seconds
            extra = about(record.mesh, LogEvent.UNHEALTHY)
            log.warning("The bot of mesh %s %s: %s", record.mesh, what, error, extra=extra)
        worker.healthy = False
        self._unhealthy(record.mesh)


def _succeeded(question: asyncio.Task[WorkerStatus]) -> bool:
    return question.done() and not question.cancelled() and question.exception() is None


def _was_undelivered(question: asyncio.Task[WorkerStatus]) -> bool:
    """Whether the question never reached the bot."""
    error = question.exception() if question.done() and not question.cancelled() else None
    return isinstance(error, RaveError) and error.attributes.get("undelivered") is True


async def _ends(questions: Iterable[asyncio.Task[None]]) -> None:
    """Wait for the ends of questions, which go on if the wait is cancelled."""
    await asyncio.gather(*map(asyncio.shield, questions), return_exceptions=True)
