"""Sends the bot's messages: one after another, as if a user typed them, at a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ravesvc.bot.limits import Bucket, CommandLimits
from ravesvc.bot.mentions import Mentioned, is_in, mentions_in, written
from ravesvc.bot.text import split
from ravesvc.common.picture import Media
from ravesvc.common.translation import Catalogue, translate
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import RoomState
from ravesvc.room.chat import Mention
from ravesvc.room.server_clock import ServerClock


class RoomLike(Protocol):
    """What the bot needs of a room. All methods raise `RaveError`: Closed when the connection is gone."""

    @property
    def mesh_id(self) -> str:
        """The mesh's id."""

    @property
    def own_user_id(self) -> int:
        """The user that the bot is."""

    @property
    def users(self) -> frozenset[int]:
        """Who is in the mesh."""

    @property
    def state(self) -> RoomState:
        """What is known of the mesh."""

    @property
    def server_clock(self) -> ServerClock:
        """The clock that times of its state count by."""

    async def chat(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mention] = (),
        media: Sequence[Media] = (),
    ) -> str:
        """Send a message, which needs a text or media; returns its id."""

    async def typing(self) -> None:
        """Say that a message is being typed."""

    async def typing_stop(self) -> None:
        """Say that it no longer is."""

    def is_own(self, message_id: str) -> bool:
        """Whether the bot is known to have sent that message."""

    def ids_of(self, message_id: str) -> frozenset[str]:
        """All ids that this message of the bot's is known by; the one that is asked about is among them."""


@dataclass(slots=True, eq=False)
class _QueuedMessage:
    parts: list[str]
    reply_to: str | None
    mentions: Sequence[Mention]
    media: Sequence[Media]
    sent: asyncio.Future[str]

    def fail(self, error: Exception) -> None:
        if not self.sent.done():
            self.sent.set_exception(error)


class Outbox:
    """The queue of outgoing messages of one mesh. It outlives a `Room`, which is one connection.

    When the room is detached, all waiting messages fail at once, and so does a `send` without a room: after a
    reconnection the users have forgotten what they asked. There is a task only while messages wait.

    Attributes:
        catalogue: of the language of the room; None for English.
    """

    def __init__(
        self,
        *,
        typing_delay: float,
        limits: CommandLimits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_send: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Prepare it.

        Args:
            typing_delay: seconds, for each message; 0 sends without on_send that the bot types.
            limits: see there.
            clock: monotonic seconds.
            sleep: waits for that many seconds.
            on_send: called with each text just before it is sent.
        """
        self.catalogue: Catalogue | None = None
        self._typing_delay = typing_delay
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._on_send = on_send
        self._rate = Bucket(limits.outgoing_rate, clock())
        self._room: RoomLike | None = None
        self._queue: deque[_QueuedMessage] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._cancelled_workers: set[asyncio.Task[None]] = set()

    def attach(self, room: RoomLike) -> None:
        """Send to this room from now on."""
        self.detach()
        self._room = room

    def detach(self) -> None:
        """The room is gone: fail what is waiting."""
        self._room = None
        if self._worker is not None:
            self._worker.cancel()
            self._cancelled_workers.add(self._worker)
            self._worker.add_done_callback(self._cancelled_workers.discard)
            self._worker = None
        while self._queue:
            self._queue.popleft().fail(_closed())

    async def send(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mentioned] = (),
        media: Sequence[Media] = (),
    ) -> str:
        """Send a message when its turn comes, and return its id.

        A long text becomes several messages: the first one carries the reply and the media and its id is returned,
        and each carries those mentions whose @handle it contains. With media the text may be blank. Users of one
        name are all mentioned where it stands.

        Raises:
            RaveError: Closed (no connection, or lost meanwhile), RateLimited (too much is waiting), InvalidArgument
                (the text is blank, or does not name who is mentioned, or those are too many), or what the room says,
                such as Refused.
        """
        whole = translate(text, self.catalogue)
        found = mentions_in(whole, mentions)
        parts = split(whole, self._limits.max_message_chars, [*map(written, found)]) or [""] * bool(media)
        if not parts:
            raise RaveError(Code.INVALID_ARGUMENT, "a chat message needs a text")
        if self._room is None:
            raise _closed()
        if sum(len(queued.parts) for queued in self._queue) + len(parts) > self._limits.max_queued_messages:
            raise RaveError(Code.RATE_LIMITED, "too many messages are waiting to be sent", hint="try again later")
        queued = _QueuedMessage(parts, reply_to, found, media, asyncio.get_running_loop().create_future())
        self._queue.append(queued)
        if self._worker is None:
            self._worker = asyncio.create_task(self._send_queued(self._room), name="outbox")
        return await queued.sent

    def ids_of(self, message_id: str) -> frozenset[str]:
        """All ids that a message of the bot's is known by, this one among them."""
        return self._room.ids_of(message_id) if self._room else frozenset({message_id})

    async def close(self) -> None:
        """Fail what is waiting and return when the task has ended."""
        self.detach()
        await asyncio.gather(*self._cancelled_workers, return_exceptions=True)

    async def _send_queued(self, room: RoomLike) -> None:
        while self._queue:
            queued = self._queue.popleft()
            try:
                message_id = await self._deliver(room, queued)
            except asyncio.CancelledError:
                queued.fail(_closed())
                raise
            except Exception as error:  # noqa: BLE001 - the caller of `send` gets every error
                queued.fail(error)
            else:
                if not queued.sent.done():
                    queued.sent.set_result(message_id)
        self._worker = None

    async def _deliver(self, room: RoomLike, queued: _QueuedMessage) -> str:
        first = ""
        reply_to, media = queued.reply_to, queued.media
        for part in queued.parts:
            # `sent` is done already when the sender was cancelled: then the rest is not sent.
            while not queued.sent.done() and (wait := self._rate.take(self._clock())) > 0:
                await self._sleep(wait)
            if queued.sent.done():
                break
            mentions = [mention for mention in queued.mentions if is_in(mention, part)]
            chat = functools.partial(room.chat, part, reply_to=reply_to, mentions=mentions, media=media)
            message_id = await self._send_part(room, part, chat)
            first = first or message_id
            reply_to, media = None, ()
        return first

    async def _send_part(self, room: RoomLike, text: str, chat: Callable[[], Awaitable[str]]) -> str:
        if self._typing_delay <= 0:
            self._on_send(text)
            return await chat()
        await room.typing()
        try:
            await self._sleep(self._typing_delay)
            self._on_send(text)
            return await chat()
        finally:
            # The message was sent or has failed by now. An error here must not replace that outcome.
            with contextlib.suppress(RaveError):
                await room.typing_stop()


def _closed() -> RaveError:
    return RaveError(Code.CLOSED, "the mesh is not connected")
