"""An event loop in a thread of its own, for a library that blocks the loop it runs in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """It runs until `stop`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        # A daemon: whatever may block it, it does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What `work` returns or raises in there; raises TimeoutError, and cancels it, after so many seconds."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(future)

    async def stop(self, seconds: float) -> None:
        """Cancel what is left in there, and wait until the thread has ended, but no longer than so many seconds."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        await asyncio.to_thread(self._thread.join, seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stopped.wait())
