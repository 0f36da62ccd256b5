from __future__ import annotations

import asyncio

from ravesvc.common.coalesced import Coalesced


async def test_many_changes_are_one_call_in_the_next_turn() -> None:
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


async def test_what_it_changes_itself_is_another_call() -> None:
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


async def test_a_call_can_be_cancelled() -> None:
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
