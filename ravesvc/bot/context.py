"""What a command handler is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ravesvc.bot.command import Command, Registry
from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.facts import BotInfo
from ravesvc.bot.outbox import Outbox
from ravesvc.bot.permissions import Permissions
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.common.picture import Media
from ravesvc.common.translation import translate
from ravesvc.room.changes import RoomState
from ravesvc.room.chat import ChatMessage, Mention

if TYPE_CHECKING:
    # A protocol: no process needs it to run, and each would be 16 kB heavier.
    from ravesvc.bot.room_api import RoomApi


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One invocation of a command.

    Attributes:
        command: the command, and `args`: the words after it, as written.
        message: the chat message; its `mentions` tell the user ids behind words like @name.
        mesh_id: where; `own_user_id`: the user that the bot is; `users`: who was there at that moment.
        room: what else was known of the room at that moment, and `server_now`: the moment by its server's clock, for
            `Playback.position_at`.
        prefixes: what a command may start with; hints use the first.
        facts: about bot and mesh.
        now: the time on the clock of `facts`.
        settings: those of the room.
        rave: what can be asked of Rave for this room.
    """

    command: Command
    args: tuple[str, ...]
    message: ChatMessage
    mesh_id: str
    own_user_id: int
    users: frozenset[int]
    room: RoomState
    server_now: float
    prefixes: tuple[str, ...]
    facts: BotInfo
    now: float
    settings: RoomSettings
    registry: Registry = field(repr=False)
    permissions: Permissions = field(repr=False)
    outbox: Outbox = field(repr=False)
    people: DisplayNames = field(repr=False)
    rave: RoomApi = field(repr=False)

    @property
    def user_id(self) -> int | None:
        """Who asks, if known."""
        return self.message.sender

    async def display_name(self) -> str:
        """The asker's display name, fit for a chat text."""
        return await self.people.name(self.user_id)

    def allowed_commands(self) -> list[Command]:
        """The commands that the asker may run here, by name."""
        commands = [c for c in self.registry.commands() if not self.settings.is_off(c.group)]
        return [c for c in commands if self.permissions.allows(c, self.user_id)]

    def translate(self, text: str) -> str:
        """A text in the language of the room; `reply` and `send` do that by themselves."""
        return translate(text, self.outbox.catalogue)

    async def reply(self, text: str, *, mentions: Sequence[Mention] = (), media: Sequence[Media] = ()) -> str:
        """Answer the command's message; returns and raises what `Outbox.send` does."""
        return await self.outbox.send(text, reply_to=self.message.id or None, mentions=mentions, media=media)

    async def send(self, text: str, *, mentions: Sequence[Mention] = (), media: Sequence[Media] = ()) -> str:
        """Say something in the mesh that is no answer; returns and raises what `Outbox.send` does."""
        return await self.outbox.send(text, mentions=mentions, media=media)
