"""Polls: who may vote, how votes are counted, and when a poll ends."""

from __future__ import annotations

import json

import pytest

from ravesvc.testing import FakeRoom
from tests.unit.examples.shipped import EXAMPLES, new_room, only, restarted

POLL = EXAMPLES / "poll.py"
PIZZA = '?poll "Pizza or pasta?" Pizza Pasta'
SHOWN = "Poll: Pizza or pasta?\n1. Pizza\n2. Pasta\nVote with ?vote and the number or the name"


async def test_a_poll_is_shown_and_its_votes_are_counted() -> None:
    async with new_room() as room:
        room.load(POLL)
        assert await room.say(PIZZA) == [SHOWN]
        assert await room.say("?vote 2") == ["You vote for Pasta"]
        assert await room.say("?vote pizza", user="Bob") == ["You vote for Pizza"]
        assert await room.say("?vote ＰＡＳＴＡ", user="Cy") == ["You vote for Pasta"]
        assert "1. Pizza (1)\n2. Pasta (2)\n" in only(await room.say("?poll", user="Bob"))
        assert await room.say("?poll close") == [
            "The poll is closed: Pizza or pasta?\nPizza: 1\nPasta: 2\nPasta wins"
        ]
        assert only(await room.say("?poll")).startswith("No poll is open. Open one with ?poll ")


async def test_a_user_has_one_vote_and_may_change_it() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        for choice in "1", "1", "2":
            await room.say(f"?vote {choice}", user="Bob")
        await room.say("?vote 1")
        assert only(await room.say("?poll close")).endswith("Pizza: 1\nPasta: 1\nA tie: Pizza, Pasta")


async def test_a_poll_closes_by_itself_after_five_minutes() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        await room.say("?vote 1")
        assert await room.run_for(299) == []
        assert only(await room.run_for(2)).endswith("Pizza: 1\nPasta: 0\nPizza wins")
        assert only(await room.say("?vote 2")).startswith("No poll is open")
        assert await room.run_for(1000) == []


async def test_without_votes_it_says_so() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        assert only(await room.say("?poll close")).endswith("Pizza: 0\nPasta: 0\nThere was no vote")


async def test_a_poll_that_was_closed_early_leaves_the_time_of_the_next_one_alone() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        await room.run_for(200)
        await room.say("?poll close")
        await room.say('?poll "Tea?" Yes No', user="Bob")
        assert await room.run_for(290) == []
        assert "Tea?" in only(await room.run_for(20))


async def test_a_room_has_one_poll_at_once() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        assert "A poll is open already" in only(await room.say('?poll "Tea?" Yes No', user="Bob"))
        assert "Pizza or pasta?" in only(await room.say("?poll"))


async def test_only_the_user_who_made_it_or_an_admin_closes_it_early() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        refused = "Only an admin or the user who made the poll may close it"
        assert only(await room.say("?poll close", user="Bob")) == refused
        assert "closed" in only(await room.say("?poll close", user="Eve"))
        await room.say(PIZZA)
        assert "closed" in only(await room.say("?poll close"))
        assert only(await room.say("?poll close")).startswith("No poll is open")


async def test_a_poll_outlives_a_restart() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        await room.say("?vote 2", user="Bob")
        async with restarted(room) as other:
            other.load(POLL)
            await other.say("?vote 2", user="Ann")
            await other.say("?vote 1", user="Bob")
            assert "closed" not in only(await other.say("?poll"))
            assert only(await other.run_for(301)).endswith("Pizza: 1\nPasta: 1\nA tie: Pizza, Pasta")
            assert await other.connect() == []
            assert await other.run_for(1000) == []


async def test_a_poll_goes_on_when_the_file_is_loaded_anew_and_when_the_bot_is_back() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        await room.run_for(200)
        await room.connect()
        assert "closed" in only(await room.run_for(101)), "to join again does not prolong it"
        await room.say(PIZZA)
        assert await room.reload(POLL) == []
        assert "closed" in only(await room.run_for(301))


async def test_a_user_who_is_forgotten_has_no_vote_any_more() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        await room.say("?vote 1")
        await room.say("?vote 2", user="Bob")
        forget(room, "Bob")
        assert "1. Pizza (1)\n2. Pasta\n" in only(await room.say("?poll"))
        forget(room, "Ann")
        assert await room.run_for(301) == [], "with the user who made it the poll is gone"
        assert await room.say(PIZZA, user="Bob") == [SHOWN]


def forget(room: FakeRoom, user: str) -> None:
    room._bot.forget_user(room.user_id(user))


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("?poll Tea?", "A poll has 2 to 9 options. For example ?poll "),
        ("?poll Tea? Yes", "A poll has 2 to 9 options"),
        ("?poll Tea? 1 2 3 4 5 6 7 8 9 0", "A poll has 2 to 9 options"),
        ("?poll Tea? Yes ＹＥＳ", "Two of the options are the same"),
        (f"?poll {'x' * 201} Yes No", "A question has 1 to 200 characters"),
        (f"?poll Tea? Yes {'x' * 41}", "A question has 1 to 200 characters, an option 1 to 40"),
        ('?poll " " Yes No', "A question has 1 to 200 characters"),
        ("?vote 1", "No poll is open"),
    ],
)
async def test_bad_input_opens_no_poll(written: str, answer: str) -> None:
    async with new_room() as room:
        room.load(POLL)
        assert only(await room.say(written)).startswith(answer)
        assert only(await room.say("?poll")).startswith("No poll is open")
        assert await room.run_for(301) == []


@pytest.mark.parametrize("choice", ["0", "3", "-1", "Pizz", "Pizza Pasta", "x" * 500])
async def test_a_choice_that_is_none_is_no_vote(choice: str) -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        assert only(await room.say(f"?vote {choice}")).startswith(
            "The poll has no such option. Write a number from 1"
        )
        assert only(await room.say("?poll")) == SHOWN


async def test_options_may_have_blanks_and_numbers_as_names() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say('?poll "How many?" 2 "a  few\nmore"')
        assert await room.say("?vote 2") == ["You vote for 2"]
        assert await room.say("?vote a few more") == ["You vote for a few more"]


async def test_votes_are_bounded() -> None:
    async with new_room() as room:
        room.load(POLL)
        await room.say(PIZZA)
        (name,) = room.service.documents
        kept = json.loads(room.service.documents[name])
        kept["room"]["poll"]["votes"] = [{"user": 1000 + number, "option": 0} for number in range(500)]
        async with restarted(room) as other:
            other.service.documents = {name: json.dumps(kept)}
            other.load(POLL)
            assert "More than 500 votes can't be counted" in only(await other.say("?vote 1"))
            assert "1. Pizza (500)" in only(await other.say("?poll"))
