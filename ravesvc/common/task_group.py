"""A bounded set of running tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

P = ParamSpec("P")


class Tasks:
    """At most `limit` coroutines at once, all of which end with `close`. They take care of their own errors."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()

    def start(self, function: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Run `function(...)` as a task; False when there are too many already."""
        if len(self._running) >= self._limit:
            return False
        task = asyncio.create_task(function(*args, **kwargs))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return True

    @property
    def limit(self) -> int:
        """How many may run."""
        return self._limit

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that run."""
        return frozenset(self._running)

    async def close(self) -> None:
        """Cancel the running tasks and wait until they have ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


class Idle:
    """Knows which tasks do nothing but wait, for time or for an answer."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()
        # Set whenever another task waits, or one less.
        self._changed = asyncio.Event()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it the current task does nothing but wait."""
        task = asyncio.current_task()
        assert task, "a task waits"
        self._waiting.add(task)
        self._changed.set()
        try:
            yield
        finally:
            self._waiting.discard(task)
            self._changed.set()

    async def settle(self, tasks: Tasks) -> None:
        """Return when all of these tasks have ended, or wait."""
        while busy := tasks.running - self._waiting:
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((*busy, changed), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)
