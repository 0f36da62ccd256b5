from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ravesvc.common.waiting import first_of

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_the_first_ends_the_others(run: Run) -> None:
    async def body() -> None:
        other = asyncio.get_running_loop().create_future()
        await first_of(asyncio.sleep(0), other)
        assert other.cancelled()

    run(body())


def test_what_the_first_raises_is_raised(run: Run) -> None:
    async def fail() -> None:
        raise ValueError("first")

    async def body() -> None:
        other = asyncio.get_running_loop().create_future()
        with pytest.raises(ValueError, match="first"):
            await first_of(other, fail())
        assert other.cancelled()

    run(body())
