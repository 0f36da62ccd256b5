"""A limit for code of others that keeps the event loop waiting.

`asyncio.timeout` ends a handler that waits; one that computes, or sleeps with `time.sleep`, keeps everything else
waiting with it, the watchdog included, which would end the whole process. The timer of setitimer(2) interrupts such
code where it is. It can't interrupt a single operation that does not return to the interpreter; that is left to the
watchdog.
"""

from __future__ import annotations

import functools
import signal
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from ravesvc.bot.last_step import NO_MARK, Mark

T = TypeVar("T")

# For what a plugin does between two waits. The shortest watchdog timeout is longer.
MAX_STEP_S = 2.0
# A handler that catches the interruption and goes on is interrupted again after this time.
_REPEAT_INTERRUPT_S = 0.5


class _Interruption(BaseException):
    """No Exception, because people catch those."""


class AlarmTimeout:
    """A context manager that ends code in the main thread after this many seconds.

    Raises TimeoutError in its place. In other threads there is no limit: signals are the main thread's.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._applies = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self._applies:
            # Another part of the process, such as a test runner, may use the same timer.
            self._handler = signal.signal(signal.SIGALRM, _interrupt)
            self._timer = signal.setitimer(signal.ITIMER_REAL, self._seconds, _REPEAT_INTERRUPT_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._applies:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._handler or signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
        if isinstance(error, _Interruption):
            raise TimeoutError(f"it kept everything else waiting for more than {self._seconds:g} s") from error


def with_step_timeout(
    handler: Callable[..., Coroutine[Any, Any, T]], mark: Mark = NO_MARK
) -> Callable[..., Awaitable[T]]:
    """The same handler, of the plugin with this mark; see `stepwise`."""

    @functools.wraps(handler)
    async def run(*arguments: Any, **named: Any) -> T:
        return await stepwise(handler(*arguments, **named), mark)

    return run


@types.coroutine
def stepwise(coroutine: Coroutine[Any, Any, T], mark: Mark) -> Generator[Any, Any, T]:
    """Run a coroutine of a plugin; each of its steps, from one wait to the next, may take `MAX_STEP_S`.

    See `AlarmTimeout`. One that has taken all memory of the process ends the process.
    """
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            with mark, AlarmTimeout(MAX_STEP_S):
                awaited = step(argument)
        except StopIteration as end:
            value: T = end.value
            return value
        except (SystemExit, KeyboardInterrupt) as error:
            # The event loop ends at either. One command must not end the process, with an exit status on which the
            # service would act.
            raise RuntimeError("it wanted to end the whole process") from error
        try:
            step, argument = coroutine.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001 - the handler gets every exception
            step, argument = coroutine.throw, error


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interruption
