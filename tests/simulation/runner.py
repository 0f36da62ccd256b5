"""The third runner: bots are processes of the simulated machine. Implements `ravesvc.core.runner.Runner`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ravesvc.common.signal import Signal
from ravesvc.core.run_state import RunEnd, RunState
from ravesvc.core.runner import MAX_UNANSWERED_CALLS, RunChange, WorkerReport
from ravesvc.core.worker_events import WorkerEvent
from ravesvc.core.worker_status import SettingInfo, WorkerStatus, read_status
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from tests.simulation.bot import Bot
from tests.simulation.machine import Machine
from tests.simulation.process import Process

_JOB_TIMEOUT_S = 120.0
_CALL_TIMEOUT_S = 10.0
_ANSWER_S = 0.01


class SimulatedRunner:
    """See `Runner`. It belongs to one process of the service, which hears of things in a later turn.

    Args:
        ordered: called with each order, "start", "stop" or "restart", and its mesh.
    """

    def __init__(self, machine: Machine, process: Process, ordered: Callable[[str, str], None]) -> None:
        self.changed: Signal[RunChange] = Signal("changes of simulated processes")
        self.reported: Signal[WorkerReport] = Signal("reports of simulated bots")
        self._machine = machine
        self._process = process
        self._ordered = ordered
        self._runs: dict[str, RunState] = {}

    @property
    def runs(self) -> Mapping[str, RunState]:
        """See `Runner`."""
        return self._runs

    # What the machine says.

    def run_changed(self, mesh: str, old: RunState, new: RunState, stop_order: str | None) -> None:
        """See `Listener`."""
        self._process.call_soon(self._run_changed, mesh, old, new, stop_order)

    def said(self, mesh: str, event: WorkerEvent) -> None:
        """See `Listener`."""
        self._process.call_soon(self._said, mesh, event)

    def _run_changed(self, mesh: str, old: RunState, new: RunState, stop_order: str | None) -> None:
        if not self._process.alive:
            return
        self._runs[mesh] = new
        if new == RunState(last_exit=new.last_exit):
            del self._runs[mesh]
        self.changed.emit(RunChange(mesh, old, new, stop_order))

    def _said(self, mesh: str, event: WorkerEvent) -> None:
        if self._process.alive:
            self.reported.emit(WorkerReport(mesh, event))

    # What the service asks.

    async def start(self) -> None:
        """See `Runner`."""
        self._process.cross("lists the units")
        self._machine.listener = self
        for mesh, unit in list(self._machine.units.items()):
            self._run_changed(mesh, RunState(), unit.run, None)
        self._machine.announce_bots()

    async def close(self) -> None:
        """See `Runner`."""
        if self._machine.listener is self:
            self._machine.listener = None

    async def start_mesh(self, mesh: str) -> str | None:
        """See `Runner`."""
        return await self._order("start", mesh, self._machine.start)

    async def stop_mesh(self, mesh: str) -> None:
        """See `Runner`."""
        await self._order("stop", mesh, self._machine.stop)

    async def restart_mesh(self, mesh: str) -> str | None:
        """See `Runner`."""
        return await self._order("restart", mesh, self._machine.restart)

    async def _order(
        self, verb: str, mesh: str, give: Callable[[str, str], asyncio.Future[str | None]]
    ) -> str | None:
        self._process.cross(f"is about to order a {verb}")
        self._ordered(verb, mesh)
        done = give(mesh, "service")
        self._process.cross(f"has ordered a {verb}")
        await asyncio.wait([done], timeout=_JOB_TIMEOUT_S)
        # The news of what has happened comes before the answer.
        await asyncio.sleep(_ANSWER_S)
        if not done.done():
            raise RaveError(Code.TIMEOUT, f"the machine has not finished with mesh {mesh}", mesh=mesh)
        return done.result()

    async def forget_end(self, mesh: str) -> None:
        """See `Runner`."""
        self._process.cross("is about to forget an end")
        await asyncio.sleep(_ANSWER_S)
        self._process.cross("forgets an end")
        self._machine.forget_end(mesh)

    async def ends_while_away(self) -> Mapping[str, RunEnd]:
        """See `Runner`."""
        self._process.cross("reads the notes")
        for mesh in self._machine.present():
            status = self._machine.notes.get(mesh)
            if status and self._machine.run_of(mesh).outdates(status):
                del self._machine.notes[mesh]
        return {
            mesh: RunEnd(status=status)
            for mesh, status in self._machine.notes.items()
            if not self._machine.run_of(mesh).outdates(status)
        }

    async def started_at_us(self, mesh: str) -> int:
        """See `Runner`."""
        self._process.cross("asks since when a unit runs")
        return self._machine.started_at_us(mesh)

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        """See `Runner`."""
        self._process.cross("asks whose an order was")
        return self._machine.was_by_hand(order) and not self._machine.run_of(mesh).runs

    async def status(self, mesh: str) -> WorkerStatus:
        """See `Runner`."""
        return read_status((await self._asked(mesh)).status())

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """See `Runner`."""
        await self._asked(mesh)
        return [], 0

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """See `Runner`."""
        await self._asked(mesh)
        return [], 0

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """See `Runner`."""
        await self._asked(mesh)
        return SettingInfo(name, "", "", "")

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """See `Runner`."""
        await self._asked(mesh)
        return SettingInfo(name, value, "", "")

    async def reconnect(self, mesh: str) -> None:
        """See `Runner`."""
        await self._asked(mesh)

    async def set_debug(self, mesh: str, debug: bool) -> None:
        """See `Runner`."""
        await self._asked(mesh)

    async def broadcast(self, announcement: Announcement) -> tuple[int, int]:
        """See `Runner`."""
        return len(self._runs), 0

    async def announce(self, mesh: str, announcement: Announcement) -> None:
        """See `Runner`."""
        await self._asked(mesh)

    async def forget_user(self, user: int) -> frozenset[str]:
        """See `Runner`."""
        return frozenset(self._runs)

    def is_mute(self, mesh: str) -> bool:
        """See `Runner`."""
        bot = self._machine.bot_of(mesh)
        return bot is not None and bot.unanswered >= MAX_UNANSWERED_CALLS

    async def catch_up(self) -> None:
        """See `Runner`."""
        self._process.cross("asks the bus")
        await asyncio.sleep(_ANSWER_S)

    async def _asked(self, mesh: str) -> Bot:
        """The bot of a mesh, which answers."""
        self._process.cross("asks a bot")
        bot = self._machine.bot_of(mesh)
        if bot is None:
            raise RaveError(Code.NOT_RUNNING, f"mesh {mesh} does not run", mesh=mesh)
        if bot.hangs:
            bot.unanswered += 1
            await asyncio.sleep(_CALL_TIMEOUT_S)
            raise RaveError(Code.TIMEOUT, f"the bot of mesh {mesh} does not answer", mesh=mesh)
        await asyncio.sleep(_ANSWER_S)
        if self._machine.bot_of(mesh) is not bot:
            raise RaveError(Code.NOT_RUNNING, f"the bot of mesh {mesh} has ended", mesh=mesh)
        return bot
