"""How many bots there are at most, how many meshes are shown, and how fast bots are started."""

from __future__ import annotations

import uuid

from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import API_HOST, MESH, OTHER, ROUND_S, THIRD, PauseRequested, World

# Six in a minute, of which none are saved up: the next ten seconds later.
PACE = 6
PACE_DELAY_S = 10.0
# Of the meshes that are blocked and nothing else, so many are shown.
MAX_BLOCKED_SHOWN = 200


async def test_no_more_bots_than_the_limit(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, OTHER)
    assert world.running() == {MESH}
    assert (world.state(OTHER), world.reason(OTHER)) == ("stopped", "max_processes (1) is reached")


async def test_a_mesh_takes_the_place_of_another_only_when_that_has_stopped(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, OTHER)
    world.slow = True
    await world.hold(MESH)
    assert "until another mesh has stopped" in world.reason(OTHER)
    assert world.bots(OTHER) == 0
    await world.finish(MESH)
    assert world.running() == {OTHER}


async def test_the_place_of_a_bot_that_has_ended_is_free(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.KICKED)
    assert world.running() == {OTHER}


async def test_what_waits_for_a_restart_keeps_its_place(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.CRASHED)
    assert world.state(MESH) == "restarting"
    assert world.bots(OTHER) == 0


async def test_bots_are_started_one_after_another_at_a_pace(world: World) -> None:
    await world.start(starts_per_minute=PACE)
    await world.list(MESH, OTHER, THIRD)
    assert len(world.running()) == 1
    await world.tick(PACE_DELAY_S)
    assert len(world.running()) == 2
    await world.tick(PACE_DELAY_S)
    assert world.running() == {MESH, OTHER, THIRD}
    assert [world.bots(mesh) for mesh in (MESH, OTHER, THIRD)] == [1, 1, 1]


async def test_what_waits_for_its_turn_keeps_its_place_until_that_has_come(world: World) -> None:
    await world.start(starts_per_minute=PACE, max_processes=2)
    await world.list(MESH, OTHER, THIRD)
    await world.block(OTHER)
    assert world.running() == {MESH}
    assert "until another mesh has stopped" in world.reason(THIRD)
    await world.tick(ROUND_S)
    assert world.running() == {MESH, THIRD}


async def test_what_waits_for_its_turn_is_not_shown_as_running(world: World) -> None:
    await world.start(starts_per_minute=PACE)
    await world.list(MESH, OTHER)
    assert world.running() == {MESH}
    assert world.state(OTHER) == "stopped"


async def test_what_is_held_while_it_waits_for_its_turn_is_not_started(world: World) -> None:
    await world.start(starts_per_minute=PACE)
    await world.list(MESH, OTHER)
    await world.hold(OTHER)
    await world.tick(ROUND_S)
    assert (world.state(OTHER), world.bots(OTHER)) == ("held", 0)


async def test_a_pause_that_begins_while_a_mesh_waits_for_its_turn_counts(world: World) -> None:
    await world.start(starts_per_minute=PACE)
    await world.list(MESH, OTHER)
    await world.say(MESH, PauseRequested(API_HOST, 240))
    await world.tick(120)
    assert world.bots(OTHER) == 0
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER}


async def test_of_meshes_that_are_blocked_only_the_latest_are_shown(world: World) -> None:
    blocked = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(MAX_BLOCKED_SHOWN + 5)]
    await world.start()
    await world.list(MESH)
    for mesh in blocked[:5]:
        await world.block(mesh)
        await world.tick(1)
    await world.block(*blocked[5:])
    await world.list(MESH)
    assert world.meshes() == {MESH, *blocked[5:]}
    assert len(world.blocked()) == len(blocked)
