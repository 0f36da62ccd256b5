"""A bot in a room of the tests' own, and words to and from it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ravesvc.bot import builtin
from ravesvc.bot.bot import Bot
from ravesvc.bot.command import BotInfo, Registry
from ravesvc.bot.limits import CommandLimits
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.picture import Media
from ravesvc.common.token_bucket import Rate
from ravesvc.room.changes import RoomState
from ravesvc.room.chat import ChatMessage, Mention, Reaction
from ravesvc.room.server_clock import ServerClock
from ravesvc.testing import FakeHttp, FakeRave, FakeService

BOT, ANN, BOB, OTHER_BOT = 1, 2, 3, 4
DEVICE = "0123456789abcdef0123456789abcdef"
MANY = CommandLimits(user_rate=Rate(1000, 1.0), room_rate=Rate(1000, 1.0), outgoing_rate=Rate(1000, 1.0))


class Room:
    """A room in which a test listens: `heard()` is the next thing that the bot said and what it replied to."""

    mesh_id = "11111111-2222-4333-8444-555555555555"
    own_user_id = BOT
    users = frozenset({BOT, ANN, BOB})

    def __init__(self) -> None:
        self.state = RoomState(users=self.users)
        self.server_clock = ServerClock()
        self._said: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
        self._ids = itertools.count()

    async def chat(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mention] = (),
        media: Sequence[Media] = (),
    ) -> str:
        self._said.put_nowait((text, reply_to))
        return f"own{next(self._ids)}"

    async def send_reaction(self, reaction: Reaction) -> None:
        self._said.put_nowait((reaction.emoji, reaction.to))

    async def typing(self) -> None: ...

    async def typing_stop(self) -> None: ...

    def is_own(self, message_id: str) -> bool:
        return message_id.startswith("own")

    def ids_of(self, message_id: str) -> frozenset[str]:
        return frozenset({message_id})

    async def heard(self) -> tuple[str, str | None]:
        async with asyncio.timeout(5):
            return await self._said.get()

    @property
    def silent(self) -> bool:
        return self._said.empty()


@dataclass
class Scene:
    """A bot in a room, with all that a test may turn."""

    registry: Registry = field(default_factory=Registry)
    permissions: StaticPermissions | None = field(default_factory=StaticPermissions)
    limits: CommandLimits = MANY
    ignored: frozenset[int] = frozenset({OTHER_BOT})
    prefixes: tuple[str, ...] = ("?", "!")
    lang: str = "en"
    names: dict[int, str] = field(default_factory=lambda: {ANN: "Ann", BOB: "Bob"})
    facts: BotInfo = field(
        default_factory=lambda: BotInfo(version="1.2", title="Films", server="ws.example", connected_since=100.0)
    )
    now: float = 1000.0
    looked_up: list[list[int]] = field(default_factory=list)
    troubles: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        builtin.register(self.registry)
        self._ids = itertools.count(1)
        self.rave = FakeRave()
        self.http = FakeHttp()
        self.service = FakeService()

    async def lookup(self, ids: Sequence[int]) -> Mapping[int, str]:
        self.looked_up.append(list(ids))
        return {i: self.names[i] for i in ids if i in self.names}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The bot is in the room meanwhile, and leaves nothing behind."""
        self.room = Room()
        self.bot = Bot(
            facts=self.facts,
            registry=self.registry,
            permissions=self.permissions,
            prefixes=self.prefixes,
            lang=self.lang,
            typing_delay=0,
            lookup=self.lookup,
            rave=self.rave,
            http=self.http,
            documents=self.service,
            videos=VideoFinder(self.service),
            secrets={},
            ignored_users=self.ignored,
            limits=self.limits,
            clock=lambda: self.now,
            on_plugin_failure=lambda *trouble: self.troubles.append(trouble),
        )
        self.bot.attach(self.room)
        yield
        await self.bot.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def play(self, body: Callable[[], Awaitable[None]]) -> None:
        """The same in an event loop of its own."""

        async def main() -> None:
            async with self.running():
                await body()

        asyncio.run(main())

    def say(self, text: str, sender: int | None = ANN, **more: Any) -> str:
        message_id = f"m{next(self._ids)}"
        self.bot.on_chat(
            ChatMessage(
                id=message_id,
                sender_peer=f"{sender}_{DEVICE}",
                sender=sender,
                text=text,
                **{"reply_to": None, "mentions": (), **more},
            )
        )
        return message_id

    async def answer(self, text: str, sender: int | None = ANN, **more: Any) -> str:
        """Say it, and return the bot's answer, which must refer to it."""
        message_id = self.say(text, sender, **more)
        answer, reply_to = await self.room.heard()
        assert reply_to == message_id
        return answer


def incident(text: str) -> str:
    match = re.search(r"\(error ([0-9a-f]{8})\)$", text)
    assert match, text
    return match[1]
