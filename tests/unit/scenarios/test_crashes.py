"""A bot that crashes comes back, unless it does so again and again."""

from __future__ import annotations

from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import (
    BLOCK_S,
    MAX_RESTARTS,
    MESH,
    OTHER,
    RESTART_DELAY_S,
    THIRD,
    Connected,
    World,
)


async def restarted(world: World, mesh: str) -> None:
    """The delay after a crash is over; it may have grown."""
    while world.state(mesh) == "restarting":
        await world.tick(RESTART_DELAY_S)


async def crash_until_blocked(world: World, mesh: str) -> None:
    for _ in range(MAX_RESTARTS + 1):
        await restarted(world, mesh)
        await world.end(mesh, ExitStatus.CRASHED)


async def test_a_bot_that_crashes_comes_back_after_a_delay(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(MESH, Connected())
    await world.end(MESH, ExitStatus.CRASHED)
    assert (world.state(MESH), world.bots(MESH)) == ("restarting", 1)
    await world.tick(RESTART_DELAY_S)
    assert (world.state(MESH), world.bots(MESH)) == ("disconnected", 2)
    assert (world.bots(OTHER), world.blocked()) == (1, {})


async def test_one_that_crashes_too_often_in_a_row_blocks_its_mesh_for_a_while(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await crash_until_blocked(world, MESH)
    assert world.blocked() == {MESH: "crashes"}
    assert world.bots(MESH) == MAX_RESTARTS + 1
    assert world.state(MESH) == "blocked"
    assert world.running() == {OTHER}
    await world.tick(BLOCK_S)
    assert world.blocked() == {}
    assert world.running() == {MESH, OTHER}


async def test_the_next_block_for_crashes_lasts_twice_as_long(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await crash_until_blocked(world, MESH)
    await world.tick(BLOCK_S)
    await crash_until_blocked(world, MESH)
    await world.tick(BLOCK_S)
    assert world.blocked() == {MESH: "crashes"}
    await world.tick(BLOCK_S)
    assert world.running() == {MESH, OTHER}


async def test_a_connection_that_holds_ends_the_growth(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await crash_until_blocked(world, MESH)
    await world.tick(BLOCK_S)
    await world.say(MESH, Connected())
    # The next round of discovery sees that it has held.
    await world.tick(BLOCK_S)
    await crash_until_blocked(world, MESH)
    assert world.blocked() == {MESH: "crashes"}
    await world.tick(BLOCK_S)
    assert world.blocked() == {}


async def test_a_crash_after_a_long_life_is_the_first_one(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    for _ in range(2 * MAX_RESTARTS):
        await world.tick(BLOCK_S)
        await world.end(MESH, ExitStatus.CRASHED)
        assert world.state(MESH) == "restarting"
        await restarted(world, MESH)
    assert world.blocked() == {}
    assert world.running() == {MESH, OTHER}


async def test_bots_that_all_crash_are_no_fault_of_their_meshes(world: World) -> None:
    meshes = (MESH, OTHER, THIRD)
    await world.start()
    await world.list(*meshes)
    for _ in range(MAX_RESTARTS):
        for mesh in meshes:
            await restarted(world, mesh)
            await world.end(mesh, ExitStatus.CRASHED)
    await restarted(world, MESH)
    await world.end(MESH, ExitStatus.CRASHED)
    assert world.blocked() == {}
    assert "the processes of all meshes fail" in world.last_error(MESH)


async def test_a_mesh_that_is_held_while_its_bot_waits_for_a_restart_stays_without_one(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.CRASHED)
    await world.hold(MESH)
    await world.tick(2 * RESTART_DELAY_S)
    assert (world.state(MESH), world.bots(MESH)) == ("held", 1)
    await world.release(MESH)
    assert world.running() == {MESH, OTHER}


async def test_a_mesh_that_is_blocked_while_its_bot_waits_for_a_restart_stays_without_one(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.CRASHED)
    await world.block(MESH)
    await world.tick(2 * RESTART_DELAY_S)
    assert (world.state(MESH), world.bots(MESH)) == ("blocked", 1)


async def test_a_crash_in_the_middle_of_a_stop_is_its_end(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.slow = True
    await world.hold(MESH)
    await world.end(MESH, ExitStatus.CRASHED)
    await world.tick(2 * RESTART_DELAY_S)
    assert (world.state(MESH), world.bots(MESH)) == ("held", 1)
    assert world.blocked() == {MESH: "held"}
