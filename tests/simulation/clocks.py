"""The clocks of the simulated machine, and an event loop whose time leaps to whatever happens next."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from ravesvc.common.steady_clock import Clock
from tests.unit.scenarios.virtual_time import WALL_BEGIN_S, VirtualLoop

# Turns of the loop without any time passing; what takes more goes round in circles.
_MAX_TURNS_AT_ONCE = 100_000


class NothingLeft(Exception):  # noqa: N818 - a state, which must not come
    """Neither a timer nor a step is left: the simulation would wait for ever."""


class Circle(Exception):  # noqa: N818 - a state, which must not come
    """What is done makes something else to do at the same moment, for ever."""


class _Leap(selectors.DefaultSelector):
    """Lets the time until the next timer pass at once."""

    loop: LeapingLoop
    _turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft
        self._turns += 1
        if timeout > 0:
            self._turns = 0
            self.loop.advance(self.loop.time() + timeout)
        if self._turns == _MAX_TURNS_AT_ONCE:
            self.loop.on_circle()
        elif self._turns > 2 * _MAX_TURNS_AT_ONCE:
            raise Circle
        return []


class LeapingLoop(VirtualLoop):
    """A `VirtualLoop` whose time passes by itself, as fast as the processor does what happens in it.

    Attributes:
        on_circle: called when time does not pass, though much is done.
    """

    def __init__(self) -> None:
        self.on_circle: Callable[[], object] = lambda: None
        leap = _Leap()
        leap.loop = self
        super().__init__(leap)
        # Sums of floats: a timer that is due within a microsecond is due.
        self._clock_resolution = 1e-6


class Clocks:
    """Tell the time of the running loop. An operator, or NTP, may set the wall clock: `offset` seconds in all.

    Attributes:
        boot: the name of the boot; another one after each.
    """

    def __init__(self) -> None:
        self.offset = 0.0
        # Seconds since some moment before the beginning.
        self.monotonic = asyncio.get_running_loop().time
        self.boot = "boot-1"
        # Stands in the place of the module `time` where code has it.
        self.module = SimpleNamespace(
            monotonic=self.monotonic, time=self.wall, strftime=time.strftime, localtime=time.localtime
        )

    def wall(self) -> float:
        """Seconds since the epoch, as the wall clock of the machine says."""
        return WALL_BEGIN_S + self.monotonic() + self.offset

    def steady(self) -> Clock:
        """The steady scale of a process that begins now."""
        return Clock(wall=self.wall, boottime=self.monotonic, boot=self.boot)


def leaping_loop() -> LeapingLoop:
    """The loop that runs."""
    return cast(LeapingLoop, asyncio.get_running_loop())
