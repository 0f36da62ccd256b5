from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ravesvc.bot.room_settings import RoomSettings
from ravesvc.common.picture import Media, Picture
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media import links
from tests.unit.bot_scene import ANN, BOB, BOT
from tests.unit.conftest import until
from tests.unit.party_scene import ADMIN, CEM, DAN, Party, video

# --- search and set -----------------------------------------------------------------------------------------------


async def test_a_search_announces_itself_and_shows_numbered_hits_with_pictures() -> None:
    party = Party()

    async with party.holding():
        assert await party.talk("?search film") == [
            "Searching for “film”",
            "1. The harbour film\nby Author of harbour",
            "2. The meadow film\nby Author of meadow",
            "3. The glacier film\nby Author of glacier",
        ]
        assert [media.aspect_ratio for media in party.party.media] == ["1.33"] * 3


@pytest.mark.parametrize("broken", ["fetch_picture", "upload"])
async def test_a_hit_without_a_picture_is_a_hit(broken: str) -> None:
    party = Party()
    error = RaveError(Code.NETWORK, "no picture")

    async def upload(picture: Picture) -> Media:
        raise error

    async with party.holding():
        if broken == "upload":
            party.theatre.upload = upload  # type: ignore[method-assign]
        else:
            party.service.fails[broken] = error
        assert len(await party.talk("?search meadow")) == 2
        assert party.party.media == []
        assert await party.says("?set 1") == "Voted for: The meadow film"


async def test_without_a_provider_that_can_search_it_says_what_the_operator_has_to_set() -> None:
    party = Party()
    party.service.fails["search_videos"] = RaveError(
        Code.CONFIG, "no provider can search", hint="the operator has to set a key"
    )

    async with party.holding():
        announced, said = await party.talk("?search film")
        assert announced == "Searching for “film”"
        assert said.startswith("No provider can search. The operator has to set a key (error ")


@pytest.mark.parametrize("command", ["play", "search"])
async def test_a_slow_provider_takes_a_few_places_of_a_user_and_not_all(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party()
    answers = asyncio.Event()

    async def slow(actor: int, words: str) -> Sequence[Video]:
        await answers.wait()
        return []

    monkeypatch.setattr(party.service, "search_videos", slow)

    async def refused(message_id: str) -> bool:
        while True:
            text, reply_to = await party.party.heard()
            if reply_to == message_id:
                return text.startswith("Your last searches are still under way")

    async with party.holding():
        for _ in range(3):
            party.say(f"?{command} film")
            party.now += 5
        assert await refused(party.say(f"?{command} film"))
        bobs = party.say(f"?{command} film", BOB)
        answers.set()
        assert not await refused(bobs)
        await party.bot.settle()
        party.now += 5
        assert not (await party.says(f"?{command} film")).startswith("Your last")


async def test_a_search_that_finds_nothing_says_so() -> None:
    party = Party()

    async with party.holding():
        assert await party.talk("?search nonsense") == ["Searching for “nonsense”", "Nothing was found"]
        assert "Write ?search <words>" in await party.says("?search", BOB)


async def test_a_hit_is_set_by_number_or_by_an_answer_to_its_message() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?search film")
        second = next(message_id for message_id, text in party.party.sent if text.startswith("2."))
        assert await party.says("?set 3", BOB) == "Voted for: The glacier film"
        assert party.playing == "glacier"
        assert await party.says("?set", ANN, reply_to=second) == "Voted for: The meadow film"
        assert party.theatre.calls("vote")[-1].endswith("/meadow")
        assert await party.says("?queue") == "The queue is empty"


@pytest.mark.parametrize(
    ("text", "more", "answer"),
    [
        ("?set", {}, "Write ?set <number>, or answer a hit with it. For example ?set 1 (error "),
        (
            "?set",
            {"reply_to": "own0"},
            "That is no answer to a video that was found. Answer one of the messages of ?search with ?set",
        ),
        ("?set 4", {}, "No search here has found a number 4"),
        ("?set 0", {}, "No search here has found a number 0"),
        ("?set meadow", {}, "“meadow” is no whole number. Write ?set <number>"),
        ("?set 1 2", {}, "“2” is a word too many. Write ?set <number>"),
    ],
)
def test_what_names_no_hit_is_answered_with_a_hint(text: str, more: dict[str, Any], answer: str) -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?search film")
        assert (await party.says(text, **more)).startswith(answer)
        assert party.theatre.calls("vote") == []

    party.hold(body)


async def test_a_hit_can_be_chosen_while_the_next_one_is_on_its_way() -> None:
    party = Party()

    async with party.holding():
        send, chosen = party.party.chat, asyncio.Event()

        async def chat(text: str, **more: Any) -> str:
            if text.startswith("3."):
                shown = {said[0]: message_id for message_id, said in party.party.sent}
                party.say("?set 1", BOB)
                party.say("?set", CEM, reply_to=shown["2"])
                async with asyncio.timeout(5):
                    await until(lambda: len(party.theatre.calls("vote")) == 2)
                chosen.set()
            return await send(text, **more)

        party.party.chat = chat  # type: ignore[method-assign]
        await party.talk("?search film")
        assert chosen.is_set()


@pytest.mark.parametrize("call", ["write_document", "read_document"])
async def test_hits_that_can_not_be_kept_hold_until_a_restart(call: str) -> None:
    party = Party()
    party.service.fails[call] = RaveError(Code.STORE, "the store can't be used")

    async with party.holding():
        assert len(await party.talk("?search film")) == 4
        party.service.fails.pop("read_document", None)
        assert await party.says("?set 2") == "Voted for: The meadow film"


def test_hits_survive_a_restart_and_only_those_of_the_last_search_have_numbers() -> None:
    before, after = Party(), Party()
    after.service = before.service
    found: list[str] = []

    async def search() -> None:
        await before.talk("?search film")
        found.append(next(message_id for message_id, text in before.party.sent if text.startswith("3.")))
        before.now += 60
        await before.talk("?search tundra")

    async def choose() -> None:
        assert await after.says("?set 1") == "Voted for: The tundra film"
        after.now += 5
        assert (await after.says("?set 3")).startswith("No search here has found a number 3")
        after.now += 5
        assert await after.says("?set", reply_to=found[0]) == "Voted for: The glacier film"

    before.hold(search)
    after.hold(choose)


# --- play and queue -----------------------------------------------------------------------------------------------


async def test_of_a_long_link_no_more_is_looked_up_than_tells_that_it_is_too_long() -> None:
    """A bot that sends the service more than 64 KiB is held to be taken over, and killed."""
    party = Party()

    async with party.holding():
        await party.talk(f"?play https://youtu.be/{'x' * 65_350}")
        assert [len(link) for link in party.service.looked_up] == [2001]
        assert links.is_link(party.service.looked_up[0])
        with pytest.raises(RaveError, match="no link to a video that the bot knows"):
            links.video_of(party.service.looked_up[0])


async def test_the_first_video_plays_at_once_and_the_others_in_turn() -> None:
    party = Party()

    async with party.holding():
        assert await party.talk("?play https://youtu.be/harbour") == ["Next: The harbour film"]
        assert party.playing == "harbour"
        assert await party.says("?play volcano") == "Queued at place 1: The volcano film"
        assert await party.says("?play tundra") == "Queued at place 2: The tundra film"
        assert await party.says("?play meadow", BOB) == "Queued at place 1: The meadow film"
        assert await party.says("?queue") == (
            "3 videos wait:\n1. The meadow film, for Bob\n2. The volcano film, for Ann\n3. The tundra film, for Ann"
        )
        party.told()
        party.show(None)
        await party.wait(2)
        assert (party.playing, party.told()) == ("meadow", ["Now playing: The meadow film, asked for by Bob"])
        party.show("https://rave.example/videos/youtube/byhand")
        await party.wait(1000)
        assert party.playing == "byhand"
        party.show(None)
        await party.wait(2)
        assert party.playing == "volcano"


async def test_a_video_whose_length_is_known_gives_way_at_its_end_even_if_rave_does_not_say_so() -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        await party.wait(95)
        assert len(party.theatre.calls("vote")) == 1
        party.theatre.plays = lambda: False
        await party.wait(10)
        assert party.playing == "meadow"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("?play", "Write ?play <link or words>"),
        ("?play nonsense", "Nothing was found. Try other words, or a link"),
        ("?play harbour", "That video plays now"),
        ("?play meadow", "That video is in the queue already, at place 1"),
        ("?remove", "Write ?remove <place>"),
        ("?remove 2", "There is no place 2 in the queue. See ?queue"),
        ("?remove 1", "Only admins may remove what others have asked for"),
    ],
)
async def test_what_can_not_be_done_is_said_in_a_sentence(text: str, answer: str) -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert (await party.says(text, BOB)).startswith(answer)
        assert await party.says("?queue") == "1 video waits:\n1. The meadow film, for Ann"


@pytest.mark.parametrize("text", ["<https://youtu.be/harbour>", "https://youtu.be/harbour please", "it: youtu.be/x"])
async def test_a_link_as_people_paste_it_spends_no_search(text: str) -> None:
    party = Party()
    party.service.fails["search_videos"] = RaveError(Code.RATE_LIMITED, "used up")

    async with party.holding():
        said = await party.says(f"?play {text}")
        assert said == "Next: The harbour film" if "harbour" in text else said.startswith("Used up")


async def test_how_many_a_user_may_have_waiting_is_a_setting_of_the_room() -> None:
    party = Party()

    async with party.holding():
        party.bot.apply_settings(RoomSettings(max_per_user=1))
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert "You have 1 video in the queue already" in await party.says("?play glacier")


async def test_users_remove_their_own_and_admins_anything() -> None:
    party = Party()

    async with party.holding():
        for name in ("harbour", "meadow", "glacier", "volcano"):
            await party.talk(f"?play {name}")
        assert await party.says("?remove 2") == "Removed: The glacier film"
        assert await party.says("?remove 1", ADMIN) == "Removed: The meadow film"
        assert "Only admins may use ?clear" in await party.says("?clear")
        assert await party.says("?clear", ADMIN) == "Removed 1 video"
        assert await party.says("?queue") == "The queue is empty"


def test_a_long_queue_is_listed_in_one_message() -> None:
    party = Party()
    party.service.videos = [video(f"video-{number}-{'x' * 40}") for number in range(14)]

    async def body() -> None:
        for number in range(14):
            await party.talk(f"?play video-{number}-", 10 + number)
        (listed,) = await party.talk("?queue")
        assert listed.count("\n") == 11
        assert listed.endswith("and 3 more")

    party.hold(body)


# --- what plays ---------------------------------------------------------------------------------------------------


async def test_nowplaying_tells_title_position_and_user() -> None:
    party = Party()

    async with party.holding():
        assert (await party.says("?nowplaying")).startswith("Nothing plays")
        await party.talk("?play harbour", BOB)
        party.show("https://rave.example/videos/youtube/harbour", position=65.0, status="PAUS", instance_id="i1")
        assert await party.says("?nowplaying") == "Paused: The harbour film, at 1:05 of 1:40\nAsked for by Bob"
        assert (await party.says("?meshinfo")).endswith("\n• Paused: The harbour film, at 1:05 of 1:40")
        assert party.service.looked_up == []


async def test_what_others_put_on_has_its_title_if_the_bot_can_know_it() -> None:
    party = Party()
    link = "https://www.youtube.com/watch?v="

    async def tells(plays: str, **more: Any) -> None:
        party.show("https://rave.example/videos/youtube/byhand", **{"position": 3723.0, "time": None, **more})
        await party.wait(1)
        for _ in range(2):
            assert await party.says("?nowplaying") == f"Playing: {plays}"
            assert (await party.says("?meshinfo")).endswith(f"\n• Playing: {plays}")

    async with party.holding():
        await party.talk("?search glacier", BOB)
        party.service.fails["look_up_video"] = RaveError(Code.RATE_LIMITED, "enough")
        await tells("The glacier film, at 1:02:03 of 1:40", video_url=f"{link}glacier")
        await tells(f"{link}tundra, at 1:02:03", video_url=f"{link}tundra")
        party.service.fails.clear()
        await tells(f"{link}byhand, at 1:02:03")
        await tells("The meadow film, at 0:05 of 3:00", video_url=f"{link}meadow", position=5.0, duration=180.0)
        assert party.service.looked_up == [f"{link}byhand", f"{link}meadow"], "asked for once"
        party.service.fails["read_document"] = RaveError(Code.STORE, "away")
        for url in "", "https://rave.example/videos/youtube/byhand", "x":
            await tells("a video, at 1:02:03", video_url=url)


async def test_like_is_about_what_plays() -> None:
    party = Party()

    async with party.holding():
        assert (await party.says("?like")).startswith("Nothing plays")
        await party.talk("?play harbour")
        assert await party.says("?like", BOB) == "Liked"
        assert party.theatre.calls("like") == ["https://rave.example/videos/youtube/harbour"]
        party.change(likes=frozenset({BOT}))
        assert await party.says("?like", CEM) == "I like it already"
        assert len(party.theatre.calls("like")) == 1
        party.change(likes=frozenset({CEM}))
        assert await party.says("?like", DAN) == "Liked"


@pytest.mark.parametrize("command", ["like", "set 1"])
async def test_a_user_who_votes_again_and_again_has_to_wait(command: str) -> None:
    party = Party()

    async with party.holding():
        await party.talk("?play harbour", CEM)
        await party.talk("?search meadow", CEM)
        await party.talk(f"?{command}")
        assert (await party.says(f"?{command}")).endswith("again in 5 s")
        assert not (await party.says(f"?{command}", BOB)).endswith("again in 5 s")
        party.now += 5
        assert not (await party.says(f"?{command}")).endswith("again in 5 s")
