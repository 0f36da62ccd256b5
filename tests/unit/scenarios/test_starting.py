"""What is listed has a bot, and what is listed no more has none."""

from __future__ import annotations

from tests.unit.scenarios.world import (
    DECISION_S,
    MESH,
    OTHER,
    ROUND_S,
    THIRD,
    Connected,
    Disconnected,
    Kicked,
    World,
)


async def test_what_is_listed_gets_a_bot(world: World) -> None:
    await world.start()
    assert world.meshes() == set()
    await world.list(MESH, OTHER)
    assert world.running() == {MESH, OTHER}
    assert (world.state(MESH), world.state(OTHER)) == ("disconnected", "disconnected")
    await world.say(MESH, Connected())
    assert (world.state(MESH), world.reason(MESH)) == ("connected", "")
    await world.say(MESH, Disconnected("the connection broke"))
    assert (world.state(MESH), world.reason(MESH)) == ("disconnected", "the connection broke")


async def test_a_list_that_says_the_same_changes_nothing(world: World) -> None:
    await world.start()
    for _ in range(5):
        await world.list(MESH, OTHER)
    assert (world.bots(MESH), world.bots(OTHER)) == (1, 1)


async def test_what_three_lists_lack_has_no_bot_any_more(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    for _ in range(2):
        await world.list(OTHER)
        assert world.running() == {MESH, OTHER}
    await world.list(OTHER)
    assert world.running() == {OTHER}
    assert world.blocked() == {}


async def test_a_list_that_lacks_most_is_not_believed(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER, THIRD)
    for _ in range(5):
        await world.list(MESH)
    assert world.running() == {MESH, OTHER, THIRD}


async def test_what_is_invited_later_gets_a_bot_as_well(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.invite(OTHER)
    assert world.running() == {MESH, OTHER}
    assert world.bots(MESH) == 1


async def test_while_rave_does_not_answer_all_goes_on(world: World) -> None:
    await world.start()
    await world.list(MESH)
    world.rave_answers = False
    for _ in range(5):
        await world.list()
    assert world.running() == {MESH}
    world.rave_answers = True
    await world.list(MESH, OTHER)
    assert world.running() == {MESH, OTHER}


async def test_a_bot_that_is_wanted_again_while_it_stops_comes_back(world: World) -> None:
    await world.start()
    await world.list(MESH)
    world.slow = True
    await world.hold(MESH)
    assert world.state(MESH) == "stopping"
    await world.release(MESH)
    assert world.bots(MESH) == 1
    await world.finish(MESH)
    assert (world.running(), world.bots(MESH)) == ({MESH}, 2)


async def test_what_is_not_listed_any_more_while_it_starts_is_stopped(world: World) -> None:
    await world.start()
    await world.list(OTHER, THIRD)
    world.slow = True
    await world.invite(MESH)
    for _ in range(3):
        await world.list(OTHER, THIRD)
    await world.finish(MESH)
    await world.finish(MESH)
    assert world.running() == {OTHER, THIRD}


async def test_a_bot_that_is_kicked_while_it_is_stopped_stays_out(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    world.slow = True
    for _ in range(3):
        await world.list(OTHER)
    await world.say(MESH, Kicked())
    await world.tick(DECISION_S)
    assert world.blocked() == {MESH: "kicked"}
    await world.finish(MESH)
    await world.list(MESH, OTHER)
    await world.list(MESH, OTHER)
    assert world.running() == {OTHER}


# The account.


async def test_a_session_that_is_lost_stops_no_bot(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.lose_session()
    await world.tick(2 * ROUND_S)
    assert world.running() == {MESH, OTHER}
    assert world.blocked() == {}


async def test_an_account_that_is_taken_out_has_no_bots_any_more(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    await world.remove_account()
    await world.tick(DECISION_S)
    assert world.running() == set()
    assert world.blocked() == {}


async def test_nothing_that_waits_for_its_turn_is_started_at_the_end(world: World) -> None:
    await world.start(starts_per_minute=6)
    await world.list(MESH, OTHER)
    # The next one ten seconds after the first: soon.
    await world.tick(7)
    assert len(world.running()) == 1
    started = world.bots(MESH) + world.bots(OTHER)
    await world.close()
    assert world.bots(MESH) + world.bots(OTHER) == started
