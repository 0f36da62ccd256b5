"""The tasks that a plugin starts: there is a bound on them, and they end with the plugin.

A task is a plugin's if its coroutine is a function of the plugin. What the plugin waits for in the program, such as a
message on its way, is not: others may wait for the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

# Under this name a module of a plugin has its `PluginTasks`.
OWNER = "__ravesvc_tasks__"
MAX_TASKS = 64
# A task may put things in order. One that catches its cancellation and goes on is cancelled again.
_END_S = 1.0
_MAX_CANCELLATIONS = 3


class PluginTasks:
    """The tasks of one edition of a plugin.

    Attributes:
        source: the file or package.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        """Run a coroutine as a task. Raises RuntimeError, in words for the author, for one too many."""
        if self._closed or len(self._running) >= MAX_TASKS:
            coroutine.close()
            why = "the file is no longer in force" if self._closed else f"{MAX_TASKS} of its tasks run already"
            raise RuntimeError(f"no task is started: {why}")
        task = asyncio.Task(coroutine, **options)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        """Start no more, cancel those that run, and wait until they have ended."""
        self._closed = True
        for _ in range(_MAX_CANCELLATIONS):
            if not self._running:
                return
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=_END_S)
        if self._running:
            names = ", ".join(sorted(map(_name, self._running)))
            log.error("%s: its tasks don't end: %s", self.source, names)


def watch_tasks() -> None:
    """From now on give the tasks of the running loop, if one runs, to the plugins that start them."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().set_task_factory(_create)


def _create(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    frame = getattr(coroutine, "cr_frame", None)
    owner = frame.f_globals.get(OWNER) if frame else None
    if isinstance(owner, PluginTasks):
        return owner.start(coroutine, loop=loop, **options)
    return asyncio.Task(coroutine, loop=loop, **options)


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", task.get_name()))
