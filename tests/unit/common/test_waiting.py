from __future__ import annotations

import asyncio

import pytest

from ravesvc.common.waiting import first_of


async def test_the_first_ends_the_others() -> None:
    other = asyncio.get_running_loop().create_future()
    await first_of(asyncio.sleep(0), other)
    assert other.cancelled()


async def test_what_the_first_raises_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("first")

    other = asyncio.get_running_loop().create_future()
    with pytest.raises(ValueError, match="first"):
        await first_of(other, fail())
    assert other.cancelled()
