"""A step that fails, in words or by a fault of the program, is told of its mesh, and holds up nothing else."""

from __future__ import annotations

from ravesvc.errors import Code, RaveError
from tests.unit.scenarios.surroundings import Logged
from tests.unit.scenarios.world import MESH, OTHER, ROUND_S, World


async def fail_to_start(world: World, failure: Exception) -> None:
    """OTHER runs, and the bot of MESH can't be started."""
    await world.start()
    await world.list(OTHER)
    world.step_fails = failure
    await world.invite(MESH)


async def test_others_run_on_and_it_is_tried_again_after_the_next_round(world: World) -> None:
    await fail_to_start(world, ZeroDivisionError("a fault of ours"))
    assert (world.running(), world.bots(OTHER)) == ({OTHER}, 1)
    world.step_fails = None
    await world.tick(ROUND_S)
    assert world.running() == {MESH, OTHER}


async def test_a_step_that_is_refused_is_told_in_words(world: World, logged: Logged) -> None:
    await fail_to_start(world, RaveError(Code.ACCESS_DENIED, "polkit says no", hint="ask it"))
    assert (world.state(MESH), world.reason(MESH)) == ("stopped", "polkit says no (ask it)")
    assert [mesh for mesh, words in logged.errors if "polkit says no" in words] == [MESH]


async def test_a_fault_of_the_program_is_logged_with_its_mesh(world: World, logged: Logged) -> None:
    await fail_to_start(world, ZeroDivisionError("a fault of ours"))
    assert [mesh for mesh, _ in logged.errors] == [MESH]


async def test_a_mesh_says_that_the_program_has_a_fault(world: World) -> None:
    await fail_to_start(world, ZeroDivisionError("a fault of ours"))
    assert "internal error" in world.reason(MESH)


async def test_a_step_with_a_fault_is_not_tried_again_at_once(world: World) -> None:
    await fail_to_start(world, ZeroDivisionError("a fault of ours"))
    world.step_fails = None
    await world.hold(OTHER)
    await world.release(OTHER)
    assert world.bots(MESH) == 0
