"""A bot has one vote in a room, and can't take it back: what becomes of a vote that is no longer wanted."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.bot.player import Player
from ravesvc.bot.queue import QueueEntry
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode
from ravesvc.room.votes import Vote
from tests.unit.bot_scene import ANN, BOB, BOT
from tests.unit.party_scene import ADMIN, CEM, DAN, EVA, Party, Theatre, video

LEADER_ONLY = RaveError(Code.FORBIDDEN, "only the leader may")


class Ballots(Theatre):
    """Rave as it counts votes: each user has one, it stands until it is elected, and it can't be taken back.

    Attributes:
        votes: the video of each user.
        started: the videos, with those who had voted for them.
    """

    def __init__(self, party: Cinema) -> None:
        super().__init__()
        self._party = party
        self.votes: dict[int, str] = {}
        self.started: list[tuple[str, frozenset[int]]] = []

    async def vote(self, url: str) -> None:
        self._require_leader()
        self._ask("vote", url)
        self.cast(BOT, url.rpartition("/")[2])

    async def end_video(self) -> None:
        self._require_leader()
        self._ask("end_video")
        self.end()

    def _require_leader(self) -> None:
        if self._party.party.state.play_mode is PlayMode.LEADER:
            raise LEADER_ONLY

    def cast(self, user: int, name: str) -> None:
        """A user votes, by hand unless it is the bot."""
        self.votes[user] = name
        at_once = self._party.playing is None or self._party.party.state.play_mode is PlayMode.QUICKPLAY
        if at_once or sum(other == name for other in self.votes.values()) > 3:
            self._elect(name)
        else:
            self._party.change(votes=self._counted())

    def end(self) -> None:
        """What plays is at its end."""
        wanted = list(self.votes.values())
        if wanted:
            self._elect(max(wanted, key=wanted.count))
        elif self._party.party.state.play_mode is PlayMode.AUTOPLAY:
            self._elect("own-choice")
        else:
            self._party.show(None)

    def _elect(self, name: str) -> None:
        voters = frozenset(user for user, other in self.votes.items() if other == name)
        self.votes = {user: other for user, other in self.votes.items() if other != name}
        self.started.append((name, voters))
        # One message has both.
        self._party.party.state = replace(self._party.party.state, votes=self._counted())
        self._party.show(url(name))

    def _counted(self) -> tuple[Vote, ...]:
        users = {
            name: frozenset(u for u, other in self.votes.items() if other == name) for name in self.votes.values()
        }
        return tuple(Vote(url=url(name), users=voters, count=len(voters)) for name, voters in users.items())


class Cinema(Party):
    """A bot with a queue, in a room where something plays by hand."""

    def __init__(self, mode: PlayMode) -> None:
        super().__init__()
        self.ballots = self.theatre = self.rave = Ballots(self)
        self.party.state = replace(self.party.state, play_mode=mode)

    async def begin(self) -> None:
        """Nothing plays that the bot knows the length of."""
        self.ballots.cast(EVA, "by-hand")
        await self.player.settle()
        self.ballots.started.clear()

    async def end(self) -> list[str]:
        """What plays ends; returns what the bot says of it."""
        self.told()
        self.ballots.end()
        await self.player.settle()
        return self.told()


def url(name: str) -> str:
    return f"https://rave.example/videos/youtube/{name}"


KEEPS = "Rave still has my vote for The harbour film. I will skip it if it starts"


@pytest.mark.parametrize(
    ("command", "sender", "said"),
    [("remove 1", BOB, "Removed: The harbour film"), ("clear", ADMIN, "Removed 1 video")],
)
async def test_what_was_removed_and_had_the_vote_is_skipped_when_it_starts(
    command: str, sender: int, said: str
) -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)

    async with cinema.holding():
        await cinema.begin()
        await cinema.says("?play harbour", BOB)
        assert cinema.ballots.votes == {BOT: "harbour"}
        assert await cinema.says(f"?{command}", sender) == f"{said}\n{KEEPS}"
        await cinema.wait(1000)
        assert await cinema.end() == ["Skipped: The harbour film. It was removed from the queue"]
        assert cinema.playing == "own-choice"
        # It is over with that: who plays it now wants it.
        cinema.show(url("harbour"))
        await cinema.wait(1)
        assert cinema.playing == "harbour"


async def test_the_next_video_gets_the_vote_of_the_one_that_is_removed_at_once() -> None:
    cinema = Cinema(PlayMode.VOTE)
    cinema.ballots.fails["end_video"] = LEADER_ONLY

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?play harbour", BOB)
        await cinema.talk("?play meadow", CEM)
        # It can't be ended, so the vote is there for what is next.
        await cinema.talk("?skip", ADMIN)
        assert cinema.ballots.votes == {BOT: "harbour"}
        assert await cinema.says("?remove 1", BOB) == "Removed: The harbour film"
        assert cinema.ballots.votes == {BOT: "meadow"}
        await cinema.end()
        assert cinema.playing == "meadow"


async def test_what_was_removed_may_start_when_the_vote_is_for_another_video() -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?play harbour", BOB)
        await cinema.talk("?remove 1", BOB)
        await cinema.talk("?play meadow", CEM)
        assert cinema.ballots.votes == {BOT: "meadow"}
        cinema.told()
        # At once, so that the room can't have shown where the vote has gone.
        cinema.show(url("harbour"))
        await cinema.player.settle()
        assert cinema.playing == "harbour"
        assert cinema.told() == []


async def test_what_was_removed_and_can_not_be_ended_is_told() -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)
    cinema.ballots.fails |= {"end_video": LEADER_ONLY, "vote_skip": LEADER_ONLY}

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?play harbour", BOB)
        await cinema.talk("?remove 1", BOB)
        assert await cinema.end() == [
            "Playing: The harbour film. It was removed from the queue, but Rave had my vote for it, and I can't end "
            "it: only the leader may"
        ]


async def test_what_was_removed_while_its_vote_was_on_the_way_is_skipped_too() -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)
    asked, answer, vote = asyncio.Event(), asyncio.Event(), cinema.ballots.vote

    async def vote_slowly(url: str) -> None:
        asked.set()
        await answer.wait()
        await vote(url)

    async with cinema.holding():
        await cinema.begin()
        cinema.ballots.vote = vote_slowly  # type: ignore[method-assign]
        cinema.say("?play harbour", BOB)
        await asked.wait()
        cinema.say("?remove 1", BOB)
        await cinema.bot.settle()
        answer.set()
        await cinema.player.settle()
        assert await cinema.says("?queue") == "The queue is empty"
        await cinema.end()
        assert cinema.playing == "own-choice"


async def test_the_vote_for_a_user_s_video_is_no_longer_theirs_when_they_are_forgotten() -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?play harbour", BOB)
        cinema.player.forget_user(BOB)
        await cinema.player.settle()
        assert f'"user":{BOB}' not in cinema.service.documents["queue"]
        await cinema.end()
        assert cinema.playing == "own-choice"


def test_a_restart_does_not_forget_what_was_removed() -> None:
    before, after = Cinema(PlayMode.AUTOPLAY), Cinema(PlayMode.AUTOPLAY)
    after.service, after._instances = before.service, before._instances

    async def remove() -> None:
        await before.begin()
        await before.talk("?play harbour", BOB)
        await before.talk("?remove 1", BOB)

    async def start() -> None:
        await after.player.scheduler()
        after.ballots.votes = {BOT: "harbour"}
        await after.end()
        assert after.playing == "own-choice"

    before.hold(remove)
    after.party.state = before.party.state
    after.hold(start)


async def test_what_was_removed_and_users_vote_for_is_theirs() -> None:
    cinema = Cinema(PlayMode.AUTOPLAY)

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?play harbour", BOB)
        await cinema.talk("?remove 1", BOB)
        cinema.ballots.cast(ANN, "harbour")
        await cinema.player.settle()
        assert await cinema.end() == []
        assert cinema.playing == "harbour"


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.NOT_FOUND, Code.RATE_LIMITED])
async def test_a_choice_that_is_refused_gives_its_user_nothing(code: Code) -> None:
    cinema = Cinema(PlayMode.VOTE)
    cinema.ballots.fails["vote"] = RaveError(code, "no")

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?search meadow", CEM)
        assert (await cinema.says("?set 1", CEM)).startswith("No (error ")
        for user in (ANN, BOB, DAN, EVA):
            cinema.ballots.cast(user, "meadow")
        await cinema.player.settle()
        assert cinema.playing == "meadow"
        assert "Asked for by" not in await cinema.says("?nowplaying")
        assert await cinema.says("?skip", CEM) == "1 of 3 votes to skip"


def test_a_choice_of_which_one_can_not_tell_is_its_user_s_until_the_room_shows_no_vote_for_a_while() -> None:
    for seconds, asked in ((1, True), (25, False)):
        cinema = Cinema(PlayMode.VOTE)
        cinema.ballots.fails["vote"] = RaveError(Code.TIMEOUT, "Rave does not answer")

        async def body(cinema: Cinema = cinema, seconds: int = seconds, asked: bool = asked) -> None:
            await cinema.begin()
            await cinema.talk("?search meadow", CEM)
            await cinema.talk("?set 1", CEM)
            await cinema.wait(seconds)
            cinema.show(url("meadow"))
            await cinema.player.settle()
            assert ("Asked for by Cem" in await cinema.says("?nowplaying")) == asked

        cinema.hold(body)


async def test_a_choice_whose_vote_stands_is_its_user_s_however_late_it_is_elected() -> None:
    cinema = Cinema(PlayMode.VOTE)

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?search meadow", CEM)
        await cinema.talk("?set 1", CEM)
        cinema.now += 1000
        await cinema.end()
        assert (await cinema.says("?nowplaying")).endswith("Asked for by Cem")


async def test_a_choice_that_takes_the_vote_of_another_one_says_so() -> None:
    cinema = Cinema(PlayMode.VOTE)

    async with cinema.holding():
        await cinema.begin()
        await cinema.talk("?search film", CEM)
        assert await cinema.says("?set 1", CEM) == "Voted for: The harbour film"
        assert await cinema.says("?set 1", DAN) == "Voted for: The harbour film"
        lost = "I have one vote, so I no longer vote for: The harbour film"
        assert await cinema.says("?set 2", BOB) == f"Voted for: The meadow film\n{lost}"
        assert cinema.ballots.votes == {BOT: "meadow"}
        for user in (ANN, BOB, DAN, EVA):
            cinema.ballots.cast(user, "harbour")
        await cinema.player.settle()
        assert "Asked for by" not in await cinema.says("?nowplaying")


USERS = st.sampled_from([ANN, BOB, CEM])
FILMS = st.sampled_from(["harbour", "meadow", "glacier"])
STEPS = st.one_of(
    st.tuples(st.just("play"), USERS, FILMS),
    st.tuples(st.just("play"), USERS, FILMS),
    st.tuples(st.just("choose"), USERS, FILMS),
    st.tuples(st.just("refused"), st.just(DAN), FILMS),
    st.tuples(st.just("remove"), st.just(BOB), FILMS),
    st.tuples(st.just("remove the first"), st.just(BOB), FILMS),
    st.tuples(st.just("clear"), st.just(ADMIN), FILMS),
    st.tuples(st.just("forget"), USERS, FILMS),
    st.tuples(st.just("by hand"), st.sampled_from([ANN, BOB, CEM, EVA]), FILMS),
    st.tuples(st.just("all by hand"), st.just(EVA), FILMS),
    st.tuples(st.just("end"), st.just(EVA), FILMS),
    st.tuples(st.just("wait"), st.sampled_from([1, 15, 40]), FILMS),
)
MODES = st.sampled_from([PlayMode.VOTE, PlayMode.AUTOPLAY, PlayMode.AUTOPLAY, PlayMode.QUICKPLAY, PlayMode.LEADER])


class Wishes:
    """What users of a room want of its bot, beside what the bot knows of that."""

    def __init__(self, cinema: Cinema) -> None:
        self.cinema = cinema
        self.player: Player = cinema.player
        self.waiting: dict[str, int] = {}
        self.choice = ""
        self.seen = 0
        self._times = itertools.count()

    async def do(self, step: str, user: int, name: str) -> None:
        before = dict(self.waiting), self.choice
        self.cinema.told()
        await self._do(step, user, name)
        await self.player.settle()
        self._check(*before)

    async def _do(self, step: str, user: int, name: str) -> None:
        ballots = self.cinema.ballots
        entry = QueueEntry(video=video(name, None), user=user, asked_at=next(self._times))
        match step:
            case "play":
                try:
                    await self.player.add(entry)
                except RaveError:
                    return
                self.waiting[name] = user
            case "choose":
                try:
                    await self.player.choose(entry)
                except RaveError:
                    return
                self.choice = name
            case "refused":
                ballots.fails["vote"] = LEADER_ONLY
                with pytest.raises(RaveError):
                    await self.player.choose(entry)
                ballots.fails.clear()
                self.player.schedule_step()
            case "remove":
                await self.player.remove(video(name))
                self.waiting.pop(name, None)
            case "remove the first":
                for first in (await self.player.scheduler()).queue.waiting[:1]:
                    await self.player.remove(first.video)
                    self.waiting.pop(first.video.id, None)
            case "clear":
                await self.player.clear()
                self.waiting.clear()
            case "forget":
                self.player.forget_user(user)
                self.waiting = {name: other for name, other in self.waiting.items() if other != user}
            case "by hand":
                ballots.cast(user, name)
            case "all by hand":
                for voter in (ANN, BOB, CEM, EVA):
                    ballots.cast(voter, name)
            case "end":
                ballots.end()
            case "wait":
                await self.cinema.wait(user)

    def _check(self, waiting: dict[str, int], choice: str) -> None:
        """What has started by the bot's vote alone was wanted, or is over, or the room knows that it can't be."""
        started = self.cinema.ballots.started[self.seen :]
        self.seen += len(started)
        wanted = {*waiting, *self.waiting, choice, self.choice}
        told = " ".join(self.cinema.told())
        for at, (name, voters) in enumerate(started):
            is_last = at == len(started) - 1 and self.cinema.playing == name
            if voters == {BOT} and name not in wanted and is_last:
                assert f"Playing: The {name} film. It was removed" in told
            self.waiting.pop(name, None)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(mode=MODES, later=MODES, at=st.integers(0, 20), steps=st.lists(STEPS, min_size=20, max_size=40))
def test_nothing_plays_as_the_bot_s_doing_that_nobody_asked_for(
    mode: PlayMode, later: PlayMode, at: int, steps: list[tuple[str, int, str]]
) -> None:
    cinema = Cinema(mode)

    async def body() -> None:
        await cinema.begin()
        wishes = Wishes(cinema)
        for number, step in enumerate(steps):
            if number == at:
                cinema.change(play_mode=later)
                await cinema.player.settle()
            await wishes.do(*step)
            own = (await cinema.player.scheduler()).own_playing()
            # All that Dan has asked for was refused.
            assert own is None or own.user != DAN

    cinema.hold(body)
