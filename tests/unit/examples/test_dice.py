"""Dice: what is rolled, and what is no dice."""

from __future__ import annotations

import re

import pytest

from tests.unit.examples.shipped import EXAMPLES, new_room, only

DICE = EXAMPLES / "dice.py"


async def test_a_die_shows_each_of_its_sides_and_nothing_else() -> None:
    async with new_room() as room:
        room.load(DICE)
        seen = set()
        for _ in range(200):
            room.pass_time(5)
            seen.add(only(await room.say("?roll", user="Eve")))
        assert seen == {f"Eve rolls a {number}" for number in range(1, 7)}


@pytest.mark.parametrize("written", ["2d6+1", "2D6 + 1", "２ｄ６＋１"])
async def test_several_dice_are_shown_with_their_sum(written: str) -> None:
    async with new_room() as room:
        room.load(DICE)
        for user in "Ann", "Bob":
            found = re.fullmatch(
                rf"{user} rolls (\d) \+ (\d) \+ 1 = (\d+)", only(await room.say(f"?roll {written}", user=user))
            )
            assert found
            first, second, total = map(int, found.groups())
            assert total == first + second + 1
            assert 1 <= min(first, second) <= max(first, second) <= 6


async def test_a_number_is_taken_away() -> None:
    async with new_room() as room:
        room.load(DICE)
        found = re.fullmatch(r"Ann rolls (\d+) - 3 = (-?\d+)", only(await room.say("?roll d20-3")))
        assert found
        assert int(found[2]) == int(found[1]) - 3


async def test_a_number_alone_is_one_die_of_that_many_sides() -> None:
    async with new_room() as room:
        room.load(DICE)
        found = set()
        for _ in range(40):
            room.pass_time(5)
            found.add(only(await room.say("?roll 2", user="Eve")))
        assert found == {"Eve rolls a 1", "Eve rolls a 2"}


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("?roll 20d1000+1000", "Ann rolls "),
        ("?roll 1d2", "Ann rolls "),
        ("?roll 21d6", "I have 1 to 20 dice"),
        ("?roll 0d6", "I have 1 to 20 dice"),
        ("?roll 1d1001", "My dice have 2 to 1000 sides"),
        ("?roll 1", "My dice have 2 to 1000 sides"),
        ("?roll 1d6+1001", "I add or take away at most 1000"),
        ("?roll 1d6-1001", "I add or take away at most 1000"),
        ("?roll a six", "These are no dice. Write 2d6+1"),
        ("?roll -1d6", "These are no dice"),
        ("?roll 2d6+1d4", "These are no dice"),
        ("?roll " + "9" * 31, "These are no dice"),
        ("?roll " + "9" * 30, "My dice have"),
    ],
)
async def test_bounds(written: str, answer: str) -> None:
    async with new_room() as room:
        room.load(DICE)
        assert only(await room.say(written)).startswith(answer)


async def test_a_user_waits_two_seconds_and_no_other_does() -> None:
    async with new_room() as room:
        room.load(DICE)
        only(await room.say("?roll"))
        assert only(await room.say("?roll")) == "You may use ?roll again in 2 s"
        assert "Bob rolls" in only(await room.say("?roll", user="Bob"))
        room.pass_time(2)
        assert "Ann rolls" in only(await room.say("?roll"))
