"""Sends the bot's messages: one after another, as if a user typed them, at a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ravesvc.bot.limits import Bucket, CommandLimits
from ravesvc.bot.mentions import Mentioned, is_in, mentions_in, written
from ravesvc.bot.text import split
from ravesvc.common.picture import Media
from ravesvc.common.translation import Catalogue, translate
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import RoomState
from ravesvc.room.chat import Mention, Reaction, is_emoji
from ravesvc.room.server_clock import ServerClock

if TYPE_CHECKING:

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

        async def send_reaction(self, reaction: Reaction) -> None:
            """React to a message."""

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
    """Each of the parts sends something to a room, and returns its id."""

    parts: Sequence[Callable[[RoomLike], Awaitable[str]]]
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
        return await self._send(
            [
                functools.partial(
                    self._send_part,
                    part,
                    reply_to=None if at else reply_to,
                    mentions=[mention for mention in found if is_in(mention, part)],
                    media=() if at else media,
                )
                for at, part in enumerate(parts)
            ]
        )

    async def react(self, message_id: str | None, emoji: str) -> None:
        """React to a message with one emoji when its turn comes, without typing.

        Raises:
            RaveError: Closed, RateLimited, as `send`; InvalidArgument (no id, or no emoji), or what the room says.
        """
        if not message_id:
            raise RaveError(Code.INVALID_ARGUMENT, _("there is no message to react to"))
        if not isinstance(emoji, str) or not is_emoji(emoji):
            raise RaveError(Code.INVALID_ARGUMENT, _("a reaction is one emoji"))
        await self._send([functools.partial(self._react, Reaction(emoji, message_id))])

    async def _send(self, parts: Sequence[Callable[[RoomLike], Awaitable[str]]]) -> str:
        """Put parts into the queue, and return the id of the first when all are sent."""
        if self._room is None:
            raise _closed()
        if sum(len(queued.parts) for queued in self._queue) + len(parts) > self._limits.max_queued_messages:
            raise RaveError(Code.RATE_LIMITED, "too many messages are waiting to be sent", hint="try again later")
        queued = _QueuedMessage(parts, asyncio.get_running_loop().create_future())
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
        for part in queued.parts:
            # `sent` is done already when the sender was cancelled: then the rest is not sent.
            while not queued.sent.done() and (wait := self._rate.take(self._clock())) > 0:
                await self._sleep(wait)
            if queued.sent.done():
                break
            message_id = await part(room)
            first = first or message_id
        return first

    async def _react(self, reaction: Reaction, room: RoomLike) -> str:
        # Two bots that react to each other are found as those that answer each other.
        self._on_send(reaction.emoji)
        await room.send_reaction(reaction)
        return ""

    async def _send_part(self, text: str, room: RoomLike, **how: Any) -> str:
        """`how` is what `RoomLike.chat` takes beside the text."""
        if self._typing_delay <= 0:
            self._on_send(text)
            return await room.chat(text, **how)
        await room.typing()
        try:
            await self._sleep(self._typing_delay)
            self._on_send(text)
            return await room.chat(text, **how)
        finally:
            # The message was sent or has failed by now. An error here must not replace that outcome.
            with contextlib.suppress(RaveError):
                await room.typing_stop()


def _closed() -> RaveError:
    return RaveError(Code.CLOSED, "the mesh is not connected")
