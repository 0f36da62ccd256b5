"""What happens in a mesh, as event handlers see it: one shape for every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ravesvc.bot.dialogue import Answer, Dialogue
from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.mentions import Member, Mentioned
from ravesvc.bot.outbox import Outbox
from ravesvc.bot.parsing import without_prefix
from ravesvc.bot.plugin_store import PluginStore
from ravesvc.bot.secrets import handed_over
from ravesvc.common.picture import Media
from ravesvc.room.chat import ChatMessage, same_emoji

if TYPE_CHECKING:
    from ravesvc.bot.http import Http
    from ravesvc.bot.room_api import RoomApi
    from ravesvc.bot.room_settings import RoomSettings
    from ravesvc.room.changes import RoomState


class EventKind(StrEnum):
    """The names that event handlers are registered under."""

    CONNECTED = "on_connected"
    USER_JOIN = "on_user_join"
    USER_LEFT = "on_user_left"
    MESSAGE = "on_message"
    REACTION = "on_reaction"
    VIDEO = "on_video"
    KICKED = "on_kicked"
    LOAD = "on_load"
    UNLOAD = "on_unload"
    TIMER = "every"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: what.
        mesh_id: where.
        user_id: who joined, left or wrote, if known; None for what happened to the bot itself.
        is_admin: whether that user is an admin; False until the service has told who is.
        message: what was written (MESSAGE): any message but a command, the bot's own and those of ignored users.
        mentions_bot: whether that message mentions the bot's user.
        replies_to_bot: whether it answers, or is a reaction to, a message that the bot is known to have sent.
        emoji: with what the user has reacted (REACTION), and `reacted_to`: the id of the message; see
            `reacts_with` and `is_reaction_to`.
        unknown_command: the first word of a message that begins with a prefix and names no command, as
            `spelling.fold` writes it; empty for any other.
        is_answer: whether that message answers a question that a plugin has asked its user.
        others: the users who were in the room at that moment, without the bot.
        room: what else was known of the room at that moment, and `server_now`: the moment by its server's clock, for
            `Playback.position_at`.
        prefixes: what a command may start with in this room, the usual one first.
        settings_now: returns the settings of the room.
        rave: what can be asked of Rave for this room, and `http`: of other servers.
        store: what the file or package of the handler keeps of the room, and `shared`: for all rooms.
        dialogue: what the handlers of this event ask; see `ask` and `answers`.
        secrets: what the operator hands over to plugins, by name; see `secret`.
    """

    kind: EventKind
    mesh_id: str
    user_id: int | None = None
    is_admin: bool = False
    message: ChatMessage | None = None
    mentions_bot: bool = False
    replies_to_bot: bool = False
    unknown_command: str = ""
    is_answer: bool = False
    emoji: str = ""
    reacted_to: str = ""
    others: frozenset[int] = frozenset()
    room: RoomState = field(repr=False)
    server_now: float
    prefixes: tuple[str, ...]
    settings_now: Callable[[], RoomSettings] = field(repr=False)
    outbox: Outbox = field(repr=False)
    people: DisplayNames = field(repr=False)
    rave: RoomApi = field(repr=False)
    http: Http = field(repr=False)
    store: PluginStore = field(repr=False)
    shared: PluginStore = field(repr=False)
    dialogue: Dialogue = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)

    def is_command(self, text: str) -> bool:
        """Whether a text begins as a command does in this room: another bot in it might obey that."""
        return any(without_prefix(text, prefix) is not None for prefix in self.prefixes)

    async def display_name(self) -> str:
        """The user's display name, fit for a chat text."""
        return await self.people.name(self.user_id)

    async def member(self) -> Member:
        """The user, to be mentioned: `await event.reply(member.mention, mentions=[member])`.

        Raises `RaveError` (InvalidArgument) if Rave does not say who it is.
        """
        return await self.people.member(self.user_id)

    async def reply(self, text: str, *, mentions: Sequence[Mentioned] = (), media: Sequence[Media] = ()) -> str:
        """Answer the message, or that to which the user has reacted (without one: `send`).

        Returns and raises what `Outbox.send` does.
        """
        return await self.outbox.send(text, reply_to=self._answered, mentions=mentions, media=media)

    async def send(self, text: str, *, mentions: Sequence[Mentioned] = (), media: Sequence[Media] = ()) -> str:
        """Say something in the mesh; returns and raises what `Outbox.send` does."""
        return await self.outbox.send(text, mentions=mentions, media=media)

    async def react(self, emoji: str, *, to: str = "") -> None:
        """React to the message, or to that to which the user has reacted. See `Context.react`."""
        await self.outbox.react(to or self._answered, emoji)

    def reacts_with(self, emoji: str) -> bool:
        """Whether the user has reacted with this emoji, in any style and colour of skin that keyboards write."""
        return bool(self.emoji) and same_emoji(self.emoji, emoji)

    def is_reaction_to(self, message_id: str) -> bool:
        """Whether the user has reacted to a message of the bot, by the id that `send` or `reply` has returned."""
        return self.reacted_to in self.outbox.ids_of(message_id)

    @property
    def _answered(self) -> str | None:
        """The id of the message that an answer refers to."""
        return (self.message.id if self.message else self.reacted_to) or None

    async def ask(self, question: str, kind: Any = str, *, timeout: float = 60.0) -> Any:  # noqa: ASYNC109
        """Ask the user of the event, and return the answer. See `Context.ask`."""
        return await self.dialogue.ask(self.user_id, question, kind, timeout, self._answered)

    def answers(self, question: str, kind: Any = str, *, timeout: float = 60.0) -> AsyncIterator[Answer]:
        """Ask all users, and yield one answer after another. See `Context.answers`."""
        return self.dialogue.answers(question, kind, timeout)

    def secret(self, name: str) -> str:
        """What the operator hands over under this name. See `Context.secret`."""
        return handed_over(self.secrets, name)
