"""Bots that do not stop when they are told."""

import asyncio

from ravesvc.orchestrator.stop_deadline import StopDeadline
from ravesvc.systemd.unit_state import UnitState

STOPPING = UnitState(active="deactivating", sub="stop-sigterm")


async def test_one_that_goes_on_stopping_is_told_of_again_and_again() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    overdue = StopDeadline(0.01, told.put_nowait)
    overdue.unit_changed("m", STOPPING)
    overdue.unit_changed("m", UnitState(active="deactivating", sub="final-sigterm"))
    assert [await told.get(), await told.get()] == ["m", "m"]
    overdue.close()


async def test_one_that_has_stopped_or_was_closed_is_not_told_of() -> None:
    told: list[str] = []
    overdue = StopDeadline(0.01, told.append)
    overdue.unit_changed("stopped", STOPPING)
    overdue.unit_changed("stopped", UnitState())
    overdue.unit_changed("never", UnitState(active="active"))
    overdue.unit_changed("closed", STOPPING)
    overdue.close()
    # The timers would be due before this one, which was set later.
    await asyncio.sleep(0.02)
    assert told == []
