"""What follows from the way in which a bot has ended, but for kicks and crashes."""

from __future__ import annotations

import pytest

from ravesvc.core.plan import ALONE
from ravesvc.names import ExitStatus
from tests.unit.scenarios.world import (
    BLOCK_S,
    DECISION_S,
    GUEST,
    MESH,
    OTHER,
    OWN,
    ROUND_S,
    THIRD,
    Left,
    World,
)

# Beyond what Rave tells at a time.
FOURTH = "6b7c8d9e-2f3a-4b4c-8d5e-6f7a8b9c0d1e"

BLOCKING = {
    ExitStatus.UNREACHABLE: "connection_failures",
    ExitStatus.REJECTED: "rejected",
    ExitStatus.TOO_LARGE: "too_large",
    ExitStatus.LEFT: "left",
    ExitStatus.GONE: "gone",
}


async def other_runs(world: World) -> None:
    """Another mesh has its bot, and is in it: what happens to one mesh is its own fault then."""
    world.new_bots_connect = True
    await world.start()
    await world.list(OTHER, MESH)


@pytest.mark.parametrize("status", BLOCKING)
async def test_it_blocks_the_mesh_for_a_while(world: World, status: ExitStatus) -> None:
    await other_runs(world)
    await world.list(OTHER)
    await world.end(MESH, status)
    assert world.blocked() == {MESH: BLOCKING[status]}
    assert world.state(MESH) == "blocked"
    assert world.left == []
    await world.tick(BLOCK_S)
    assert world.blocked() == {}


@pytest.mark.parametrize("status", [ExitStatus.UNREACHABLE, ExitStatus.REJECTED, ExitStatus.TOO_LARGE])
async def test_when_the_block_is_over_the_bot_comes_back(world: World, status: ExitStatus) -> None:
    await other_runs(world)
    await world.end(MESH, status)
    await world.tick(BLOCK_S - 2 * DECISION_S)
    assert world.bots(MESH) == 1
    await world.tick(2 * DECISION_S)
    assert world.running() == {OTHER, MESH}


async def test_a_mesh_that_was_left_is_joined_again_when_the_bot_is_invited_again(world: World) -> None:
    await other_runs(world)
    await world.say(MESH, Left("an admin has asked for it"))
    await world.end(MESH, ExitStatus.LEFT)
    await world.list(OTHER, MESH)
    assert world.running() == {OTHER}, "this list was late"
    await world.list(OTHER)
    await world.invite(MESH)
    assert world.running() == {OTHER, MESH}
    assert world.blocked() == {}


async def test_a_mesh_that_was_gone_and_is_listed_again_is_there_again(world: World) -> None:
    await other_runs(world)
    await world.list(OTHER)
    await world.end(MESH, ExitStatus.GONE)
    assert world.blocked() == {MESH: "gone"}
    await world.list(OTHER)
    await world.list(OTHER, MESH)
    assert world.running() == {OTHER, MESH}
    assert world.blocked() == {}


async def test_while_rave_does_not_answer_no_mesh_is_to_blame(world: World) -> None:
    await other_runs(world)
    world.rave_answers = False
    await world.end(MESH, ExitStatus.UNREACHABLE)
    assert world.blocked() == {}
    assert (world.state(MESH), world.last_error(MESH)) == ("stopped", "Rave does not answer")
    world.rave_answers = True
    await world.tick(ROUND_S)
    assert world.running() == {OTHER, MESH}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ExitStatus.LOGIN_NEEDED, "Rave wants a new login"),
        (ExitStatus.ELSEWHERE, "the same account is connected to it elsewhere"),
        (ExitStatus.CONFIG, "its process could not use its settings"),
    ],
)
async def test_what_is_no_fault_of_the_mesh_blocks_nothing(world: World, status: ExitStatus, words: str) -> None:
    await other_runs(world)
    await world.end(MESH, status)
    assert world.blocked() == {}
    assert (world.state(MESH), world.last_error(MESH)) == ("stopped", words)
    assert world.bots(MESH) == 1
    await world.tick(2 * ROUND_S)
    assert world.bots(MESH) == 2


@pytest.mark.parametrize("status", [ExitStatus.ELSEWHERE, ExitStatus.CONFIG])
async def test_what_a_person_has_to_mend_is_tried_less_and_less_often(world: World, status: ExitStatus) -> None:
    await other_runs(world)
    steps = []
    for bots in range(2, 7):
        await world.end(MESH, status)
        steps.append(0)
        while world.bots(MESH) < bots:
            await world.tick(ROUND_S / 20)
            steps[-1] += 1
    assert steps[-1] > 1.5 * steps[0]


async def test_one_that_ends_without_a_word_waits_for_the_next_round(world: World) -> None:
    await other_runs(world)
    await world.end(MESH, ExitStatus.STOPPED)
    # What is done with another mesh is no reason to start it.
    await world.hold(OTHER)
    await world.release(OTHER)
    assert world.bots(MESH) == 1
    await world.tick(ROUND_S)
    assert world.bots(MESH) == 2


# A mesh that the bot has left because it was alone there.


async def test_a_bot_that_was_alone_comes_back_when_there_is_company(world: World) -> None:
    await other_runs(world)
    await world.list(OTHER, MESH, users=())
    await world.end(MESH, ExitStatus.ALONE)
    assert world.blocked() == {}
    await world.list(OTHER, MESH, users=())
    assert (world.state(MESH), world.reason(MESH)) == ("stopped", ALONE)
    await world.list(OTHER, MESH, users=(OWN,))
    assert world.bots(MESH) == 1, "we are no company for ourselves"
    await world.list(OTHER, MESH, users=(OWN, GUEST))
    assert world.running() == {OTHER, MESH}


async def test_another_service_knows_that_the_bot_was_alone(world: World) -> None:
    await other_runs(world)
    await world.list(OTHER, MESH, users=())
    await world.end(MESH, ExitStatus.ALONE)
    await world.restart()
    await world.list(OTHER, MESH, users=())
    assert world.bots(MESH) == 1
    await world.list(OTHER, MESH)
    assert world.running() == {OTHER, MESH}


async def test_another_service_remembers_it_though_its_first_list_lacks_the_mesh(world: World) -> None:
    await other_runs(world)
    await world.list(OTHER, MESH, users=())
    await world.end(MESH, ExitStatus.ALONE)
    await world.close()
    await world.list(OTHER, users=())
    await world.start()
    await world.list(OTHER, MESH, users=())
    assert world.bots(MESH) == 1


async def test_a_service_for_other_meshes_believes_its_first_list(world: World) -> None:
    """What an earlier one has seen listed says nothing then."""
    await other_runs(world)
    await world.list(OTHER, MESH, users=())
    await world.end(MESH, ExitStatus.ALONE)
    await world.close()
    await world.list(OTHER, users=())
    await world.start(mesh_mode="friends")
    await world.list(OTHER, MESH, users=())
    assert world.running() == {OTHER, MESH}


async def test_another_service_reads_a_list_as_far_as_what_waits_for_company(world: World) -> None:
    await world.start(max_processes=1)
    await world.list(MESH, users=())
    await world.end(MESH, ExitStatus.ALONE)
    await world.close()
    await world.list(OTHER, THIRD, FOURTH, MESH)
    await world.start()
    assert MESH in world.meshes()


async def test_without_a_session_our_own_devices_are_no_company_either(world: World) -> None:
    await other_runs(world)
    await world.list(OTHER, MESH, users=(OWN,))
    await world.end(MESH, ExitStatus.ALONE)
    await world.list(OTHER, MESH, users=(OWN,))
    await world.lose_session()
    await world.hold(OTHER)
    assert world.bots(MESH) == 1
