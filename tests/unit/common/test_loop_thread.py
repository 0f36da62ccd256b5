from __future__ import annotations

import asyncio
import threading

import pytest

from ravesvc.common.loop_thread import LoopThread


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def test_work_is_done_in_the_thread() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise KeyError("a failure")

    thread = LoopThread("aside")
    assert await thread.call(where(), 5) == "aside"
    with pytest.raises(KeyError, match="a failure"):
        await thread.call(fail(), 5)
    await thread.stop(5)
    assert not named("aside")


async def test_work_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    thread = LoopThread("aside")
    with pytest.raises(TimeoutError):
        await thread.call(hang(), 0.01)
    await thread.stop(5)
    assert cancelled.is_set()


async def test_work_that_blocks_its_loop_blocks_nobody_else() -> None:
    release = threading.Event()

    async def block() -> None:
        release.wait(10)

    thread = LoopThread("aside")
    with pytest.raises(TimeoutError):
        await thread.call(block(), 0.01)
    await thread.stop(0.01)
    assert named("aside"), "it can't end yet"
    release.set()
    for stuck in named("aside"):
        await asyncio.to_thread(stuck.join, 10)
    assert not named("aside")


async def test_a_call_that_was_given_up_puts_things_in_order_before_the_end() -> None:
    begun, ordered = threading.Event(), threading.Event()

    async def tidy() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ordered.set()

    thread = LoopThread("aside")
    call = asyncio.create_task(thread.call(tidy(), 5))
    await asyncio.to_thread(begun.wait, 5)
    call.cancel()
    await asyncio.wait([call])
    await thread.stop(5)
    assert ordered.is_set()


async def test_tests_of_packages_with_threads_find_what_touches_a_loop_from_another_one() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="Non-thread-safe"):
        await asyncio.to_thread(loop.call_soon, int)
