"""A mesh that an operator holds or blocks has no bot until the operator says so, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from ravesvc.names import FINAL_STATUSES, ExitStatus
from tests.unit.scenarios.world import BLOCK_S, MESH, OTHER, Connected, World


async def test_a_hold_lasts_until_it_is_lifted(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.hold(MESH)
    assert world.blocked() == {MESH: "held"}
    assert (world.state(MESH), world.reason(MESH)) == ("held", "it was stopped by an operator")
    await world.list(MESH, OTHER)
    await world.tick(10 * BLOCK_S)
    assert world.running() == {OTHER}
    await world.release(MESH)
    assert world.blocked() == {}
    assert world.running() == {MESH, OTHER}


async def test_a_hold_outlives_the_service(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.hold(MESH)
    await world.restart()
    await world.list(MESH, OTHER)
    assert (world.state(MESH), world.running()) == ("held", {OTHER})


async def test_a_mesh_that_is_held_while_it_starts_is_stopped_after_that(world: World) -> None:
    await world.start()
    world.slow = True
    await world.list(MESH)
    await world.hold(MESH)
    await world.finish(MESH)
    await world.finish(MESH)
    assert (world.state(MESH), world.running()) == ("held", set())


async def test_a_second_hold_changes_nothing(world: World) -> None:
    await world.start()
    await world.list(MESH)
    world.slow = True
    await world.hold(MESH)
    await world.hold(MESH)
    await world.finish(MESH)
    await world.hold(MESH)
    assert (world.state(MESH), world.bots(MESH), world.blocked()) == ("held", 1, {MESH: "held"})


# A kick outweighs a hold.
@pytest.mark.parametrize("status", sorted(FINAL_STATUSES - {ExitStatus.KICKED}))
async def test_however_a_bot_ends_in_the_middle_of_its_stop_the_hold_stays(world: World, status: ExitStatus) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.say(OTHER, Connected())
    world.slow = True
    await world.hold(MESH)
    await world.end(MESH, status)
    assert world.blocked() == {MESH: "held"}
    assert world.state(MESH) == "held"


async def test_a_kick_in_the_middle_of_a_stop_outweighs_the_hold(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.slow = True
    await world.hold(MESH)
    await world.end(MESH, ExitStatus.KICKED)
    assert world.blocked() == {MESH: "kicked"}
    assert world.left == [MESH]


async def test_what_an_operator_blocks_is_stopped(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.block(MESH)
    assert world.blocked() == {MESH: "operator"}
    assert (world.state(MESH), world.running()) == ("blocked", {OTHER})
    await world.unblock(MESH)
    assert world.running() == {MESH, OTHER}


async def test_what_is_blocked_and_never_listed_is_shown(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.block(OTHER)
    assert (world.state(OTHER), world.running()) == ("blocked", {MESH})
    await world.unblock(OTHER)
    await world.list(MESH)
    assert world.meshes() == {MESH}


async def test_a_hold_that_can_not_be_saved_is_in_force_and_saved_later(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.disk_full = True
    await world.block(MESH)
    assert world.running() == {OTHER}
    assert world.blocked() == {}
    world.disk_full = False
    await world.tick(BLOCK_S)
    assert world.blocked() == {MESH: "operator"}
