"""A bot with a queue in a room with five users, the service it asks for videos, and Rave."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from ravesvc.bot import video_commands
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.player import Player
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.picture import Media, Picture
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import RoomKnown, RoomState
from ravesvc.room.playback import Playback, PlayMode
from ravesvc.room.server_clock import ServerClock
from ravesvc.testing import FakeRave
from tests.unit.bot_scene import ANN, BOB, BOT, Room, Scene
from tests.unit.common.test_picture import png

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
    """Rave: a vote starts its video if nothing plays, or, with `obeys`, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.obeys = True
        self.show: Callable[[str | None], None] = lambda url: None
        self.plays: Callable[[], bool] = lambda: False

    async def vote(self, url: str) -> None:
        await super().vote(url)
        if self.obeys and not self.plays():
            self.show(url)

    async def end_video(self) -> None:
        await super().end_video()
        self.show(None)

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

    @contextlib.asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """The party goes on meanwhile."""
        async with self.running():
            self.player = Player(self.bot, self.theatre, self.service, clock=lambda: self.now)
            finder = VideoFinder(self.service)
            video_commands.register(self.registry, self.player, self.service, finder, wall=lambda: 1_800_000_000)
            self.bot.watch(self.player.on_change)
            self.theatre.show = self.show
            self.theatre.plays = lambda: self.party.state.playback is not None
            self.room = self.party
            self.bot.attach(self.party)
            await self.player.settle()
            await self.wait(10)
            try:
                yield
            finally:
                await self.player.close()

    def hold(self, body: Callable[[], Awaitable[None]]) -> None:
        """The same in an event loop of its own."""

        async def main() -> None:
            async with self.holding():
                await body()

        asyncio.run(main())

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
