"""Whether the children answer: asked one after another, a few at a time.

Three things are told apart. A child whose event loop hangs is the watchdog's (WatchdogSec=). One that turns but does
not answer on the bus is unhealthy, and restarted. One that answers, but is not in its mesh, is disconnected: it comes
back by itself. A child that still starts is none of these.

A parent that is late itself judges no child. Under a flood of messages the answers of all children wait unread until
their questions have timed out, and all of them would be restarted for it. So before a child is unhealthy it is asked
once more, between two calls that the bus itself answers: after the first the child has the question, and after the
second the parent has read all that was sent to it before.

Scenario: a child that was taken over signals all the time, and answers nothing. What it signals is no answer: the bus
counts each call without one, lets the parent have 128 of them, and then refuses its calls to all other children. So a
child that has left many calls unanswered is asked once more, and unhealthy, however much it signals.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import count
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunPhase
from ravesvc.core.runner import MAX_UNANSWERED_CALLS, Runner
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

# Seconds without an answer after which a child is unhealthy, unless it is asked less often than twice in that time.
MAX_SILENCE_S = 60.0
_AT_ONCE = 8
# How often a child is asked in a row if it signals something in the meantime; it may never cease to.
_MAX_QUESTIONS = 3
# Seconds that a child has to answer the question that decides, once it has it; and seconds that this may take in all,
# the two answers of the bus included: when it takes longer, the parent is late. Less than the time-out of a question.
_LAST_CHANCE_S = 5.0
_CONFIRMED_WITHIN_S = 8.0
# Seconds that the start of the parent waits for the children that it finds.
_ADOPTION_S = 15.0


class Stats(NamedTuple):
    """How many meshes there are of each kind; healthy ones are connected or disconnected."""

    total: int
    healthy: int
    unhealthy: int
    connected: int
    disconnected: int
    stopped: int


class Health:
    """Asks the children of `records` how they are.

    Args:
        interval: seconds from one round of questions to the next.
        answered: hears of a mesh whose child has answered.
        unhealthy: hears of a mesh whose child has become unhealthy.
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
        self._interval = interval
        self._silence = max(MAX_SILENCE_S, 2 * interval)
        self._answered = answered
        self._unhealthy = unhealthy
        self._now = now
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def adopt(self, meshes: Iterable[str]) -> None:
        """Ask the children that an earlier parent has started. Those that hang keep nobody from starting."""
        tasks = [self.ask(mesh) for mesh in meshes]
        if tasks:
            await asyncio.wait(tasks, timeout=_ADOPTION_S)
            answered = sum(record.worker.ready for record in self._records.values())
            log.info("%d of %s answered", answered, count(len(tasks), "running mesh"))

    async def run(self) -> None:
        """Ask for ever; never two rounds at a time."""
        while True:
            await asyncio.sleep(self._interval)
            active = [mesh for mesh, record in self._records.items() if record.run.phase is RunPhase.RUNNING]
            await asyncio.gather(*map(self.ask, active), return_exceptions=True)

    def ask(self, mesh: str) -> asyncio.Task[None]:
        """Ask a child now, unless that is under way."""
        if mesh not in self._asking:
            task = self._asking[mesh] = asyncio.create_task(self._ask(mesh))
            task.add_done_callback(lambda _: self._asking.pop(mesh, None))
        return self._asking[mesh]

    def stats(self) -> Stats:
        """Count the meshes. Whatever has no process, or no longer will have, is stopped."""
        states = [record.state for record in self._records.values()]
        unhealthy, connected = states.count("unhealthy"), states.count("connected")
        stopped = sum(map(states.count, ("blocked", "held", "stopped", "stopping", "failed")))
        healthy = len(states) - unhealthy - stopped
        return Stats(len(states), healthy, unhealthy, connected, healthy - connected, stopped)

    def silence(self, mesh: str) -> float:
        """For how many seconds a child has said nothing; 0 when it has no process that could."""
        record = self._records.get(mesh)
        return self._now() - record.worker.heard if record and record.run.phase is RunPhase.RUNNING else 0.0

    async def close(self) -> None:
        """Ask no more."""
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
                log.debug("The child of mesh %s has not answered: %s", mesh, e)
                if self._owes_an_answer(record, worker):
                    await self._ask_once_more(record, worker, e)
                return
            self._take_over(record, worker, status)

    def _take_over(self, record: MeshState, worker: WorkerState, status: Mapping[str, Any]) -> None:
        if record.worker is not worker:
            # It was another process that answered.
            return
        worker.heard, worker.healthy = self._now(), True
        worker.answer(status, worker.heard)
        self._answered(record.mesh)

    async def _status(self, mesh: str, worker: WorkerState) -> Mapping[str, Any]:
        """What a child says of itself, after all that it has signalled.

        A child that has just started answers that it is not connected, and a moment later signals that it is. On a
        busy machine both are read at once: then the signal is handled first, and the answer would undo it.
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
        """Judge a child by a question that it surely has, and whose answer would surely have been read."""
        question = asyncio.create_task(self._status(record.mesh, worker))
        try:
            async with asyncio.timeout(_CONFIRMED_WITHIN_S):
                await self._runner.catch_up()
                await asyncio.wait({question}, timeout=_LAST_CHANCE_S)
                await self._runner.catch_up()
        except (RaveError, TimeoutError) as e:
            log.debug("The child of mesh %s is not judged, because the parent or the bus is late: %s", record.mesh, e)
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
            # It has spoken, or was replaced, while it was asked once more.
            return
        if worker.healthy:
            mute = self._runner.is_mute(record.mesh)
            seconds = f"has not answered for {self.silence(record.mesh):.0f} s"
            what = f"has left {MAX_UNANSWERED_CALLS} calls unanswered" if mute else seconds
            extra = about(record.mesh, LogEvent.UNHEALTHY)
            log.warning("The child of mesh %s %s: %s", record.mesh, what, error, extra=extra)
        worker.healthy = False
        self._unhealthy(record.mesh)


def _succeeded(question: asyncio.Task[Mapping[str, Any]]) -> bool:
    return question.done() and not question.cancelled() and question.exception() is None


def _was_undelivered(question: asyncio.Task[Mapping[str, Any]]) -> bool:
    """Whether the bot has not even got the question."""
    error = question.exception() if question.done() and not question.cancelled() else None
    return isinstance(error, RaveError) and error.attributes.get("undelivered") is True
