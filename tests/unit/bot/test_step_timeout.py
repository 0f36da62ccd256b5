from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.bot import step_timeout
from ravesvc.bot.step_timeout import AlarmTimeout, with_step_timeout


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Less than the shortest watchdog leaves, who is fed when half of its time is over.
    assert 2.5 + step_timeout.MAX_STEP_S < 5
    monkeypatch.setattr(step_timeout, "MAX_STEP_S", 0.05)
    monkeypatch.setattr(step_timeout, "_REPEAT_INTERRUPT_S", 0.02)


def spin() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(30)


def stubborn() -> None:
    """Catches what it can, and more than it should."""
    for _ in range(3):
        with contextlib.suppress(BaseException):
            time.sleep(30)
    time.sleep(30)


@pytest.mark.parametrize("block", [spin, sleep, stubborn])
def test_code_that_does_not_return_is_interrupted_where_it_is(block: Callable[[], None]) -> None:
    begun = time.monotonic()
    with (
        pytest.raises(TimeoutError, match=r"it kept everything else waiting for more than 0\.05 s") as caught,
        AlarmTimeout(0.05),
    ):
        block()
    assert time.monotonic() - begun < 5
    assert caught.value.__cause__
    frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert block.__name__ in [frame.name for frame in frames]


def test_the_timer_and_its_signal_are_as_before() -> None:
    def handle(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 50, 60)
    try:
        with AlarmTimeout(1):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 1
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 40 < remaining <= 50
        assert interval == 60
        assert signal.getsignal(signal.SIGALRM) is handle
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_is_none_of_pythons_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[Any] = []
    monkeypatch.setattr(step_timeout.signal, "signal", lambda number, handler: set_to.append(handler))
    with AlarmTimeout(1):
        pass
    assert set_to == [step_timeout._interrupt, signal.SIG_DFL]


def test_failures_pass_through() -> None:
    with pytest.raises(ValueError, match="its own"), AlarmTimeout(1):
        raise ValueError("its own")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_in_another_thread_there_is_no_limit() -> None:
    done: list[bool] = []

    def work() -> None:
        with AlarmTimeout(0.01):
            time.sleep(0.05)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


async def test_each_step_of_a_handler_has_its_time_and_waiting_takes_none() -> None:
    said: list[str] = []

    @with_step_timeout
    async def handler(word: str) -> None:
        """What it does."""
        for _ in range(3):
            await asyncio.sleep(0.04)
        said.append(word)

    await handler("done")
    assert said == ["done"]
    assert (handler.__name__, handler.__doc__) == ("handler", "What it does.")


async def test_a_step_that_blocks_is_ended_and_the_loop_goes_on() -> None:
    turned: list[float] = []

    @with_step_timeout
    async def handler(_: str) -> None:
        await asyncio.sleep(0)
        time.sleep(30)  # noqa: ASYNC251

    asyncio.get_running_loop().call_later(0.01, lambda: turned.append(time.monotonic()))
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await handler("")
    await asyncio.sleep(0.02)
    assert turned
    assert turned[0] - begun < 5


async def test_a_handler_can_be_cancelled_and_may_clean_up() -> None:
    said: list[str] = []

    @with_step_timeout
    async def handler(_: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("cleaned up")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handler("")
    assert said == ["cleaned up"]


async def test_what_a_handler_awaits_may_fail() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no such thing")

    @with_step_timeout
    async def handler(_: str) -> None:
        with pytest.raises(ValueError, match="no such thing"):
            await fail()
        with pytest.raises(ValueError, match="no such thing"):
            await asyncio.create_task(fail())
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        await handler("")


@pytest.mark.parametrize("end", [SystemExit(80), KeyboardInterrupt()])
async def test_a_handler_can_not_end_the_process(end: BaseException) -> None:
    @with_step_timeout
    async def handler() -> None:
        await asyncio.sleep(0)
        raise end

    with pytest.raises(RuntimeError, match="it wanted to end the whole process") as raised:
        await handler()
    assert raised.value.__cause__ is end
