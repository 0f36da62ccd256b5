"""A bot that was kicked is on disk as such before anything else happens, and never comes back by itself."""

from __future__ import annotations

from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import (
    BLOCK_S,
    DECISION_S,
    MESH,
    OTHER,
    RESTART_DELAY_S,
    Connected,
    Kicked,
    World,
)


async def test_a_kick_is_saved_before_the_bot_has_ended(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(MESH, Connected())
    await world.say(MESH, Kicked())
    assert world.blocked() == {MESH: "kicked"}
    assert world.running() == {MESH, OTHER}
    assert world.left == []
    await world.end(MESH, ExitStatus.KICKED)
    assert (world.state(MESH), world.reason(MESH)) == ("blocked", "the bot was kicked")
    assert world.left == [MESH]


async def test_the_end_of_a_bot_alone_tells_of_a_kick(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.KICKED)
    assert world.blocked() == {MESH: "kicked"}
    assert world.state(MESH) == "blocked"
    assert world.left == [MESH]


async def test_no_list_and_no_invitation_brings_it_back(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.KICKED)
    # Lists may be late, and have it for a while.
    await world.list(MESH, OTHER)
    await world.list(OTHER)
    await world.invite(MESH)
    await world.tick(2 * BLOCK_S)
    assert world.running() == {OTHER}
    assert world.bots(MESH) == 1


async def test_another_service_knows_of_it(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.end(MESH, ExitStatus.KICKED)
    await world.restart()
    await world.list(MESH)
    await world.list(MESH)
    assert (world.state(MESH), world.running()) == ("blocked", set())


async def test_an_operator_lifts_it_and_a_new_invitation_is_needed_all_the_same(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.end(MESH, ExitStatus.KICKED)
    await world.unblock(MESH)
    await world.tick(BLOCK_S)
    assert world.blocked() == {}
    assert world.bots(MESH) == 1
    await world.invite(MESH)
    assert world.running() == {MESH, OTHER}


async def test_a_bot_that_says_so_and_crashes_does_not_come_back(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(MESH, Kicked())
    await world.end(MESH, ExitStatus.CRASHED)
    await world.tick(2 * RESTART_DELAY_S)
    assert world.running() == {OTHER}
    assert world.state(MESH) == "blocked"
    assert world.bots(MESH) == 1


async def test_a_service_that_ends_in_between_has_saved_it(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(MESH, Kicked())
    await world.restart()
    await world.list(MESH, OTHER)
    await world.tick(DECISION_S)
    assert world.blocked() == {MESH: "kicked"}
    assert MESH not in world.running()


async def test_a_kick_that_could_not_be_saved_keeps_the_bot_out(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.disk_full = True
    await world.end(MESH, ExitStatus.KICKED)
    await world.list(MESH, OTHER)
    assert world.running() == {OTHER}
    assert world.blocked() == {}
    world.disk_full = False
    await world.tick(BLOCK_S)
    assert world.blocked() == {MESH: "kicked"}
    assert world.running() == {OTHER}


async def test_a_mesh_is_left_only_when_the_kick_is_saved(world: World) -> None:
    """Else a service that starts anew finds neither the kick nor a list without the mesh."""
    await world.start()
    await world.list(MESH, OTHER)
    world.disk_full = True
    await world.end(MESH, ExitStatus.KICKED)
    assert world.left == []
    world.disk_full = False
    await world.tick(BLOCK_S)
    assert world.left == [MESH]
