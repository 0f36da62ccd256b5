"""The lockdown: what closes a room, who opens it again, and what it remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.commands import Privacy
from ravesvc.errors import Code, RaveError
from ravesvc.testing import FakeRoom

FILE = Path(__file__).parents[3] / "docs/examples/lockdown.py"

ALL = Privacy(public=True, friends=False, local=False)
FRIENDS = Privacy(public=False, friends=True, local=True)
CLOSED = Privacy(public=False, friends=False, local=False)
TOLD = [
    "More than 8 users have joined within 30 s: for 10 min only invited users get in. "
    "Admins can end that with the command “lockdown off”"
]
NOT_LEADER = RaveError(Code.FORBIDDEN, "only the leader can do that", hint="the leader can make the bot the leader")
REFUSED = (
    "I can't change who gets into this room: only the leader can do that. The leader can make the bot the leader"
)
OVER = ["The lockdown is over"]


def room_with_lockdown() -> FakeRoom:
    room = FakeRoom(admins=["Ann"])
    room.user_id("Ann")
    room.load(FILE)
    return room


async def raid(room: FakeRoom, users: int = 9, *, name: str = "Raider", every: float = 1.0) -> list[str]:
    """So many users join one after another, some seconds apart; returns what the bot says."""
    said: list[str] = []
    for n in range(users):
        said += await room.join(f"{name}{n}")
        said += await room.run_for(every)
    return said


def changes(room: FakeRoom) -> list[object]:
    return [call[1] for call in room.rave.asked if call[0] == "set_privacy"]


def after_restart(room: FakeRoom, *, late: float = 0) -> FakeRoom:
    """Another room, with what the first one has kept and as Rave has it; so many seconds later."""
    other = FakeRoom(admins=["Ann"])
    other.pass_time(late)
    other.user_id("Ann")
    other.service.documents = room.service.documents
    other.rave.room_privacy = room.rave.room_privacy
    other.load(FILE)
    return other


# --- by itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was", [ALL, FRIENDS])
async def test_many_who_join_close_the_room_and_it_is_open_again_after_ten_minutes(was: Privacy) -> None:
    async with room_with_lockdown() as room:
        room.rave.room_privacy = was
        assert await raid(room) == TOLD
        assert room.rave.room_privacy == CLOSED
        assert await room.run_for(590) == []
        assert await room.run_for(10) == OVER
        assert room.rave.room_privacy == was
        assert changes(room) == [CLOSED, was]
        assert await room.run_for(3600) == []


async def test_all_at_once_close_it_once() -> None:
    async with room_with_lockdown() as room:
        assert await raid(room, 30, every=0) == TOLD
        assert changes(room) == [CLOSED]


async def test_as_many_as_may_join_do_not_close_it() -> None:
    async with room_with_lockdown() as room:
        assert await raid(room, 8) == []
        room.pass_time(31)
        assert await raid(room, 8, name="Guest") == []
        room.pass_time(31)
        assert await raid(room, 20, name="Late", every=4) == []
        assert changes(room) == []


async def test_one_user_who_comes_and_goes_is_no_raid_and_neither_are_admins() -> None:
    names = [f"Admin{n}" for n in range(12)]
    async with FakeRoom(admins=names) as room:
        room.load(FILE)
        for name in [*names, *["Bob"] * 20]:
            assert await room.join(name) == []
        assert changes(room) == []


async def test_a_room_that_is_closed_anyway_is_left_alone() -> None:
    async with room_with_lockdown() as room:
        room.rave.room_privacy = CLOSED
        assert await raid(room) == []
        assert changes(room) == []
        assert room.service.documents == {}
        (said,) = await room.say("?lockdown on")
        assert said.startswith("Only invited users get into this room anyway")


async def test_a_raid_during_a_lockdown_changes_nothing() -> None:
    async with room_with_lockdown() as room:
        await room.say("?lockdown on 1h")
        assert await raid(room, 20) == []
        assert await room.run_for(3500) == []
        assert await room.run_for(100) == OVER


# --- after a restart ------------------------------------------------------------------------------------------------


async def test_it_is_opened_after_a_restart() -> None:
    async with room_with_lockdown() as room:
        room.rave.room_privacy = FRIENDS
        await raid(room)
    async with after_restart(room) as other:
        assert await other.run_for(590) == []
        assert await other.run_for(30) == OVER
        assert other.rave.room_privacy == FRIENDS


async def test_it_is_opened_by_a_bot_that_comes_back_late() -> None:
    async with room_with_lockdown() as room:
        await raid(room)
    async with after_restart(room, late=3600) as other:
        assert other.rave.room_privacy == ALL
        (said,) = await other.say("?lockdown status")
        assert said.startswith("Not closed. ")


async def test_a_new_version_of_the_file_goes_on_with_it() -> None:
    async with room_with_lockdown() as room:
        await raid(room)
        assert await room.reload(FILE) == []
        assert await room.run_for(600) == OVER


# --- by hand --------------------------------------------------------------------------------------------------------


async def test_an_admin_closes_and_opens_it() -> None:
    async with room_with_lockdown() as room:
        assert await room.say("?lockdown status") == [
            "Not closed. Closes by itself: when more than 8 users join within 30 s"
        ]
        assert await room.say("?lockdown on 90 min") == ["For 1 h 30 min only invited users get in"]
        assert room.rave.room_privacy == CLOSED
        room.pass_time(600)
        (said,) = await room.say("?lockdown status")
        assert said.startswith("Closed for 1 h 20 min more. ")
        assert await room.say("?lockdown off") == OVER
        assert room.rave.room_privacy == ALL
        (said,) = await room.say("?lockdown off")
        assert said.startswith("There is no lockdown")
        assert await room.run_for(86_400) == []


@pytest.mark.parametrize(("first", "then"), [("10m", "1h"), ("1h", "10m")])
async def test_another_time_replaces_the_first_one(first: str, then: str) -> None:
    async with room_with_lockdown() as room:
        await room.say(f"?lockdown on {first}")
        await room.say(f"?lockdown on {then}")
        seconds = 600 if then == "10m" else 3600
        assert await room.run_for(seconds - 10) == []
        assert await room.run_for(20) == OVER
        assert room.rave.room_privacy == ALL


async def test_it_may_be_closed_and_opened_as_often_as_admins_like() -> None:
    async with room_with_lockdown() as room:
        for _ in range(70):
            assert await room.say("?lockdown on 24h") == ["For 24 h only invited users get in"]
            assert await room.say("?lockdown off") == OVER


async def test_what_was_changed_in_the_app_stays() -> None:
    async with room_with_lockdown() as room:
        await room.say("?lockdown on")
        room.rave.room_privacy = FRIENDS
        assert await room.run_for(600) == ["The lockdown is over. The room was open already, and stays as it is"]
        assert room.rave.room_privacy == FRIENDS


async def test_an_admin_changes_the_limit_and_it_is_remembered() -> None:
    async with room_with_lockdown() as room:
        assert await room.say("?lockdown limit 3 1min") == [
            "Not closed. Closes by itself: when more than 3 users join within 60 s"
        ]
    async with after_restart(room) as other:
        (said,) = await raid(other, 4, every=18)
        assert said.startswith("More than 3 users have joined within 60 s: ")
        await other.say("?lockdown off")
        assert await other.say("?lockdown limit 0") == ["Not closed. Closes by itself: never"]
        assert await raid(other, 50, name="More", every=0) == []


@pytest.mark.parametrize(
    "text", ["?lockdown on", "?lockdown off", "?lockdown status", "?lockdown limit 2", "?lockdown on 1h"]
)
async def test_only_admins_may(text: str) -> None:
    async with room_with_lockdown() as room:
        (said,) = await room.say(text, user="Bob")
        assert said.startswith("Only admins may use ?lockdown ")
        assert room.rave.asked == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("?lockdown", "Write ?lockdown limit|off|on|status"),
        ("?lockdown on soon", "“soon” is no time such as 90s or 10min"),
        ("?lockdown on 59s", "A lockdown lasts from 1 min to 24 h"),
        ("?lockdown on 25h", "A lockdown lasts from 1 min to 24 h"),
        ("?lockdown limit", "Write ?lockdown limit <users> [within]"),
        ("?lockdown limit -1", "That is no number of users from 2 to 100. 0 turns it off"),
        ("?lockdown limit 1", "That is no number of users from 2 to 100"),
        ("?lockdown limit 101 30s", "That is no number of users from 2 to 100"),
        ("?lockdown limit 8 1s", "The time is from 5 s to 10 min"),
        ("?lockdown limit 8 1h", "The time is from 5 s to 10 min"),
    ],
)
async def test_what_makes_no_sense_is_told(text: str, answer: str) -> None:
    async with room_with_lockdown() as room:
        (said,) = await room.say(text)
        assert said.startswith(answer)
        assert (room.rave.asked, room.service.documents) == ([], {})


# --- what Rave refuses ----------------------------------------------------------------------------------------------


async def test_without_the_right_it_says_so_once_in_a_while() -> None:
    async with room_with_lockdown() as room:
        room.rave.fails["set_privacy"] = NOT_LEADER
        assert await raid(room, 40) == [REFUSED]
        assert len(changes(room)) == 4
        assert await room.run_for(1800) == []
        assert await raid(room, name="Other") == [REFUSED]
        (said,) = await room.say("?lockdown on")
        assert said.startswith("Only the leader can do that")
        (said,) = await room.say("?lockdown status")
        assert said.startswith("Not closed")
        room.rave.fails.clear()
        assert await raid(room, name="Third") == TOLD


async def test_a_change_of_which_nothing_is_known_is_taken_back_at_the_end() -> None:
    async with room_with_lockdown() as room:
        room.rave.fails["set_privacy"] = RaveError(Code.TIMEOUT, "Rave did not answer in time")
        assert await raid(room) == ["I can't change who gets into this room: Rave did not answer in time"]
        # Rave has done it all the same.
        room.rave.room_privacy = CLOSED
        room.rave.fails.clear()
        assert await room.run_for(600) == OVER
        assert room.rave.room_privacy == ALL


@pytest.mark.parametrize("method", ["privacy", "set_privacy"])
async def test_a_room_that_can_not_be_opened_is_tried_again(method: str) -> None:
    async with room_with_lockdown() as room:
        await room.say("?lockdown on")
        room.rave.fails[method] = NOT_LEADER
        assert await room.run_for(1500) == [REFUSED]
        (said,) = await room.say("?lockdown off")
        assert said.startswith("Only the leader can do that")
        assert 3 <= len([call for call in room.rave.asked if call[0] == method]) <= 8
        room.rave.fails.clear()
        assert await room.run_for(300) == OVER
        assert room.rave.room_privacy == ALL


async def test_a_lockdown_that_can_not_be_made_longer_still_ends() -> None:
    async with room_with_lockdown() as room:
        await room.say("?lockdown on")
        room.rave.fails["set_privacy"] = NOT_LEADER
        (said,) = await room.say("?lockdown on 1h")
        assert said.startswith("Only the leader can do that")
        room.rave.fails.clear()
        await room.run_for(3600)
        assert room.rave.room_privacy == ALL
