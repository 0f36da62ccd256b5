from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ravesvc.bot import player as player_module
from ravesvc.bot import video_commands, video_words
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.player import Player
from ravesvc.bot.queue import QueueEntry
from ravesvc.bot.queue_scheduler import Notice, NoticeKind
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.common.picture import Media, Picture
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media import links
from ravesvc.room.changes import RoomKnown, RoomState
from ravesvc.room.playback import Playback, PlayMode
from ravesvc.room.server_clock import ServerClock
from ravesvc.room.votes import Vote
from ravesvc.testing import FakeRave
from tests.unit.bot_scene import ANN, BOB, BOT, Room, Scene
from tests.unit.common.test_picture import png
from tests.unit.conftest import until

CEM, DAN, EVA, ADMIN = 5, 6, 7, 8


def video(name: str, seconds: float | None = 100.0) -> Video:
    link = f"https://www.youtube.com/watch?v={name}"
    return Video(
        provider="youtube",
        id=name,
        url=link,
        title=f"The {name} film",
        author=f"Author of {name}",
        seconds=seconds,
        thumbnail="https://i.ytimg.com/x.jpg",
    )


class Service:
    """The parent: videos, and the room's documents. `fails` has the error of a method, by its name."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.videos = [video(name) for name in ("harbour", "meadow", "glacier", "volcano", "tundra")]
        self.fails: dict[str, RaveError] = {}
        self.looked_up: list[str] = []

    async def read_document(self, name: str) -> str | None:
        self._fail("read_document")
        return self.documents.get(name)

    async def write_document(self, name: str, text: str) -> None:
        self._fail("write_document")
        json.loads(text)
        self.documents[name] = text

    async def search_videos(self, actor: int, words: str) -> Sequence[Video]:
        self._fail("search_videos")
        return [each for each in self.videos if words in each.title]

    async def look_up_video(self, actor: int, link: str) -> Video:
        self._fail("look_up_video")
        self.looked_up.append(link)
        for each in self.videos:
            if each.id in link:
                return each
        raise RaveError(Code.NOT_FOUND, "there is no such video")

    async def fetch_picture(self, actor: int, video: Video) -> Picture:
        self._fail("fetch_picture")
        return Picture(png(40, 30))

    def _fail(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]


class Theatre(FakeRave):
    """Rave: a vote starts its video if nothing plays, or, with `obeys`, at once. `fails`: as that of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, RaveError] = {}
        self.obeys = True
        self.show: Callable[[str | None], None] = lambda url: None
        self.plays: Callable[[], bool] = lambda: False

    async def register(self, video: Video) -> str:
        self._fail("register")
        return await super().register(video)

    async def vote(self, url: str) -> None:
        self._fail("vote")
        await super().vote(url)
        if self.obeys and not self.plays():
            self.show(url)

    async def end_video(self) -> None:
        self._fail("end_video")
        await super().end_video()
        self.show(None)

    async def vote_skip(self, url: str, instance_id: str) -> None:
        self._fail("vote_skip")
        await super().vote_skip(url, instance_id)

    def _fail(self, method: str) -> None:
        if method in self.fails:
            raise self.fails[method]

    def calls(self, method: str) -> list[Any]:
        return [call[1] for call in self.asked if call[0] == method]


class PartyRoom(Room):
    """A room with five users, whose state a test sets."""

    users = frozenset({BOT, ANN, BOB, CEM, DAN, EVA})

    def __init__(self) -> None:
        super().__init__()
        self.state = RoomState(known=True, users=self.users, play_mode=PlayMode.VOTE)
        self.media: list[Media] = []
        self.sent: list[tuple[str, str]] = []

    async def chat(self, text: str, **more: Any) -> str:
        message_id = await super().chat(text, **more)
        self.media += more.get("media", ())
        self.sent.append((message_id, text))
        return message_id


class Party(Scene):
    """A bot with a queue in such a room."""

    def __init__(self) -> None:
        super().__init__(
            permissions=StaticPermissions(admins=frozenset({ADMIN})),
            names={ANN: "Ann", BOB: "Bob", CEM: "Cem", DAN: "Dan", EVA: "Eva", ADMIN: "Ada"},
        )
        self.service = Service()
        self.theatre = self.rave = Theatre()
        self._instances = itertools.count(1)
        self.party = PartyRoom()
        self.party.server_clock = ServerClock(steady=lambda: self.now, wall=lambda: self.now)

    def hold(self, body: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self.player = Player(self.bot, self.theatre, self.service, clock=lambda: self.now)
            video_commands.register(self.registry, self.player, self.service, wall=lambda: 1_800_000_000)
            self.bot.watch(self.player.on_change)
            self.theatre.show = self.show
            self.theatre.plays = lambda: self.party.state.playback is not None
            self.room = self.party
            self.bot.attach(self.party)
            await self.player.settle()
            await self.wait(10)
            try:
                await body()
            finally:
                await self.player.close()

        self.play(main)

    def change(self, **more: Any) -> None:
        """The room is another one now."""
        self.party.state = replace(self.party.state, **more)
        self.bot.on_change(RoomKnown(self.party.state))

    def show(self, url: str | None, **more: Any) -> None:
        if url is None:
            self.change(playback=None)
            return
        link = f"https://www.youtube.com/watch?v={url.rpartition('/')[2]}"
        now = self.party.server_clock.now()
        fields = {"url": url, "video_url": link, "instance_id": f"i{next(self._instances)}", "status": "PLAY"}
        self.change(playback=Playback(**{**fields, "time": now, "started": True, **more}))

    async def wait(self, seconds: float) -> None:
        """Let the clock go on, and the bot do what is due then."""
        self.now += seconds
        self.bot.on_change(RoomKnown(self.party.state))
        await self.player.settle()

    async def says(self, text: str, sender: int = ANN, **more: Any) -> str:
        """The one answer to a message, when all that it has begun is over."""
        return "\n".join(await self.talk(text, sender, **more))

    async def talk(self, text: str, sender: int = ANN, **more: Any) -> list[str]:
        """All that the bot says when a user writes this."""
        before = len(self.party.sent)
        self.say(text, sender, **more)
        await self.bot.settle()
        await self.player.settle()
        return [text for _, text in self.party.sent[before:]]

    def told(self) -> list[str]:
        """All that the bot has said since the last time."""
        said = [text for _, text in self.party.sent]
        self.party.sent.clear()
        return said

    @property
    def playing(self) -> str | None:
        playback = self.party.state.playback
        return playback.url.rpartition("/")[2] if playback else None


# --- search and set -----------------------------------------------------------------------------------------------


def test_a_search_announces_itself_and_shows_numbered_hits_with_pictures() -> None:
    party = Party()

    async def body() -> None:
        assert await party.talk("?search film") == [
            "Searching for “film”",
            "1. The harbour film\nby Author of harbour",
            "2. The meadow film\nby Author of meadow",
            "3. The glacier film\nby Author of glacier",
        ]
        assert [media.aspect_ratio for media in party.party.media] == ["1.33"] * 3

    party.hold(body)


@pytest.mark.parametrize("broken", ["fetch_picture", "upload"])
def test_a_hit_without_a_picture_is_a_hit(broken: str) -> None:
    party = Party()
    error = RaveError(Code.NETWORK, "no picture")

    async def upload(picture: Picture) -> Media:
        raise error

    async def body() -> None:
        if broken == "upload":
            party.theatre.upload = upload  # type: ignore[method-assign]
        else:
            party.service.fails[broken] = error
        assert len(await party.talk("?search meadow")) == 2
        assert party.party.media == []
        assert await party.says("?set 1") == "Voted for: The meadow film"

    party.hold(body)


def test_without_a_provider_that_can_search_it_says_what_the_operator_has_to_set() -> None:
    party = Party()
    party.service.fails["search_videos"] = RaveError(
        Code.CONFIG, "no provider can search", hint="the operator has to set a key"
    )

    async def body() -> None:
        announced, said = await party.talk("?search film")
        assert announced == "Searching for “film”"
        assert said.startswith("No provider can search. The operator has to set a key (error ")

    party.hold(body)


@pytest.mark.parametrize("command", ["play", "search"])
def test_a_slow_provider_takes_a_few_places_of_a_user_and_not_all(
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

    async def body() -> None:
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

    party.hold(body)


def test_a_search_that_finds_nothing_says_so() -> None:
    party = Party()

    async def body() -> None:
        assert await party.talk("?search nonsense") == ["Searching for “nonsense”", "Nothing was found"]
        assert "Write ?search <words>" in await party.says("?search", BOB)

    party.hold(body)


def test_a_hit_is_set_by_number_or_by_an_answer_to_its_message() -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?search film")
        second = next(message_id for message_id, text in party.party.sent if text.startswith("2."))
        assert await party.says("?set 3", BOB) == "Voted for: The glacier film"
        assert party.playing == "glacier"
        assert await party.says("?set", ANN, reply_to=second) == "Voted for: The meadow film"
        assert party.theatre.calls("vote")[-1].endswith("/meadow")
        assert await party.says("?queue") == "The queue is empty"

    party.hold(body)


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
        ("?set meadow", {}, "Write ?set <number>"),
        ("?set 1 2", {}, "Write ?set <number>"),
    ],
)
def test_what_names_no_hit_is_answered_with_a_hint(text: str, more: dict[str, Any], answer: str) -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?search film")
        assert (await party.says(text, **more)).startswith(answer)
        assert party.theatre.calls("vote") == []

    party.hold(body)


def test_a_hit_can_be_chosen_while_the_next_one_is_on_its_way() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


@pytest.mark.parametrize("call", ["write_document", "read_document"])
def test_hits_that_can_not_be_kept_hold_until_a_restart(call: str) -> None:
    party = Party()
    party.service.fails[call] = RaveError(Code.STORE, "the store can't be used")

    async def body() -> None:
        assert len(await party.talk("?search film")) == 4
        party.service.fails.pop("read_document", None)
        assert await party.says("?set 2") == "Voted for: The meadow film"

    party.hold(body)


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


def test_of_a_long_link_no_more_is_looked_up_than_tells_that_it_is_too_long() -> None:
    """A bot that sends the service more than 64 KiB is held to be taken over, and killed."""
    party = Party()

    async def body() -> None:
        await party.talk(f"?play https://youtu.be/{'x' * 65_350}")
        assert [len(link) for link in party.service.looked_up] == [2001]
        assert links.is_link(party.service.looked_up[0])
        with pytest.raises(RaveError, match="no link to a video that the bot knows"):
            links.video_of(party.service.looked_up[0])

    party.hold(body)


def test_the_first_video_plays_at_once_and_the_others_in_turn() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


def test_a_video_whose_length_is_known_gives_way_at_its_end_even_if_rave_does_not_say_so() -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        await party.wait(95)
        assert len(party.theatre.calls("vote")) == 1
        party.theatre.plays = lambda: False
        await party.wait(10)
        assert party.playing == "meadow"

    party.hold(body)


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
def test_what_can_not_be_done_is_said_in_a_sentence(text: str, answer: str) -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert (await party.says(text, BOB)).startswith(answer)
        assert await party.says("?queue") == "1 video waits:\n1. The meadow film, for Ann"

    party.hold(body)


@pytest.mark.parametrize("text", ["<https://youtu.be/harbour>", "https://youtu.be/harbour please", "it: youtu.be/x"])
def test_a_link_as_people_paste_it_spends_no_search(text: str) -> None:
    party = Party()
    party.service.fails["search_videos"] = RaveError(Code.RATE_LIMITED, "used up")

    async def body() -> None:
        said = await party.says(f"?play {text}")
        assert said == "Next: The harbour film" if "harbour" in text else said.startswith("Used up")

    party.hold(body)


def test_how_many_a_user_may_have_waiting_is_a_setting_of_the_room() -> None:
    party = Party()

    async def body() -> None:
        party.bot.apply_settings(RoomSettings(max_per_user=1))
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert "You have 1 video in the queue already" in await party.says("?play glacier")

    party.hold(body)


def test_users_remove_their_own_and_admins_anything() -> None:
    party = Party()

    async def body() -> None:
        for name in ("harbour", "meadow", "glacier", "volcano"):
            await party.talk(f"?play {name}")
        assert await party.says("?remove 2") == "Removed: The glacier film"
        assert await party.says("?remove 1", ADMIN) == "Removed: The meadow film"
        assert "Only admins may use ?clear" in await party.says("?clear")
        assert await party.says("?clear", ADMIN) == "Removed 1 video"
        assert await party.says("?queue") == "The queue is empty"

    party.hold(body)


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


# --- skip ---------------------------------------------------------------------------------------------------------


def test_a_user_skips_their_own_video_at_once() -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour")
        await party.talk("?play meadow", BOB)
        assert await party.talk("?skip") == ["Skipped: The harbour film"]
        await party.wait(2)
        assert party.playing == "meadow"
        assert ("end_video",) in party.theatre.asked

    party.hold(body)


def test_more_than_half_of_those_present_skip_the_video_of_another() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


def test_the_threshold_is_a_setting_of_the_room() -> None:
    party = Party()

    async def body() -> None:
        party.bot.apply_settings(RoomSettings(skip_percent=80))
        await party.talk("?play harbour")
        assert await party.says("?skip", BOB) == "1 of 5 votes to skip"
        assert await party.says("?skip", ADMIN) == "Skipped: The harbour film"
        assert party.playing is None
        assert (await party.says("?skip", ADMIN)).startswith("Nothing plays")

    party.hold(body)


@pytest.mark.parametrize("mode", [PlayMode.QUICKPLAY, PlayMode.LEADER])
def test_where_a_vote_starts_its_video_that_is_how_to_skip(mode: PlayMode) -> None:
    party = Party()

    async def body() -> None:
        party.change(play_mode=mode)
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.theatre.plays = lambda: False
        await party.talk("?skip")
        assert party.playing == "meadow"
        assert ("end_video",) not in party.theatre.asked

    party.hold(body)


def test_where_rave_goes_on_by_itself_the_next_vote_is_there_before_the_skip() -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour")
        party.change(play_mode=PlayMode.AUTOPLAY)
        await party.talk("?play meadow")
        await party.talk("?skip")
        asked = [call[0] for call in party.theatre.asked]
        assert asked[-3:] == ["register", "vote", "end_video"]

    party.hold(body)


ONLY_VOTES = "I can only vote to skip it, because only the leader may"


def test_where_the_bot_may_not_end_a_video_it_says_so_and_votes_for_the_next_one() -> None:
    party = Party()
    party.theatre.fails["end_video"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async def body() -> None:
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

    party.hold(body)


@pytest.mark.parametrize("change", [{"leader": BOT}, {"play_mode": PlayMode.QUICKPLAY}])
def test_a_skip_that_rave_refuses_keeps_the_votes_and_is_tried_again_when_the_room_changes(
    change: dict[str, Any],
) -> None:
    party = Party()
    party.theatre.fails["end_video"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async def body() -> None:
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

    party.hold(body)


def test_a_skip_that_was_refused_because_another_one_led_is_tried_again_if_that_one_leaves_meanwhile() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


def test_a_vote_for_the_next_video_is_enough_where_no_vote_to_skip_is_taken() -> None:
    party = Party()
    error = RaveError(Code.FORBIDDEN, "only the leader may")
    party.theatre.fails |= {"end_video": error, "vote_skip": error}

    async def body() -> None:
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        assert await party.says("?skip") == f"{ONLY_VOTES}\nI voted for The meadow film to be next"
        assert party.theatre.calls("vote")[-1].endswith("/meadow")

    party.hold(body)


def test_where_only_the_leader_chooses_that_is_the_answer() -> None:
    party = Party()
    error = RaveError(Code.FORBIDDEN, "Rave does not let the bot do that")
    leader_only = "only the leader chooses what plays here (play mode LEADER)"
    make_leader = "the leader can make the bot the leader in the app"

    async def body() -> None:
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

    party.hold(body)


def test_a_video_that_is_skipped_twice_before_the_room_has_changed_is_ended_once() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


def test_two_who_skip_the_same_video_at_the_same_time_skip_one() -> None:
    party = Party()

    async def body() -> None:
        for name in ("harbour", "meadow", "glacier"):
            await party.talk(f"?play {name}")
        asked, answer, end = asyncio.Event(), asyncio.Event(), party.theatre.end_video

        async def end_slowly() -> None:
            asked.set()
            await answer.wait()
            await end()
            # The next one is on before anyone else has a turn.
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

    party.hold(body)


# --- what plays ---------------------------------------------------------------------------------------------------


def test_nowplaying_tells_title_position_and_user() -> None:
    party = Party()

    async def body() -> None:
        assert (await party.says("?nowplaying")).startswith("Nothing plays")
        await party.talk("?play harbour", BOB)
        party.show("https://rave.example/videos/youtube/harbour", position=65.0, status="PAUS", instance_id="i1")
        assert await party.says("?nowplaying") == "Paused: The harbour film, at 1:05 of 1:40\nAsked for by Bob"
        assert (await party.says("?meshinfo")).endswith("\n• Paused: The harbour film, at 1:05 of 1:40")
        assert party.service.looked_up == []

    party.hold(body)


def test_what_others_put_on_has_its_title_if_the_bot_can_know_it() -> None:
    party = Party()
    link = "https://www.youtube.com/watch?v="

    async def tells(plays: str, **more: Any) -> None:
        party.show("https://rave.example/videos/youtube/byhand", **{"position": 3723.0, "time": None, **more})
        await party.wait(1)
        for _ in range(2):
            assert await party.says("?nowplaying") == f"Playing: {plays}"
            assert (await party.says("?meshinfo")).endswith(f"\n• Playing: {plays}")

    async def body() -> None:
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

    party.hold(body)


def test_like_is_about_what_plays() -> None:
    party = Party()

    async def body() -> None:
        assert (await party.says("?like")).startswith("Nothing plays")
        await party.talk("?play harbour")
        assert await party.says("?like", BOB) == "Liked"
        assert party.theatre.calls("like") == ["https://rave.example/videos/youtube/harbour"]
        party.change(likes=frozenset({BOT}))
        assert await party.says("?like", CEM) == "I like it already"
        assert len(party.theatre.calls("like")) == 1
        party.change(likes=frozenset({CEM}))
        assert await party.says("?like", DAN) == "Liked"

    party.hold(body)


@pytest.mark.parametrize("command", ["like", "set 1"])
def test_a_user_who_votes_again_and_again_has_to_wait(command: str) -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour", CEM)
        await party.talk("?search meadow", CEM)
        await party.talk(f"?{command}")
        assert (await party.says(f"?{command}")).endswith("again in 5 s")
        assert not (await party.says(f"?{command}", BOB)).endswith("again in 5 s")
        party.now += 5
        assert not (await party.says(f"?{command}")).endswith("again in 5 s")

    party.hold(body)


# --- failures and restarts ----------------------------------------------------------------------------------------


def test_what_the_room_does_not_allow_is_said_once_and_the_queue_waits() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "only the leader chooses here")

    async def body() -> None:
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

    party.hold(body)


def test_votes_that_are_cleared_are_told() -> None:
    party = Party()
    party.theatre.obeys = False

    async def body() -> None:
        await party.talk("?play harbour")
        url = "https://rave.example/videos/youtube/harbour"
        party.change(votes=(Vote(url=url, users=frozenset({BOT}), count=1),))
        party.change(votes=())
        await party.wait(10)
        assert party.told()[-1] == "The votes were cleared, so I vote again for The harbour film"
        assert party.theatre.calls("vote") == [url, url]

    party.hold(body)


def test_a_video_that_only_another_one_may_start_is_queued() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "Rave does not let the bot do that")

    async def body() -> None:
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

    party.hold(body)


def test_the_queue_gives_way_to_votes_of_users() -> None:
    party = Party()

    async def body() -> None:
        party.change(votes=(Vote(url="https://rave/videos/youtube/theirs", users=frozenset(), count=2),))
        assert await party.says("?play harbour") == "Next: The harbour film"
        assert party.theatre.calls("vote") == []
        await party.wait(30)
        assert party.playing == "harbour"

    party.hold(body)


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


def test_what_can_not_be_kept_is_not_queued() -> None:
    party = Party()

    async def body() -> None:
        party.service.fails["write_document"] = RaveError(Code.STORE, "the store can't be written")
        assert (await party.says("?play harbour")).startswith("The store can't be written")
        assert await party.says("?queue") == "The queue is empty"
        assert party.theatre.asked == []

    party.hold(body)


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


def test_a_document_that_is_damaged_is_lost_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    party = Party()
    party.service.documents = {"queue": "[1", "hits": "{"}

    async def body() -> None:
        assert await party.says("?queue") == "The queue is empty"
        assert (await party.says("?set 1")).startswith("No search here")
        assert "The queue of the room is lost" in caplog.text
        await party.talk("?play harbour")
        assert party.playing == "harbour"

    party.hold(body)


def test_a_user_who_is_forgotten_has_asked_for_nothing() -> None:
    party = Party()

    async def body() -> None:
        await party.talk("?play harbour", BOB)
        await party.talk("?play meadow", BOB)
        await party.talk("?play glacier")
        party.player.forget_user(BOB)
        await party.player.settle()
        assert await party.says("?queue") == "1 video waits:\n1. The glacier film, for Ann"
        assert f'"user":{BOB}' not in party.service.documents["queue"]

    party.hold(body)


def test_a_queue_that_waits_for_a_user_who_is_forgotten_goes_on() -> None:
    party = Party()
    party.theatre.fails["vote"] = RaveError(Code.FORBIDDEN, "only the leader may")

    async def body() -> None:
        await party.talk("?play harbour", BOB)
        await party.talk("?play meadow", CEM)
        party.theatre.fails.clear()
        party.player.forget_user(BOB)
        await party.player.settle()
        assert party.playing == "meadow"

    party.hold(body)


def test_a_bug_stops_the_queue_until_the_room_changes(caplog: pytest.LogCaptureFixture) -> None:
    party = Party()

    async def body() -> None:
        party.theatre.plays = lambda: 1 // 0 > 0
        await party.talk("?play harbour")
        assert "the queue does not go on until the room changes" in caplog.text
        party.theatre.plays = lambda: False
        await party.wait(1)
        assert party.playing == "harbour"

    party.hold(body)


def test_a_document_is_written_as_soon_as_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_FIRST_RETRY_S", 0.01)
    party = Party()

    async def body() -> None:
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

    party.hold(body)


def test_a_service_that_is_away_at_the_start_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_module, "_FIRST_RETRY_S", 0.01)
    party = Party()
    read, asked = party.service.read_document, asyncio.Event()
    party.service.fails["read_document"] = RaveError(Code.NOT_RUNNING, "the service does not answer")

    async def note(name: str) -> str | None:
        text = await read(name)
        asked.set()
        return text

    party.service.read_document = note  # type: ignore[method-assign]

    async def body() -> None:
        party.service.fails.clear()
        async with asyncio.timeout(10):
            await asked.wait()

    party.hold(body)


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


def test_where_videos_are_switched_off_the_queue_rests() -> None:
    party = Party()

    async def body() -> None:
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

    party.hold(body)


@pytest.mark.slow
def test_one_timer_waits_for_the_end_of_a_video() -> None:
    party = Party()
    party.service.videos = [video("harbour", 0.01), video("meadow")]

    async def body() -> None:
        voted = asyncio.Event()
        await party.talk("?play harbour")
        await party.talk("?play meadow")
        party.theatre.plays = voted.set  # type: ignore[assignment]
        party.now += 3.0
        async with asyncio.timeout(10):
            # The scene's clock says that it is time, and nothing happens in the room: the timer alone is left.
            await voted.wait()

    party.hold(body)
