"""The service ends in the middle of something, and another one goes on with it."""

from __future__ import annotations

import pytest

from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import (
    BLOCK_S,
    DECISION_S,
    MAX_RESTARTS,
    MESH,
    OTHER,
    RESTART_DELAY_S,
    ROUND_S,
    THIRD,
    Connected,
    ConnectionFailed,
    World,
)


async def test_in_the_middle_of_a_start(world: World) -> None:
    await world.start()
    await world.list(OTHER)
    world.slow = True
    await world.invite(MESH)
    await world.restart()
    await world.finish(MESH)
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER}
    assert world.blocked() == {}


async def test_while_a_start_waits_for_its_turn(world: World) -> None:
    await world.start(starts_per_minute=6)
    await world.list(MESH, OTHER, THIRD)
    assert len(world.running()) == 1
    await world.restart()
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER, THIRD}


async def test_in_the_middle_of_a_stop(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.slow = True
    await world.hold(MESH)
    await world.restart()
    await world.finish(MESH)
    await world.tick(ROUND_S)
    assert world.running() == {OTHER}
    assert (world.state(MESH), world.blocked()) == ("held", {MESH: "held"})


async def test_while_a_bot_waits_for_its_restart(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.CRASHED)
    await world.restart()
    await world.tick(2 * RESTART_DELAY_S)
    assert (world.running(), world.bots(MESH)) == ({MESH, OTHER}, 2)
    assert world.blocked() == {}


@pytest.mark.parametrize("status", [ExitStatus.REJECTED, ExitStatus.TOO_LARGE])
async def test_in_the_middle_of_a_block_that_ends_by_itself(world: World, status: ExitStatus) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, status)
    await world.tick(BLOCK_S / 2)
    await world.restart()
    assert world.state(MESH) == "blocked"
    await world.tick(BLOCK_S / 2)
    assert world.blocked() == {}
    assert (world.running(), world.bots(MESH)) == ({MESH, OTHER}, 2)


async def test_the_growth_of_blocks_for_crashes_goes_on(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    for expected in (1, 2):
        for _ in range(MAX_RESTARTS + 1):
            while world.state(MESH) == "restarting":
                await world.tick(RESTART_DELAY_S)
            await world.end(MESH, ExitStatus.CRASHED)
        await world.restart()
        await world.tick((expected - 1) * BLOCK_S)
        assert world.blocked() == {MESH: "crashes"}
        await world.tick(BLOCK_S)
        assert world.blocked() == {}


async def test_after_the_bot_has_left(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.LEFT)
    await world.restart()
    await world.tick(DECISION_S)
    assert world.running() == {OTHER}, "the list may be late"
    await world.list(OTHER)
    await world.invite(MESH)
    assert world.running() == {MESH, OTHER}
    assert world.blocked() == {}


async def test_in_the_middle_of_an_outage(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for mesh in (OTHER, THIRD):
        await world.say(mesh, ConnectionFailed(1, "503"))
    await world.end(MESH, ExitStatus.REJECTED)
    await world.restart()
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER, THIRD}
    assert world.blocked() == {}


async def test_at_the_limit(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, OTHER)
    await world.say(MESH, Connected())
    await world.restart()
    await world.tick(ROUND_S)
    assert world.running() == {MESH}
    assert world.bots(OTHER) == 0


async def test_a_failed_step_is_no_fault_of_the_mesh(world: World) -> None:
    await world.start()
    await world.list(OTHER)
    world.step_fails = ZeroDivisionError("a fault of ours")
    await world.invite(MESH)
    world.step_fails = None
    await world.restart()
    assert world.running() == {MESH, OTHER}
    assert world.blocked() == {}
