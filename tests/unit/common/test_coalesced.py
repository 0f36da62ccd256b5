from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ravesvc.common.coalesced import Coalesced

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_many_changes_are_one_call_in_the_next_turn(run: Run) -> None:
    async def body() -> None:
        calls: list[str] = []
        coalesced = Coalesced(lambda: calls.append("run"))
        for _ in range(3):
            coalesced.schedule()
        assert calls == []
        await asyncio.sleep(0)
        assert calls == ["run"]
        coalesced.schedule()
        await asyncio.sleep(0)
        assert calls == ["run", "run"]

    run(body())


def test_what_it_changes_itself_is_another_call(run: Run) -> None:
    async def body() -> None:
        calls: list[str] = []

        def change() -> None:
            calls.append("run")
            if len(calls) == 1:
                coalesced.schedule()

        coalesced = Coalesced(change)
        coalesced.schedule()
        await asyncio.sleep(0)
        assert calls == ["run"]
        await asyncio.sleep(0)
        assert calls == ["run", "run"]

    run(body())


def test_a_call_can_be_cancelled(run: Run) -> None:
    async def body() -> None:
        calls: list[str] = []
        coalesced = Coalesced(lambda: calls.append("run"))
        coalesced.cancel()
        coalesced.schedule()
        coalesced.cancel()
        await asyncio.sleep(0)
        assert calls == []
        coalesced.schedule()
        await asyncio.sleep(0)
        assert calls == ["run"]

    run(body())
