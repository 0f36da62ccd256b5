"""The tasks that a plugin starts: there is a bound on them, and they end with the plugin.

A task is a plugin's if its coroutine is a function of the plugin. What the plugin waits for in the program, such as a
message on its way, is not: others may wait for the same.

What a task raises is a failure of the plugin, unless something takes it within the next turns of the event loop, as
what awaits the task does, alone, in `gather` or in a group. Python itself would tell only when nothing refers to the
task any more, which may be never.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ravesvc.bot.last_step import NO_MARK, Mark
from ravesvc.bot.step_timeout import stepwise
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

# Under this name a module of a plugin has its `PluginTasks`.
OWNER = "__ravesvc_tasks__"
MAX_TASKS = 64
# A task may put things in order. One that catches its cancellation and goes on is cancelled again.
_END_S = 1.0
_MAX_CANCELLATIONS = 3
# Of the event loop, until what awaits a task, also by way of `asyncio.wait`, has taken what it has raised.
_TURNS = 4


class PluginTasks:
    """The tasks of one edition of a plugin.

    Attributes:
        source: the file or package.
        on_failure: called with what happened when a task has failed, and nothing awaits it.
        mark: notes that the plugin runs.
    """

    def __init__(self, source: str, mark: Mark = NO_MARK) -> None:
        self.source = source
        self.on_failure: Callable[[str], None] = lambda what: None
        self.mark = mark
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
        options["name"] = options.get("name") or getattr(coroutine, "__qualname__", None)
        task = asyncio.Task(_guarded(coroutine, self.mark), **options)
        self._running.add(task)
        # One that is cancelled before it begins would never be awaited.
        task.add_done_callback(lambda _: coroutine.close())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._report_later(task, _TURNS)

    def _report_later(self, task: asyncio.Task[Any], turns: int) -> None:
        # So asyncio itself knows whether something has taken the exception.
        if not getattr(task, "_log_traceback", False):
            return
        if turns:
            task.get_loop().call_soon(self._report_later, task, turns - 1)
            return
        # Taken: asyncio does not log it a second time.
        error = task.exception()
        name = task.get_name()
        if isinstance(error, RaveError):
            # About the room or another server, and not the plugin's fault.
            log.warning("the task %s of %s has ended: %s", name, self.source, error)
        else:
            log.error("the task %s of %s failed", name, self.source, exc_info=error)
            self.on_failure(f"the task {name} failed: {type(error).__name__}")

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
            names = ", ".join(sorted(task.get_name() for task in self._running))
            log.error("%s: its tasks don't end: %s", self.source, names)


def watch_tasks() -> None:
    """From now on give the tasks of the running loop, if one runs, to the plugins that start them."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop().set_task_factory(_create)


async def _guarded(coroutine: Coroutine[Any, Any, Any], mark: Mark) -> Any:
    return await stepwise(coroutine, mark)


def _create(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    frame = getattr(coroutine, "cr_frame", None)
    owner = frame.f_globals.get(OWNER) if frame else None
    if isinstance(owner, PluginTasks):
        return owner.start(coroutine, loop=loop, **options)
    return asyncio.Task(coroutine, loop=loop, **options)
