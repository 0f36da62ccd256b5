"""Announcements: how often they come, and when they do not."""

from __future__ import annotations

import pytest

from ravesvc.testing import FakeRoom
from tests.unit.examples.shipped import EXAMPLES, new_room, only, restarted

ANNOUNCEMENTS = EXAMPLES / "announcements.py"


async def chat(room: FakeRoom, minutes: int) -> list[tuple[int, str]]:
    """What the bot says, and in which minute, while a user writes each minute."""
    said = []
    for minute in range(1, minutes + 1):
        assert await room.say("hello") == []
        said += [(minute, text) for text in await room.run_for(60)]
    return said


async def add(room: FakeRoom, written: str) -> str:
    return only(await room.say(f"?announce add {written}", user="Eve"))


async def test_an_announcement_comes_again_and_again() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        assert await add(room, "30m Drink  water") == "Announcement 1 comes every 30 min"
        assert await chat(room, 95) == [(30, "Drink  water"), (60, "Drink  water"), (90, "Drink  water")]


async def test_it_does_not_come_twice_without_a_message_in_between() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Drink water")
        assert await room.run_for(3600) == [], "nothing was written at all"
        await room.say("hello")
        assert await room.run_for(3600) == ["Drink water"]
        await room.say("hello", user="Bob")
        assert await room.run_for(3600) == ["Drink water"]


async def test_it_does_not_come_into_an_empty_room() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Drink water")
        await room.say("hello")
        await room.leave("Ann")
        await room.leave("Eve")
        assert await room.run_for(3600) == []
        await room.join("Bob")
        assert await room.run_for(61) == ["Drink water"]


async def test_of_two_that_are_due_one_waits_for_the_next_message() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Drink water")
        await add(room, "5m Sit up")
        await room.say("hello")
        assert await room.run_for(1800) == ["Sit up"]
        await room.say("hello")
        assert await room.run_for(1800) == ["Drink water"]
        await room.say("hello")
        assert await room.run_for(1800) == ["Sit up"], "the one that waits for longest"


async def test_they_are_listed_and_removed_by_number() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        for text in "One", "Two", "Three":
            await add(room, f"1h30m {text}")
        assert await room.say("?announce remove 2", user="Eve") == ["Announcement 2 is removed"]
        assert await room.say("?announce list", user="Eve") == ["1. every 90 min: One\n3. every 90 min: Three"]
        assert only(await room.say("?announce remove 2", user="Eve")).startswith("There is no announcement 2")
        said = await chat(room, 200)
        assert {text for _, text in said} == {"One", "Three"}


async def test_a_number_that_is_used_again_begins_its_time_anew() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Old")
        await chat(room, 8)
        await room.say("?announce remove 1", user="Eve")
        assert await add(room, "10m New") == "Announcement 1 comes every 10 min"
        assert await chat(room, 15) == [(10, "New")]


async def test_the_room_remembers_them() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Drink water")
        async with restarted(room) as other:
            other.load(ANNOUNCEMENTS)
            assert await other.say("?announce list", user="Eve") == ["1. every 10 min: Drink water"]
            assert [text for _, text in await chat(other, 13)] == ["Drink water"]


@pytest.mark.parametrize("written", ["?announce add 30m Buy this", "?announce list", "?announce remove 1"])
async def test_they_are_for_admins(written: str) -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        await add(room, "10m Drink water")
        assert only(await room.say(written)).startswith("Only admins may use ?announce")
        assert await room.say("?announce list", user="Eve") == ["1. every 10 min: Drink water"]


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("?announce add 30m", "Write ?announce add <interval> <text"),
        ("?announce add often Drink", "“often” is no time such as 90s or 10min"),
        ("?announce add 4m Drink", "The time is 5 min to 24 h. Write for example 30m"),
        ("?announce add 25h Drink", "The time is 5 min to 24 h"),
        (f"?announce add 30m {'x' * 301}", "An announcement has at most 300 characters"),
        ("?announce add 30m ?kick @Ann", "The text must not begin like a command"),
        ("?announce remove", "Write ?announce remove <number>"),
        ("?announce remove one", "“one” is no whole number"),
        ("?announce remove 1", "There is no announcement 1. ?announce list shows all"),
    ],
)
async def test_bad_input_changes_nothing(written: str, answer: str) -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        assert only(await room.say(written, user="Eve")).startswith(answer)
        assert await room.say("?announce list", user="Eve") == ["There are no announcements"]


async def test_a_room_has_ten_of_them() -> None:
    async with new_room() as room:
        room.load(ANNOUNCEMENTS)
        for _ in range(10):
            assert "comes every 1440 min" in await add(room, f"24h {'x' * 300}")
        assert "at most 10 announcements" in await add(room, "24h more")
