"""What keeps bots from being started for now: Rave asks for a pause, or most meshes fail alike."""

from __future__ import annotations

import pytest

from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import (
    API_HOST,
    BLOCK_S,
    DECISION_S,
    MESH,
    OTHER,
    ROUND_S,
    THIRD,
    Connected,
    ConnectionFailed,
    PauseRequested,
    World,
)

# Seconds after which a connection was not only let in to be shown out. The delays of an outage begin with as many.
SETTLED_S = 10.0


async def test_while_rave_asks_for_a_pause_no_bot_is_started(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, PauseRequested(API_HOST, 240))
    assert "asks for a pause" in world.reason(MESH)
    await world.invite(OTHER)
    assert world.state(OTHER) == "stopped"
    assert f"{API_HOST} asks for a pause until" in world.reason(OTHER)
    assert world.failures(MESH) == 0, "that is no failure"
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER}


async def test_a_stranger_asks_for_nothing(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, PauseRequested("stranger.test", 240))
    await world.invite(OTHER)
    assert world.running() == {MESH, OTHER}


async def test_a_mesh_that_is_held_in_a_pause_is_started_when_both_are_over(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(MESH, PauseRequested(API_HOST, 240))
    await world.hold(OTHER)
    assert world.running() == {MESH}, "a stop waits for no pause"
    await world.tick(ROUND_S)
    assert world.running() == {MESH}
    await world.release(OTHER)
    assert world.running() == {MESH, OTHER}


@pytest.mark.parametrize("status", [ExitStatus.REJECTED, ExitStatus.UNREACHABLE])
async def test_what_most_meshes_meet_blocks_none_of_them(world: World, status: ExitStatus) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for mesh in (OTHER, THIRD):
        await world.say(mesh, ConnectionFailed(1, f"mesh {mesh}: 403"))
    await world.end(MESH, status)
    assert world.blocked() == {}
    assert world.state(MESH) == "stopped"
    assert "all meshes can't be reached: mesh: 403" in world.last_error(MESH)
    await world.list(MESH, OTHER, THIRD)
    assert world.bots(MESH) == 1, "the outage has just begun"
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER, THIRD}


async def test_an_outage_uses_up_no_attempts(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for mesh in (MESH, OTHER, THIRD):
        await world.say(mesh, ConnectionFailed(3, "no route"))
    await world.end(MESH, ExitStatus.UNREACHABLE)
    assert world.failures(MESH) == 0
    await world.tick(DECISION_S)
    assert world.failures(OTHER) == 3, "it goes on trying"


async def fail_all(world: World, attempts: int) -> None:
    """Two bots go on trying, and the third gives up."""
    for mesh in (OTHER, THIRD):
        await world.say(mesh, ConnectionFailed(attempts, "503"))
    await world.end(MESH, ExitStatus.REJECTED)


async def test_a_connection_that_settles_ends_an_outage(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    await fail_all(world, attempts=1)
    await world.tick(DECISION_S)
    await world.list(MESH, OTHER, THIRD)
    assert world.bots(MESH) == 2
    await fail_all(world, attempts=2)
    await world.say(THIRD, Connected())
    await world.list(MESH, OTHER, THIRD)
    assert world.bots(MESH) == 2, "the second delay is twice as long"
    await world.tick(SETTLED_S)
    await world.list(MESH, OTHER, THIRD)
    assert world.bots(MESH) == 3


async def test_the_failure_of_one_mesh_among_others_that_are_well_is_its_own(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for mesh in (OTHER, THIRD):
        await world.say(mesh, Connected())
    await world.end(MESH, ExitStatus.REJECTED)
    assert world.blocked() == {MESH: "rejected"}


async def test_a_block_is_taken_back_when_the_others_follow(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for mesh in (OTHER, THIRD):
        await world.say(mesh, Connected())
    await world.end(MESH, ExitStatus.REJECTED)
    await world.end(OTHER, ExitStatus.REJECTED)
    assert world.blocked() == {MESH: "rejected", OTHER: "rejected"}
    await world.end(THIRD, ExitStatus.REJECTED)
    assert world.blocked() == {}
    await world.tick(BLOCK_S)
    assert world.running() == {MESH, OTHER, THIRD}


async def test_a_hold_in_an_outage_stays_when_that_is_over(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    await fail_all(world, attempts=1)
    await world.hold(MESH)
    await world.tick(BLOCK_S)
    assert world.running() == {OTHER, THIRD}
    assert world.blocked() == {MESH: "held"}
