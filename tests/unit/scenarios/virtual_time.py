"""An event loop whose time stands still until a test lets it pass: an hour costs what happens in it, and no more."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Settle = Callable[[], Awaitable[None]]

# Seconds since the epoch at which the wall clock of a test begins.
WALL_BEGIN_S = 1_800_000_000.0
# Real seconds without any event after which a test is stuck.
STUCK_AFTER_S = 20.0
# Steps until nothing is left to do; what takes more goes round in circles.
_MAX_STEPS = 100_000


class _Selector(selectors.DefaultSelector):
    """Waits for real events, never for time, which does not pass by itself."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        events = super().select(STUCK_AFTER_S)
        if not events:
            raise AssertionError(f"nothing has happened for {STUCK_AFTER_S:g} s, and no time passes by itself")
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Work for threads is done at once, in the same thread, so that nothing depends on how quick they are."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._now = 1000.0
        super().__init__(selector or _Selector())

    def time(self) -> float:
        return self._now

    def advance(self, when: float) -> None:
        """It is `when` now; what was to happen until then happens in the next turn."""
        self._now = max(self._now, when)

    @property
    def busy(self) -> bool:
        """Whether anything is to be done in this turn, or the next."""
        timers = self._scheduled  # type: ignore[attr-defined]
        return bool(self._ready or (timers and timers[0].when() <= self._now))  # type: ignore[attr-defined]

    @property
    def next_timer(self) -> float | None:
        """When the next timer is due; None if there is none."""
        timers = self._scheduled  # type: ignore[attr-defined]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:  # noqa: BLE001 - what waits for it gets it
            future.set_exception(e)
        return future


class VirtualTime:
    """Stands in the place of the module `time`."""

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time() -> float:
        return WALL_BEGIN_S + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


async def quiet() -> None:
    """Return when all that can be done without more time or input is done."""
    loop = virtual_loop()
    for _ in range(_MAX_STEPS):
        if not loop.busy:
            return
        await asyncio.sleep(0)
    raise AssertionError("it never comes to rest")


async def pass_time(seconds: float, settle: Settle = quiet) -> None:
    """Let time pass, from one timer to the next; `settle` returns when all is done that can be done meanwhile."""
    loop = virtual_loop()
    await settle()
    end = loop.time() + seconds
    while (when := loop.next_timer) is not None and when <= end:
        loop.advance(when)
        await settle()
    loop.advance(end)
    await settle()


async def until_done(coroutine: Coroutine[Any, Any, T], settle: Settle = quiet) -> T:
    """Await something, and let as much time pass as it takes."""
    loop = virtual_loop()
    task = asyncio.ensure_future(coroutine)
    while True:
        await settle()
        if task.done():
            return task.result()
        when = loop.next_timer
        assert when is not None, "it waits for nothing that will come"
        loop.advance(when)
