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
