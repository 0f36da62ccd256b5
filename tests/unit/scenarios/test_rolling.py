"""Outdated bots are replaced one after another, each only when the one before is back in its mesh."""

from __future__ import annotations

from tests.unit.scenarios.world import DECISION_S, MESH, OTHER, THIRD, Connected, World

ALL = (MESH, OTHER, THIRD)
# Seconds that a new bot has to get back into its mesh.
BACK_WITHIN_S = 60.0


async def outdated(world: World) -> None:
    world.new_bots_connect = True
    await world.start()
    await world.list(*ALL)
    await world.outdate()


async def test_all_are_replaced(world: World) -> None:
    await outdated(world)
    assert await world.roll() == 3
    assert [world.bots(mesh) for mesh in ALL] == [2, 2, 2]
    assert await world.roll() == 0


async def test_the_next_waits_until_the_one_before_is_back(world: World) -> None:
    await outdated(world)
    world.new_bots_connect = False
    await world.roll()
    (first,) = [mesh for mesh in ALL if world.bots(mesh) == 2]
    await world.tick(DECISION_S)
    await world.say(first, Connected())
    assert sum(world.bots(mesh) for mesh in ALL) == 5


async def test_one_that_does_not_come_back_ends_it(world: World) -> None:
    await outdated(world)
    world.new_bots_connect = False
    await world.roll()
    await world.tick(2 * BACK_WITHIN_S)
    assert sum(world.bots(mesh) for mesh in ALL) == 4
    assert await world.roll() == 2


async def test_one_that_is_held_in_the_middle_of_its_turn_stays_out(world: World) -> None:
    await outdated(world)
    world.slow = True
    await world.roll()
    (first,) = [mesh for mesh in ALL if world.state(mesh) == "stopping"]
    await world.hold(first)
    await world.finish(first)
    assert world.state(first) == "held"
    assert first not in world.running()


async def test_one_that_is_blocked_before_its_turn_is_passed_over(world: World) -> None:
    await outdated(world)
    world.slow = True
    await world.roll()
    (first,) = [mesh for mesh in ALL if world.state(mesh) == "stopping"]
    *_, last = [mesh for mesh in ALL if mesh != first]
    world.slow = False
    await world.hold(last)
    await world.finish(first)
    assert {mesh: world.bots(mesh) for mesh in ALL} == {mesh: 1 if mesh == last else 2 for mesh in ALL}
