"""What a bot asks of Rave, and what its room makes of it: a real worker in a mesh of the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import urllib3

from ravesvc.api.models import Opinion, Privacy
from ravesvc.bot.room_api import RoomApi
from ravesvc.common.picture import Media, Picture
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.mesh import parent_sync
from ravesvc.room.changes import RoomState
from ravesvc.room.playback import Playback
from tests.unit.bot_under_test import BotUnderTest, bot_of
from tests.unit.common.test_picture import PNG
from tests.unit.conftest import until
from tests.unit.simulator_server import Served, in_thread

pytestmark = pytest.mark.slow

Run = Callable[[Any], Any]

VIDEO = Video(
    provider="youtube",
    id="sim-lantern",
    url="https://www.youtube.com/watch?v=sim-lantern",
    title="The Lantern Song",
    seconds=212,
)


class Bot:
    """A bot that is in its mesh with Ann and Ben: what it can ask, and what it sees of the room."""

    def __init__(self, under_test: BotUnderTest) -> None:
        self._bot = under_test
        self.mesh = under_test.mesh
        self.control = under_test.control
        self.rave: RoomApi = under_test.worker._bot._rave

    @property
    def state(self) -> RoomState:
        assert self._bot.worker._room
        return self._bot.worker._room.state

    @property
    def playback(self) -> Playback:
        assert self.state.playback
        return self.state.playback

    async def user(self, name: str) -> int:
        users, _ = await self._bot.worker.users()
        return next(user for user, known_as in users if known_as == name)

    async def say(self, text: str, *media: Media) -> None:
        await self._bot.worker._bot.outbox.send(text, media=media)

    async def lead(self, handle: str) -> None:
        await in_thread(self.control.leader, self.mesh, handle)

    async def play(self) -> str:
        """Have the video on."""
        url = await self.rave.register(VIDEO)
        await self.rave.vote(url)
        await until(lambda: self.state.playback and self.state.playback.url == url)
        return url


@asynccontextmanager
async def bot_in(served: Served) -> AsyncIterator[Bot]:
    (mesh,) = await in_thread(served.control.create)
    await in_thread(served.control.invite, mesh)
    await in_thread(served.control.join, mesh, "ann", "ben")
    await in_thread(served.control.video, mesh, None)
    async with bot_of(served, mesh) as (under_test, _bus):
        await under_test.connects()
        await until(lambda: under_test.worker._room and under_test.worker._room.state.known)
        yield Bot(under_test)
    assert await in_thread(served.control.violations) == []


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, bus_address: str) -> None:
    monkeypatch.setattr(parent_sync, "_SPREAD_S", 0.02)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)


@pytest.fixture
def play(run: Run, served: Served) -> Callable[..., None]:
    """`play(body)`: what a test does with a bot."""

    def playing(body: Callable[[Bot], Any]) -> None:
        async def main() -> None:
            async with bot_in(served) as bot:
                await body(bot)

        run(main())

    return playing


def test_a_video_is_registered_voted_for_and_played(play: Callable[..., None]) -> None:
    async def body(bot: Bot) -> None:
        await bot.play()
        await bot.rave.set_playback(100.0, playing=False)
        await until(lambda: bot.playback.status != "PLAY" and bot.playback.position == 100.0)
        await bot.rave.end_video()
        await until(lambda: bot.state.playback is None)

    play(body)


@pytest.mark.slow
def test_votes_are_seen_and_cleared(play: Callable[..., None]) -> None:
    async def body(bot: Bot) -> None:
        await bot.play()
        await in_thread(bot.control.vote, bot.mesh, "sim-harbour", user="ann")
        await until(lambda: bot.state.votes)
        await bot.rave.clear_votes()
        await until(lambda: not bot.state.votes)

    play(body)


def test_opinions_are_given_and_withdrawn(play: Callable[..., None], served: Served) -> None:
    async def body(bot: Bot) -> None:
        url, me = await bot.play(), served.session.user_id
        instance = bot.playback.instance_id
        assert instance
        await bot.rave.like(url, instance)
        await until(lambda: bot.state.likes == {me})
        await bot.rave.withdraw(Opinion.LIKE, url, instance)
        await until(lambda: not bot.state.likes)
        await bot.rave.vote_skip(url, instance)
        await until(lambda: bot.state.skips == {me})

    play(body)


def test_only_a_leader_moderates(play: Callable[..., None]) -> None:
    async def body(bot: Bot) -> None:
        ann, ben = await bot.user("Ann"), await bot.user("Ben")
        await bot.lead("ann")
        await until(lambda: bot.state.leader == ann)
        for refused in (bot.rave.kick(ben), bot.rave.mute(ben), bot.rave.transfer_leadership(ben)):
            with pytest.raises(RaveError, match="only the leader can do that") as caught:
                await refused
            assert caught.value.code is Code.FORBIDDEN
        await bot.lead("botty")
        await bot.rave.mute(ben)
        await bot.rave.unmute(ben)
        await bot.rave.kick(ben)
        await until(lambda: ben not in bot.state.users)
        await bot.rave.transfer_leadership(ann)
        await until(lambda: bot.state.leader == ann)

    play(body)


def test_only_a_leader_changes_who_finds_the_room(play: Callable[..., None]) -> None:
    async def body(bot: Bot) -> None:
        await bot.user("Ann")
        await bot.lead("ann")
        before, closed = await bot.rave.privacy(), Privacy(public=False, friends=False, local=False)
        with pytest.raises(RaveError, match="only the leader can do that"):
            await bot.rave.set_privacy(closed)
        assert await bot.rave.privacy() == before
        await bot.lead("botty")
        await bot.rave.set_privacy(before._replace(friends=True))
        assert await bot.rave.privacy() == before._replace(friends=True)
        await bot.rave.set_privacy(closed)
        assert await bot.rave.privacy() == closed
        assert await in_thread(bot.control.violations) == []

    play(body)


def test_what_there_is_not_is_told(play: Callable[..., None]) -> None:
    async def body(bot: Bot) -> None:
        with pytest.raises(RaveError, match="this video is unknown to Rave"):
            await bot.rave.vote("https://api.red.wemesh.ca/videos/youtube/99999999-2222-4333-8444-555555555555")
        with pytest.raises(RaveError, match="nothing that plays in this room"):
            await bot.rave.set_playback(1.0, playing=True)
        with pytest.raises(RaveError, match="Rave knows no such user"):
            await bot.rave.profile(1)
        assert (await bot.rave.profile(await bot.user("Ann"))).name == "Ann"

    play(body)


def test_a_picture_is_stored_where_rave_says_and_shown_in_chat(play: Callable[..., None], served: Served) -> None:
    async def body(bot: Bot) -> None:
        with Picture(PNG) as picture:
            media = await bot.rave.upload(picture)
        assert media.aspect_ratio == "0.56"
        with urllib3.PoolManager(ssl_context=served.tls) as pool:
            seen = await asyncio.to_thread(pool.request, "GET", media.url)
        assert (seen.status, seen.headers["Content-Type"], seen.data) == (200, "image/png", PNG)
        await bot.say("", media)
        said = [event for event in await in_thread(bot.control.events) if event["type"] == "chat"]
        assert [(event["text"], event["media"]) for event in said] == [("", [media.url])]

    play(body)


@pytest.mark.parametrize(("mode", "code"), [("403", Code.FORBIDDEN), ("500", Code.SERVER_ERROR)])
def test_a_store_that_takes_no_picture(play: Callable[..., None], mode: str, code: Code) -> None:
    async def body(bot: Bot) -> None:
        await in_thread(bot.control.fail, "upload", mode)
        with Picture(PNG) as picture, pytest.raises(RaveError, match="sending a picture failed: localhost") as caught:
            await bot.rave.upload(picture)
        assert caught.value.code is code

    play(body)
