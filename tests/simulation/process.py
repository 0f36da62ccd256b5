"""The process of the service, which may be killed at any step: nothing that it does afterwards has an effect.

All that a service starts runs in its context, so that what belongs to it is known when it dies.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process of the service", default=None)

_FEW_TASKS = 200
# Turns of the event loop within which all tasks of a process that was killed have to have ended.
_MAX_TURNS = 1000


class Process:
    """One life of the service.

    Attributes:
        alive: whether it was not killed, and has not ended.
    """

    def __init__(self, killed: Callable[[], object]) -> None:
        """`killed` is called in a later turn, when a countdown was over."""
        self.alive = True
        self._tasks: list[asyncio.Task[Any]] = []
        self._look_through_at = _FEW_TASKS
        self._killed = killed
        self._steps_left: int | None = None
        self._outside = contextvars.copy_context()
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that it has, in the order in which they have begun."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return self._tasks

    def add(self, task: asyncio.Task[Any]) -> None:
        """It has another task."""
        self._tasks.append(task)
        if len(self._tasks) > self._look_through_at:
            self._look_through_at = 2 * len(self.tasks) + _FEW_TASKS

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in it."""
        return asyncio.get_running_loop().create_task(coroutine, context=self._context.copy())

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have something called in it, in a later turn."""
        asyncio.get_running_loop().call_soon(function, *args, context=self._context)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call something in it now."""
        return self._context.copy().run(function, *args)

    def kill_after(self, steps: int) -> None:
        """Kill it in the middle of something: when it next crosses its border for the `steps`-th time."""
        self._steps_left = steps

    def cross(self, what: str) -> None:
        """It does something that has an effect outside of it, or has just done that; it may be killed here."""
        if self._steps_left is not None and self.alive:
            self._steps_left -= 1
            if self._steps_left < 0:
                self.alive = False
                asyncio.get_running_loop().call_soon(self._killed, context=self._outside)
        if not self.alive:
            raise asyncio.CancelledError

    async def die(self) -> None:
        """Have nothing left of it."""
        self.alive = False
        loop: Any = asyncio.get_running_loop()
        for timer in loop._scheduled:
            if timer._context.get(_process) is self:
                timer.cancel()
        for _ in range(_MAX_TURNS):
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(0)
            if not self.tasks:
                return
        raise AssertionError(f"tasks do not end: {self.tasks}")


def current() -> Process | None:
    """The process in which this runs; None outside."""
    return _process.get()


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory that knows whose each task is."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = context.get(_process) if context else _process.get()
    if process:
        process.add(task)
    return task
