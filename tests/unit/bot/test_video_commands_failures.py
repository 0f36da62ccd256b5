from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from ravesvc.bot import player as player_module
from ravesvc.bot import video_words
from ravesvc.bot.queue import QueueEntry
from ravesvc.bot.queue_scheduler import Notice, NoticeKind
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode
from ravesvc.room.votes import Vote
from tests.unit.bot_scene import ANN, BOB, BOT
from tests.unit.party_scene import ADMIN, CEM, Party, video


async def test_what_the_room_does_not_allow_is_said_once_and_the_queue_waits() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "only the leader chooses here")

    async with party.holding():
        party.change(play_mode=PlayMode.VOTE, leader=BOB)
        said = await party.talk("?play harbour")
        refusal = "I may not play The harbour film: only the leader chooses here. The queue waits"
        assert said == ["Next: The harbour film", refusal]
        assert await party.says("?queue") == f"1 video waits:\n1. The harbour film, for Ann\n{refusal}"
        party.told()
        # Bob leaves, and another one leads.
        party.change(leader=CEM)
        await party.wait(1)
        assert party.told() == []
        party.change(play_mode=PlayMode.LEADER)
        await party.wait(1)
        refusal = "Only the leader chooses what plays here (play mode LEADER). The harbour film waits"
        assert refusal in await party.says("?queue")
        party.theatre.fails.clear()
        party.change(leader=BOT)
        await party.wait(1)
        assert party.playing == "harbour"
        assert await party.says("?queue") == "The queue is empty"


async def test_votes_that_are_cleared_are_told() -> None:
    party = Party()
    party.theatre.obeys = False

    async with party.holding():
        await party.talk("?play harbour")
        url = "https://rave.example/videos/youtube/harbour"
        party.change(votes=(Vote(url=url, users=frozenset({BOT}), count=1),))
        party.change(votes=())
        await party.wait(10)
        assert party.told()[-1] == "The votes were cleared, so I vote again for The harbour film"
        assert party.theatre.calls("vote") == [url, url]


async def test_a_video_that_only_another_one_may_start_is_queued() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "Rave does not let the bot do that")

    async with party.holding():
        party.change(play_mode=PlayMode.LEADER, leader=BOB)
        queued, waits = await party.talk("?play harbour")
        assert queued == "Queued at place 1: The harbour film"
        assert waits.startswith("Only the leader chooses what plays here (play mode LEADER). The harbour film waits")
        assert await party.says("?play meadow", BOB) == "Queued at place 2: The meadow film"
        assert await party.says("?clear", ADMIN) == "Removed 2 videos"
        party.theatre.fails.clear()
        party.change(leader=BOT)
        assert await party.talk("?play glacier") == ["Next: The glacier film"]
        assert party.playing == "glacier"


async def test_the_queue_gives_way_to_votes_of_users() -> None:
    party = Party()

    async with party.holding():
        party.change(votes=(Vote(url="https://rave/videos/youtube/theirs", users=frozenset(), count=2),))
        assert await party.says("?play harbour") == "Next: The harbour film"
        assert party.theatre.calls("vote") == []
        await party.wait(30)
        assert party.playing == "harbour"


def test_a_queue_survives_the_death_of_the_bot_at_any_moment() -> None:
    before = Party()
    documents: list[dict[str, str]] = []

    async def ask() -> None:
        for user, name in ((ANN, "harbour"), (ANN, "meadow"), (BOB, "glacier")):
            await before.talk(f"?play {name}", user)
            documents.append(dict(before.service.documents))

    write = before.service.write_document

    async def note(name: str, text: str) -> None:
        await write(name, text)
        documents.append(dict(before.service.documents))

    before.service.write_document = note  # type: ignore[method-assign]
    before.hold(ask)
    assert len(documents) > 5
    for kept in documents:
        after = Party()
        after.service.documents = dict(kept)
        # The room shows harbour, whatever the bot knew of it.
        after.party.state = replace(before.party.state)

        async def look(after: Party = after) -> None:
            assert after.playing == "harbour"
            assert "harbour" not in await after.says("?queue")
            assert after.theatre.calls("vote") == []

        after.hold(look)


async def test_what_can_not_be_kept_is_not_queued() -> None:
    party = Party()

    async with party.holding():
        party.service.fails["write_document"] = RaveError(Code.STORE, "the store can't be written")
        assert (await party.says("?play harbour")).startswith("The store can't be written")
        assert await party.says("?queue") == "The queue is empty"
        assert party.theatre.asked == []


def test_a_service_that_is_away_costs_no_queue() -> None:
    before, after = Party(), Party()
    after.service = before.service

    async def ask() -> None:
        await before.talk("?play harbour")
        await before.talk("?play meadow")
        before.service.fails["read_document"] = RaveError(Code.NOT_RUNNING, "the service does not answer")

    async def come_back() -> None:
        assert (await after.says("?play glacier")).startswith("The service does not answer")
        after.service.fails.clear()
        assert await after.says("?play glacier") == "Queued at place 2: The glacier film"

    before.hold(ask)
    after.hold(come_back)


async def test_a_document_that_is_damaged_is_lost_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    party = Party()
    party.service.documents = {"queue": "[1", "hits": "{"}

    async with party.holding():
        assert await party.says("?queue") == "The queue is empty"
        assert (await party.says("?set 1")).startswith("No search here")
        assert "The queue of the room is lost" in caplog.text
        await party.talk("?play harbour")
        assert party.playing == "harbour"


async def test_a_user_who_is_forgotten_has_asked_for_nothing() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour", BOB)
        await party.talk("?play meadow", BOB)
        await party.talk("?play glacier")
        party.player.forget_user(BOB)
        await party.player.settle()
        assert await party.says("?queue") == "1 video waits:\n1. The glacier film, for Ann"
        assert f'"user":{BOB}' not in party.service.documents["queue"]


async def test_a_queue_that_waits_for_a_user_who_is_forgotten_goes_on() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async with party.holding():
        await party.talk("?play harbour", BOB)
        await party.talk("?play meadow", CEM)
        party.theatre.fails.clear()
        party.player.forget_user(BOB)
        await party.player.settle()
        assert party.playing == "meadow"


async def test_a_bug_stops_the_queue_until_the_room_changes(caplog: pytest.LogCaptureFixture) -> None:
    party = Party()

    async with party.holding():
        party.theatre.plays = lambda: 1 // 0 > 0
        await party.talk("?play harbour")
        assert "the queue does not go on until the room changes" in caplog.text
        party.theatre.plays = lambda: False
        await party.wait(1)
        assert party.playing == "harbour"


async def test_a_document_is_written_as_soon_as_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_FIRST_RETRY_S", 0.01)
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.service.fails["write_document"] = RaveError(Code.STORE, "the store can't be written")
        party.show(None)
        await party.wait(2)
        assert party.playing == "meadow"
        before = party.service.documents["queue"]
        party.service.fails.clear()
        async with asyncio.timeout(10):
            while party.service.documents["queue"] == before:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)


async def test_a_service_that_is_away_at_the_start_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_FIRST_RETRY_S", 0.01)
    party = Party()
    read, asked = party.service.read_document, asyncio.Event()
    party.service.fails["read_document"] = RaveError(Code.NOT_RUNNING, "the service does not answer")

    async def note(name: str) -> str | None:
        text = await read(name)
        asked.set()
        return text

    party.service.read_document = note  # type: ignore[method-assign]

    async with party.holding():
        party.service.fails.clear()
        async with asyncio.timeout(10):
            await asked.wait()


ENTRY = QueueEntry(video=video("harbour"), user=ANN, asked_at=1)


@pytest.mark.parametrize("kind", NoticeKind)
def test_what_the_room_is_told_names_the_video_and_begins_with_no_stranger_s_text(kind: NoticeKind) -> None:
    said = video_words.notice_text(Notice(kind, ENTRY, "because"), "Ann")
    assert "The harbour film" in said
    assert not said.startswith("The harbour film")
    assert "\n" not in said


@pytest.mark.parametrize("kind", NoticeKind)
def test_no_sentence_of_a_notice_begins_in_lower_case(kind: NoticeKind) -> None:
    said = video_words.notice_text(Notice(kind, ENTRY, "giving Rave the video failed"), "Ann")
    assert not re.search(r"\. [a-z]", said)


def test_each_trouble_has_words_of_its_own() -> None:
    told = {video_words.notice_text(Notice(kind, ENTRY, "because"), "Ann") for kind in NoticeKind}
    assert len(told) == len(NoticeKind)


@pytest.mark.parametrize(("seconds", "shown"), [(-5, "0:00"), (61.9, "1:01"), (3600, "1:00:00")])
def test_a_position_is_shown_as_players_do(seconds: float, shown: str) -> None:
    assert video_words.clock(seconds) == shown


async def test_where_videos_are_switched_off_the_queue_rests() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.bot.apply_settings(RoomSettings(video=False))
        party.show(None)
        await party.wait(5)
        assert party.playing is None
        assert "switched off" in await party.says("?play glacier")
        party.bot.apply_settings(RoomSettings())
        await party.wait(1)
        assert party.playing == "meadow"


@pytest.mark.slow
async def test_one_timer_waits_for_the_end_of_a_video() -> None:
    party = Party()
    party.service.videos = [video("harbour", 0.01), video("meadow")]

    async with party.holding():
        voted = asyncio.Event()
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.theatre.plays = voted.set  # type: ignore[assignment]
        party.now += 3.0
        async with asyncio.timeout(10):
            # The scene's clock says that it is time, and nothing happens in the room: the timer alone is left.
            await voted.wait()
