from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ravesvc.bot.room_settings import RoomSettings
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode
from tests.unit.bot_scene import ANN, BOB, BOT
from tests.unit.party_scene import ADMIN, CEM, DAN, EVA, Party


async def test_a_user_skips_their_own_video_at_once() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow", BOB)
        assert await party.talk("?skip") == ["Skipped: The harbour film"]
        await party.wait(2)
        assert party.playing == "meadow"
        assert ("end_video",) in party.theatre.asked


async def test_more_than_half_of_those_present_skip_the_video_of_another() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert await party.says("?skip", BOB) == "1 of 3 votes to skip"
        assert await party.says("?skip", BOB) == "1 of 3 votes to skip"
        assert await party.says("?skip", CEM) == "2 of 3 votes to skip"
        party.party.users = party.party.users - {CEM}
        assert await party.says("?skip", DAN) == "2 of 3 votes to skip"
        # Of those who are left, two of three want to.
        party.party.users = party.party.users - {EVA}
        party.told()
        party.bot.on_left(frozenset({EVA}))
        await party.player.settle()
        assert party.told() == ["Skipped: The harbour film"]
        await party.wait(2)
        assert party.playing == "meadow"
        assert await party.says("?skip", BOB) == "1 of 2 votes to skip"


async def test_the_threshold_is_a_setting_of_the_room() -> None:
    party = Party()

    async with party.holding():
        party.bot.apply_settings(RoomSettings(skip_percent=80))
        await party.talk("?play harbour")
        assert await party.says("?skip", BOB) == "1 of 5 votes to skip"
        assert await party.says("?skip", ADMIN) == "Skipped: The harbour film"
        assert party.playing is None
        assert (await party.says("?skip", ADMIN)).startswith("Nothing plays")


@pytest.mark.parametrize("mode", [PlayMode.QUICKPLAY, PlayMode.LEADER])
async def test_where_a_vote_starts_its_video_that_is_how_to_skip(mode: PlayMode) -> None:
    party = Party()

    async with party.holding():
        party.change(play_mode=mode)
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.theatre.plays = lambda: False
        await party.talk("?skip")
        assert party.playing == "meadow"
        assert ("end_video",) not in party.theatre.asked


async def test_where_rave_goes_on_by_itself_the_next_vote_is_there_before_the_skip() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        party.change(play_mode=PlayMode.AUTOPLAY)
        await party.talk("?play meadow")
        await party.talk("?skip")
        asked = [call[0] for call in party.theatre.asked]
        assert asked[-3:] == ["register", "vote", "end_video"]


ONLY_VOTES = "I can only vote to skip it, because only the leader may"


async def test_where_the_bot_may_not_end_a_video_it_says_so_and_votes_for_the_next_one() -> None:
    party = Party()
    party.theatre.fails["end_video"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        # It goes on, so each answer is that of a video that plays.
        for _ in range(2):
            assert await party.says("?skip") == f"{ONLY_VOTES}\nI voted for The meadow film to be next"
        assert await party.says("?like") == "Liked"
        assert (await party.says("?nowplaying")).startswith("Playing: The harbour film")
        assert len(party.theatre.calls("vote_skip")) == 2
        assert party.theatre.calls("vote")[-1].endswith("/meadow")
        party.show("https://rave.example/videos/youtube/meadow")
        await party.wait(1)
        assert await party.says("?skip") == ONLY_VOTES
        party.theatre.fails["vote_skip"] = RaveError(Code.NOT_FOUND, "no such showing")
        assert (await party.says("?skip")).startswith("Only the leader may")
        party.theatre.fails.clear()
        assert await party.says("?skip") == "Skipped: The meadow film"
        assert party.playing is None


@pytest.mark.parametrize("change", [{"leader": BOT}, {"play_mode": PlayMode.QUICKPLAY}])
async def test_a_skip_that_rave_refuses_keeps_the_votes_and_is_tried_again_when_the_room_changes(
    change: dict[str, Any],
) -> None:
    party = Party()
    party.theatre.fails["end_video"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async with party.holding():
        party.change(leader=DAN)
        await party.talk("?play harbour")
        assert await party.says("?skip", BOB) == "1 of 3 votes to skip"
        assert await party.says("?skip", CEM) == "2 of 3 votes to skip"
        assert (await party.says("?skip", ADMIN)).startswith("I can only vote")
        assert await party.says("?skip", BOB) == "2 of 3 votes to skip"
        for user in (EVA, DAN):
            assert (await party.says("?skip", user)).startswith("I can only vote")
        # No user has to ask again, and the bot asks Rave only when something has changed.
        party.told()
        asked = len(party.theatre.calls("vote_skip"))
        await party.wait(10)
        assert (party.told(), len(party.theatre.calls("vote_skip"))) == ([], asked)
        # It has said why; what another one who leads does not change is not said again.
        party.change(leader=ANN)
        await party.player.settle()
        assert (party.told(), len(party.theatre.calls("vote_skip"))) == ([], asked + 1)
        party.theatre.fails.clear()
        party.change(**change)
        await party.player.settle()
        assert party.told() == ["Skipped: The harbour film"]
        assert party.playing is None


async def test_a_skip_that_was_refused_because_another_one_led_is_tried_again_if_that_one_leaves_meanwhile() -> None:
    party = Party()

    async with party.holding():
        party.change(leader=DAN)
        await party.talk("?play harbour")
        asked, answer, end = asyncio.Event(), asyncio.Event(), party.theatre.end_video

        async def refuse_slowly() -> None:
            asked.set()
            await answer.wait()
            party.theatre.end_video = end  # type: ignore[method-assign]
            raise RaveError(Code.FORBIDDEN, "only the leader may")

        party.theatre.end_video = refuse_slowly  # type: ignore[method-assign]
        await party.talk("?skip", BOB)
        await party.talk("?skip", CEM)
        party.told()
        party.say("?skip", EVA)
        await asked.wait()
        party.party.users = party.party.users - {DAN}
        party.change(leader=BOT, users=party.party.users)
        party.bot.on_left(frozenset({DAN}))
        answer.set()
        await party.bot.settle()
        await party.player.settle()
        refused, skipped = sorted(party.told())
        assert refused.startswith("I can only vote to skip it")
        assert skipped == "Skipped: The harbour film"
        assert party.playing is None


async def test_a_vote_for_the_next_video_is_enough_where_no_vote_to_skip_is_taken() -> None:
    party = Party()
    error = RaveError(Code.FORBIDDEN, "only the leader may")
    party.theatre.fails |= {"end_video": error, "vote_skip": error}

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert await party.says("?skip") == f"{ONLY_VOTES}\nI voted for The meadow film to be next"
        assert party.theatre.calls("vote")[-1].endswith("/meadow")


async def test_where_only_the_leader_chooses_that_is_the_answer() -> None:
    party = Party()
    error = RaveError(Code.FORBIDDEN, "Rave does not let the bot do that")
    leader_only = "only the leader chooses what plays here (play mode LEADER)"
    make_leader = "the leader can make the bot the leader in the app"

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?search glacier", BOB)
        await party.talk("?play meadow")
        party.change(play_mode=PlayMode.LEADER)
        party.theatre.fails |= {"vote": error, "end_video": error}
        said = await party.says("?set 1", BOB)
        assert said.startswith(
            "Only the leader chooses what plays here (play mode LEADER). The leader can make the bot"
        )
        skipped, waits = await party.talk("?skip")
        assert skipped == f"I can only vote to skip it, because {leader_only}; {make_leader}"
        assert waits.startswith("Only the leader chooses what plays here (play mode LEADER). The meadow film waits")
        party.theatre.fails["vote_skip"] = error
        assert (await party.says("?skip")).startswith("Only the leader chooses what plays here")
        party.theatre.fails.clear()
        party.theatre.plays = lambda: False
        assert (await party.talk("?skip"))[0] == "Skipped: The harbour film"
        assert party.playing == "meadow"


async def test_a_video_that_is_skipped_twice_before_the_room_has_changed_is_ended_once() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        party.theatre.show = lambda url: None
        assert await party.says("?skip") == "Skipped: The harbour film"
        for user in (ANN, ADMIN, BOB, CEM, DAN, EVA):
            assert await party.says("?skip", user) == "It is over already: The harbour film"
        assert party.theatre.asked.count(("end_video",)) == 1
        # Rave has said yes, and it plays on.
        await party.wait(5)
        await party.says("?skip")
        assert party.theatre.asked.count(("end_video",)) == 2


async def test_two_who_skip_the_same_video_at_the_same_time_skip_one() -> None:
    party = Party()

    async with party.holding():
        for name in ("harbour", "meadow", "glacier"):
            await party.talk(f"?play {name}")
        asked, answer, end = asyncio.Event(), asyncio.Event(), party.theatre.end_video

        async def end_slowly() -> None:
            asked.set()
            await answer.wait()
            await end()
            # The next one is on before another task has a turn.
            party.show("https://rave.example/videos/youtube/meadow")

        party.theatre.end_video = end_slowly  # type: ignore[method-assign]
        party.say("?skip", ANN)
        await asked.wait()
        party.say("?skip", ADMIN)
        # Long enough for that to come as far as it can.
        for _ in range(50):
            await asyncio.sleep(0)
        answer.set()
        party.told()
        await party.bot.settle()
        assert party.playing == "meadow"
        assert party.theatre.asked.count(("end_video",)) == 1
        said = [text for text in party.told() if "harbour" in text]
        assert said == ["Skipped: The harbour film", "It is over already: The harbour film"]
