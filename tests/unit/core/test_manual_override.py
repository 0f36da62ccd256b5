"""Whether a process was stopped by an operator, when the answers of systemd take their time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ravesvc.core.manual_override import ManualOverrides
from ravesvc.errors import Code, RaveError

MESH, OTHER = "11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"


class SlowSystem:
    """A runner and a blocklist: what they are asked, and what they answer when the test lets them."""

    def __init__(self) -> None:
        self.answers: dict[str, asyncio.Future[bool]] = {}
        self.held: list[str] = []

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        self.answers[order] = asyncio.get_running_loop().create_future()
        return await self.answers[order]

    def add(self, mesh: str, *_: Any, **__: Any) -> None:
        self.held.append(mesh)


async def asked(system: SlowSystem, *orders: tuple[str, str]) -> list[asyncio.Task[None]]:
    """The questions of these meshes and orders, one after another."""
    overrides = ManualOverrides(cast(Any, system), cast(Any, system))
    tasks = [asyncio.create_task(overrides.hold_if_stopped_by_hand(*each)) for each in orders]
    await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("first", ["older", "later"])
async def test_the_latest_order_counts_whenever_the_answers_come(first: str) -> None:
    """A restart, and then one whose start systemd refuses: only then is the first question answered."""
    system = SlowSystem()
    older, later = await asked(system, (MESH, "older"), (MESH, "later"))
    for order, task in sorted({"older": older, "later": later}.items(), key=lambda each: each[0] != first):
        system.answers[order].set_result(order == "older")
        await task
    assert system.held == []


async def test_each_mesh_has_its_own_orders() -> None:
    system = SlowSystem()
    tasks = await asked(system, (MESH, "one"), (OTHER, "two"))
    for order in ("one", "two"):
        system.answers[order].set_result(True)
    await asyncio.gather(*tasks)
    assert system.held == [MESH, OTHER]


async def test_a_question_without_an_answer_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    system = SlowSystem()
    (task,) = await asked(system, (MESH, "one"))
    system.answers["one"].set_exception(RaveError(Code.BUS, "the bus is gone"))
    await task
    assert system.held == []
    assert "could not be found out: the bus is gone" in caplog.text
