"""The simulated machine: it runs one process per mesh, as systemd does, whether a service is there or not.

It starts crashed bots again after a delay, gives one up that crashes too often, keeps how a process has ended until
it is told to forget it, and leaves a note of that on disk. Operators may start and stop bots behind the service's
back.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from ravesvc.config.worker_settings import STABLE_AFTER_S, Edition
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.core.worker_events import WorkerEvent
from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.orchestrator.exit_notes import weightier
from tests.simulation.bot import Advisor, Bot
from tests.simulation.rave import Rave
from tests.unit.scenarios.world import MAX_RESTARTS

RESTART_DELAY_S = 5.0
STOP_TIMEOUT_S = 15.0
_WATCHDOG_S = 30.0
_NOTE_S = 0.1


class Listener(Protocol):
    """A service that hears of what happens; it is called at once, and has to take what it does out of the way."""

    def run_changed(self, mesh: str, old: RunState, new: RunState, stop_order: str | None) -> None:
        """The process of a mesh is in another state; see `RunChange`."""

    def said(self, mesh: str, event: WorkerEvent) -> None:
        """A bot says something."""


class Witness(Protocol):
    """Hears of what must be judged."""

    def process_begins(self, mesh: str, by: str) -> None:
        """A process begins, by an order of the "service", by "hand" or "again" after a crash."""

    def process_ended(self, mesh: str, status: ExitStatus | None, *, ordered: bool) -> None:
        """A process has ended, with a status or by a signal."""


@dataclass(slots=True)
class Unit:
    """What the machine knows of the process of a mesh."""

    run: RunState = field(default_factory=RunState)
    bot: Bot | None = None
    life: asyncio.Task[None] | None = None
    waiting: asyncio.TimerHandle | None = None
    begun: float = 0.0
    begun_wall: float = 0.0
    crashes: int = 0
    # The order that is being carried out, and what waits for it.
    order: str = ""
    after_stop: str = ""
    done: list[asyncio.Future[str | None]] = field(default_factory=list)


class Machine:
    """The units by mesh id, and the notes of ends that are on disk.

    Attributes:
        listener: the service that runs, or None.
        edition: what a process has that begins now.
        broken: the meshes whose processes end at once, each with the status (None: a crash).
    """

    def __init__(
        self,
        rave: Rave,
        advisor: Advisor,
        witness: Witness,
        rng_of: Callable[[str], Random],
        now: Callable[[], float],
        wall: Callable[[], float],
        trace: Callable[[str, str], None],
    ) -> None:
        self.units: dict[str, Unit] = {}
        self.notes: dict[str, ExitStatus] = {}
        self.listener: Listener | None = None
        self.edition = Edition("1", "a")
        self.broken: dict[str, ExitStatus | None] = {}
        self.bad_program = False
        self._rave = rave
        self._advisor = advisor
        self._witness = witness
        self._rng_of = rng_of
        self._now = now
        self._wall = wall
        self._trace = trace
        self._processes = 0
        self._orders = 0
        self._by_hand: dict[str, bool] = {}
        self.context = contextvars.copy_context()

    # What is asked of it.

    def run_of(self, mesh: str) -> RunState:
        """The state of a mesh's process."""
        unit = self.units.get(mesh)
        return unit.run if unit else RunState()

    def bot_of(self, mesh: str) -> Bot | None:
        """The process of a mesh that runs."""
        unit = self.units.get(mesh)
        return unit.bot if unit else None

    def present(self) -> list[str]:
        """The meshes that have a process, or will have one."""
        return [mesh for mesh, unit in self.units.items() if unit.run.present]

    def was_by_hand(self, order: str) -> bool:
        """Whether an operator has given an order to stop a mesh."""
        return self._by_hand.get(order, False)

    def started_at_us(self, mesh: str) -> int:
        """When a process was started, in microseconds since the epoch as the clock said then."""
        unit = self.units.get(mesh)
        return int(unit.begun_wall * 1_000_000) if unit else 0

    # Orders.

    def start(self, mesh: str, by: str) -> asyncio.Future[str | None]:
        """Start a process; the future has its end: the order that has taken this one's place, or None."""
        unit = self._unit(mesh)
        done = self._wait(unit)
        match unit.run.phase:
            case RunPhase.RUNNING:
                self._finish(unit, None)
            case RunPhase.STARTING:
                pass
            case RunPhase.STOPPING:
                unit.after_stop = by
            case _:
                self._cancel_wait(unit)
                unit.crashes = 0
                self._begin(mesh, unit, by, restarts=0)
        return done

    def stop(self, mesh: str, by: str) -> asyncio.Future[str | None]:
        """Stop a process."""
        unit = self._unit(mesh)
        order = self._order(by)
        done = self._wait(unit)
        if unit.after_stop:
            unit.after_stop = ""
            self._finish(unit, order)
            return done
        match unit.run.phase:
            case RunPhase.WAITING:
                self._cancel_wait(unit)
                self._change(mesh, unit, RunState(last_exit=unit.run.last_exit), stop_order=order)
                self._finish(unit, None)
            case RunPhase.STARTING | RunPhase.RUNNING:
                self._begin_stop(mesh, unit, order)
            case RunPhase.STOPPING:
                pass
            case _:
                self._finish(unit, None)
        return done

    def restart(self, mesh: str, by: str) -> asyncio.Future[str | None]:
        """Replace a process; one that does not run is left alone, unless it is wanted by hand."""
        unit = self._unit(mesh)
        if not unit.run.runs:
            return self.start(mesh, by) if by == "hand" else _done()
        done = self._wait(unit)
        if unit.run.phase is RunPhase.WAITING:
            self._cancel_wait(unit)
            self._begin(mesh, unit, by, restarts=0)
        else:
            unit.after_stop = by
            # To be started again, so this is no stop.
            self._begin_stop(mesh, unit, self._order("restart"))
        return done

    def forget_end(self, mesh: str) -> None:
        """Drop the note, then what is known of the last end."""
        self.notes.pop(mesh, None)
        self.reset_failed(mesh)

    def reset_failed(self, mesh: str) -> None:
        """Drop what is known of the last end, but for the note."""
        unit = self.units.get(mesh)
        if unit and unit.run.phase is RunPhase.ENDED:
            self._change(mesh, unit, RunState(last_exit=unit.run.last_exit))
            del self.units[mesh]

    # What happens to processes.

    def crash(self, mesh: str) -> None:
        """The process of a mesh ends by a signal, or by an exception."""
        unit = self.units.get(mesh)
        if unit and unit.life:
            self._end(mesh, unit, None)

    def exit(self, mesh: str, status: ExitStatus) -> None:
        """The process of a mesh ends by itself."""
        unit = self.units.get(mesh)
        if unit and unit.life:
            self._end(mesh, unit, status)

    def hang(self, mesh: str, *, watched: bool) -> bool:
        """A bot answers nothing any more; if it is `watched`, it is killed for that after a while."""
        bot = self.bot_of(mesh)
        if bot is None or bot.hangs or self.run_of(mesh).phase is not RunPhase.RUNNING:
            return False
        bot.hangs, bot.hangs_since = True, self._now()
        if watched:
            self._later(_WATCHDOG_S, self._bite, mesh, bot)
        return True

    def reboot(self) -> None:
        """All processes are gone, and what was known of them; what is on disk stays."""
        for mesh, unit in list(self.units.items()):
            self._cancel_wait(unit)
            if unit.life:
                unit.life.cancel()
                self._witness.process_ended(mesh, None, ordered=True)
            self._finish(unit, None)
        self.units.clear()

    def announce_bots(self) -> None:
        """All bots tell a service that has just started."""
        for unit in self.units.values():
            if unit.bot and unit.run.phase is RunPhase.RUNNING:
                unit.bot.announce()

    # Inside.

    def _unit(self, mesh: str) -> Unit:
        return self.units.setdefault(mesh, Unit())

    def _order(self, by: str) -> str:
        self._orders += 1
        order = f"{by} {self._orders}"
        self._by_hand[order] = by == "hand"
        if len(self._by_hand) > 100:
            del self._by_hand[next(iter(self._by_hand))]
        return order

    def _wait(self, unit: Unit) -> asyncio.Future[str | None]:
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        unit.done.append(done)
        return done

    def _finish(self, unit: Unit, order: str | None) -> None:
        for done in unit.done:
            if not done.done():
                done.set_result(order)
        unit.done.clear()

    def _begin(self, mesh: str, unit: Unit, by: str, *, restarts: int) -> None:
        self._processes += 1
        self._witness.process_begins(mesh, by)
        self._trace(mesh, f"a bot starts ({by})")
        unit.after_stop = ""
        unit.begun, unit.begun_wall = self._now(), self._wall()
        rng = self._rng_of(mesh)
        process = self._processes

        def say(event: WorkerEvent) -> None:
            self._say(mesh, process, event)

        unit.bot = Bot(mesh, self._rave, self._advisor, self.edition, rng, self._now, say)
        run = RunState(phase=RunPhase.STARTING, process=process, restarts=restarts, last_exit=unit.run.last_exit)
        self._change(mesh, unit, run)
        unit.life = self._spawn(self._live(mesh, unit, unit.bot, 0.3 + rng.random()))

    async def _live(self, mesh: str, unit: Unit, bot: Bot, start_s: float) -> None:
        await asyncio.sleep(start_s)
        if self.bad_program:
            self._end(mesh, unit, None)
            return
        if mesh in self.broken:
            self._end(mesh, unit, self.broken[mesh])
            return
        self._change(mesh, unit, dataclasses.replace(unit.run, phase=RunPhase.RUNNING))
        self._finish(unit, None)
        status = await bot.live()
        # What it has said comes before its end.
        await asyncio.sleep(0.02)
        self._end(mesh, unit, status)

    def _begin_stop(self, mesh: str, unit: Unit, order: str) -> None:
        self._change(mesh, unit, dataclasses.replace(unit.run, phase=RunPhase.STOPPING), stop_order=order)
        bot = unit.bot
        assert bot
        stuck = bot.hangs or bot.clings
        seconds = STOP_TIMEOUT_S if stuck else 0.1 + self._rng_of(mesh).random()
        status = None if stuck else ExitStatus.STOPPED
        self._later(seconds, self._stopped, mesh, bot, status)

    def _stopped(self, mesh: str, bot: Bot, status: ExitStatus | None) -> None:
        unit = self.units.get(mesh)
        if unit and unit.bot is bot:
            self._end(mesh, unit, status, timed_out=status is None)

    def _bite(self, mesh: str, bot: Bot) -> None:
        unit = self.units.get(mesh)
        if unit and unit.bot is bot:
            self._end(mesh, unit, None)

    def _end(self, mesh: str, unit: Unit, status: ExitStatus | None, *, timed_out: bool = False) -> None:
        """The process of a mesh has ended: what becomes of its unit."""
        stopping = unit.run.phase is RunPhase.STOPPING
        words = "a signal" if status is None else f"exit status {int(status)}"
        self._trace(mesh, f"its bot ends by {words}{' while it stops' if stopping else ''}")
        self._witness.process_ended(mesh, status, ordered=stopping)
        assert unit.life
        if unit.life is not asyncio.current_task():
            unit.life.cancel()
        unit.bot = unit.life = None
        crashed = status in (None, ExitStatus.CRASHED)
        if status in FINAL_STATUSES:
            assert status is not None
            self.notes[mesh] = weightier(status, self.notes.get(mesh, status))
        if unit.after_stop and (crashed or status is ExitStatus.STOPPED) and not timed_out:
            self._begin(mesh, unit, unit.after_stop, restarts=0)
            return
        replaced, unit.after_stop = bool(unit.after_stop), ""
        if replaced and timed_out:
            self._begin(mesh, unit, "service", restarts=0)
            return
        if status is ExitStatus.STOPPED:
            self._change(mesh, unit, RunState(last_exit=words))
        elif crashed and not stopping:
            self._crashed(mesh, unit, words)
        else:
            end = RunEnd(status=None if crashed else status, timed_out=timed_out)
            self._change(mesh, unit, RunState(phase=RunPhase.ENDED, end=end, last_exit=words))
        if unit.run.phase is not RunPhase.WAITING:
            self._finish(unit, None)
        if unit.run.phase is RunPhase.ABSENT:
            self.units.pop(mesh, None)

    def _crashed(self, mesh: str, unit: Unit, words: str) -> None:
        lasted = self._now() - unit.begun
        unit.crashes = 1 if lasted >= STABLE_AFTER_S else unit.crashes + 1
        if unit.crashes > MAX_RESTARTS:
            restarts, unit.crashes = unit.crashes - 1, 0
            end = RunEnd(gave_up=True, detail=f"given up after {restarts} restarts ({words})")
            self._change(mesh, unit, RunState(phase=RunPhase.ENDED, end=end, last_exit=words, restarts=restarts))
            return
        self._change(mesh, unit, RunState(phase=RunPhase.WAITING, restarts=unit.crashes, last_exit=words))
        unit.waiting = self._later(RESTART_DELAY_S, self._start_again, mesh, unit)

    def _start_again(self, mesh: str, unit: Unit) -> None:
        unit.waiting = None
        if unit.run.phase is RunPhase.WAITING:
            self._begin(mesh, unit, "again", restarts=unit.run.restarts)

    def _cancel_wait(self, unit: Unit) -> None:
        if unit.waiting:
            unit.waiting.cancel()
            unit.waiting = None

    def _change(self, mesh: str, unit: Unit, run: RunState, *, stop_order: str | None = None) -> None:
        old, unit.run = unit.run, run
        if self.listener and run != old:
            self.listener.run_changed(mesh, old, run, stop_order)

    def _say(self, mesh: str, process: int, event: WorkerEvent) -> None:
        if self.listener and self.run_of(mesh).process == process:
            self._trace(mesh, f"its bot says {type(event).__name__}")
            self.listener.said(mesh, event)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Not in the context of a service that may be killed.
        return asyncio.get_running_loop().create_task(coroutine, context=self.context.copy())

    def _later(self, seconds: float, function: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, function, *args, context=self.context)


def _done() -> asyncio.Future[str | None]:
    done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done
