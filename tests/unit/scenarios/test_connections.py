"""Attempts to connect, connections that hold, and what one bot has learned for another."""

from __future__ import annotations

from tests.unit.scenarios.world import (
    DECISION_S,
    MESH,
    OTHER,
    POLL_S,
    ChatFormLearned,
    Connected,
    ConnectionFailed,
    Disconnected,
    World,
)

# Seconds after which a connection has held.
STABLE_AFTER_S = 60.0


async def test_failed_attempts_are_kept_until_a_connection_holds(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, ConnectionFailed(2, "no route"))
    await world.tick(DECISION_S)
    assert (world.failures(MESH), world.reason(MESH)) == (2, "no route")
    await world.say(MESH, Connected())
    await world.tick(STABLE_AFTER_S - 1)
    await world.say(MESH, Disconnected("the connection broke"))
    await world.tick(DECISION_S)
    assert world.failures(MESH) == 2, "it did not hold"
    await world.say(MESH, Connected())
    await world.tick(STABLE_AFTER_S)
    await world.say(MESH, Disconnected("the connection broke"))
    await world.tick(DECISION_S)
    assert world.failures(MESH) == 0


async def test_another_service_knows_of_failed_attempts(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, ConnectionFailed(2, "no route"))
    await world.restart()
    assert world.failures(MESH) == 2


async def test_a_failed_attempt_is_shown_when_it_is_told(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, ConnectionFailed(2, "no route"))
    assert world.attempts(MESH) == 2


async def test_a_connection_that_is_told_of_twice_is_as_old_as_it_is(world: World) -> None:
    await world.start()
    await world.list(MESH)
    await world.say(MESH, ConnectionFailed(2, "no route"))
    await world.say(MESH, Connected())
    await world.tick(STABLE_AFTER_S - 20)
    await world.say(MESH, Connected())
    await world.tick(20)
    await world.say(MESH, Disconnected("the connection broke"))
    await world.tick(DECISION_S)
    assert world.failures(MESH) == 0


async def test_the_form_of_chat_that_one_bot_has_learned_is_told_to_others(world: World) -> None:
    await world.start()
    await world.list(MESH, OTHER)
    assert world.chat_form(OTHER) == ""
    await world.say(MESH, ChatFormLearned("plain"))
    # At the latest when all were asked how they are.
    await world.tick(POLL_S)
    assert world.chat_form(OTHER) == "plain"
