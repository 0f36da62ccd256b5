"""An event loop in a thread of its own, for a library that blocks the loop it runs in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CLEAN_UP_S = 1.0


class LoopThread:
    """A thread with an event loop that runs until `stop`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        # A daemon: if it is blocked, the process can still end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run `work` in the thread and return its result; after `timeout_s` cancel it and raise TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(future)

    async def stop(self, timeout_s: float) -> None:
        """Cancel all that runs in the thread, and wait until it has ended, for at most `timeout_s`.

        What was cancelled before gets a second to end by itself.
        """
        self._loop.call_soon_threadsafe(self._stopped.set)
        await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stopped.wait()
        # What was given up a moment ago puts things in order. To cancel it once more would interrupt that.
        if given_up := [task for task in asyncio.all_tasks() if task.cancelling()]:
            await asyncio.wait(given_up, timeout=_CLEAN_UP_S)
