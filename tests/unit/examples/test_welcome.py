"""Welcome: who is greeted, when, and with what."""

from __future__ import annotations

import pytest

from tests.unit.examples.shipped import EXAMPLES, new_room, only, restarted

WELCOME = EXAMPLES / "welcome.py"
AFTER = "! I am a bot. Write ?help to see what I can do."


async def test_a_user_who_joins_is_greeted_a_moment_later() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        assert await room.join("Ann") == []
        assert await room.run_for(4) == []
        assert await room.run_for(2) == [f"Welcome, Ann{AFTER}"]
        assert await room.run_for(60) == []


async def test_the_help_is_named_with_the_prefix_of_the_room() -> None:
    async with new_room(prefixes=("!",)) as room:
        room.load(WELCOME)
        await room.join("Ann")
        assert "Write !help to" in only(await room.run_for(6))


@pytest.mark.parametrize(
    ("users", "names"),
    [
        (["Ann", "Bob"], "Ann and Bob"),
        (["Ann", "Bob", "Cy"], "Ann, Bob and Cy"),
        (["Ann", "Bob", "Cy", "Di", "Ed", "Flo", "Gus"], "Ann, Bob, Cy, Di, Ed and 2 more"),
    ],
)
async def test_several_users_get_one_message(users: list[str], names: str) -> None:
    async with new_room() as room:
        room.load(WELCOME)
        for user in users:
            await room.join(user)
        assert await room.run_for(20) == [f"Welcome, {names}{AFTER}"]


async def test_a_flood_of_users_gets_few_messages() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        said = []
        for number in range(200):
            said += await room.join(f"User{number}")
            said += await room.run_for(0.1)
        said += await room.run_for(10)
        assert 1 <= len(said) <= 5
        assert all(len(each) < 200 for each in said)


async def test_a_user_is_not_greeted_twice_within_an_hour() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        await room.join("Ann")
        only(await room.run_for(10))
        await room.leave("Ann")
        await room.run_for(3500)
        await room.join("Ann")
        assert await room.run_for(10) == []
        await room.join("Bob")
        assert "Bob" in only(await room.run_for(10))
        await room.leave("Ann")
        await room.run_for(100)
        await room.join("Ann")
        assert "Ann" in only(await room.run_for(10))


async def test_a_user_who_is_gone_at_once_is_not_greeted() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        await room.join("Ann")
        await room.join("Bob")
        await room.leave("Ann")
        assert await room.run_for(10) == [f"Welcome, Bob{AFTER}"]
        await room.join("Cy")
        await room.leave("Cy")
        assert await room.run_for(10) == []


async def test_an_admin_changes_the_text_and_the_room_remembers_it() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        text = "Hi {names}: {prefix}help {0.__class__} {"
        assert only(await room.say(f"?settings welcome.greeting {text}", user="Eve")).startswith("Changed:")
        assert await room.say("?welcome", user="Eve") == [f"The welcome is on: {text}"]
        async with restarted(room) as other:
            other.load(WELCOME)
            await other.join("Ann")
            assert await other.run_for(10) == ["Hi Ann: ?help {0.__class__} {"]


async def test_an_admin_switches_it_off_and_on_and_the_room_remembers_that() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        await room.join("Ann")
        assert await room.say("?welcome off", user="Eve") == ["I no longer greet users who join"]
        assert await room.run_for(10) == [], "not even those who have just come"
        async with restarted(room) as other:
            other.load(WELCOME)
            await other.join("Ann")
            assert await other.run_for(10) == []
            assert "The welcome is off" in only(await other.say("?welcome", user="Eve"))
            assert await other.say("?welcome on", user="Eve") == ["I greet users who join"]
            await other.join("Bob")
            assert "Bob" in only(await other.run_for(10))


@pytest.mark.parametrize("written", ["?welcome", "?welcome off", "?welcome on"])
async def test_it_is_for_admins(written: str) -> None:
    async with new_room() as room:
        room.load(WELCOME)
        assert only(await room.say(written)).startswith("Only admins may use ?welcome")
        await room.join("Bob")
        assert await room.run_for(10) == [f"Welcome, Bob{AFTER}"]


async def test_a_greeting_is_no_command_for_other_bots() -> None:
    async with new_room() as room:
        room.load(WELCOME)
        await room.say("?settings welcome.greeting ？kick {names}", user="Eve")
        await room.join("Ann")
        assert await room.run_for(10) == [f"Welcome, Ann{AFTER}"]
