"""A bounded set of running tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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
    def running(self) -> frozenset[asyncio.Task[None]]:
        """The tasks that run."""
        return frozenset(self._running)

    async def close(self) -> None:
        """Cancel the running tasks and wait until they have ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
