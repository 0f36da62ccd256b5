"""A command and what its handler is given, and the table where commands and event handlers are registered."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ravesvc.bot.command_names import (
    ADMIN_COMMANDS,
    CLAIM,
    FIXED_COMMANDS,
    GENERAL,
    MORE,
    SETTINGS,
    Permission,
    command_key,
)
from ravesvc.bot.dialogue import Answer, Dialogue
from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.last_step import NO_MARK, Mark
from ravesvc.bot.limits import NO_COOLDOWN, Cooldown
from ravesvc.bot.mentions import Member, Mentioned
from ravesvc.bot.outbox import Outbox
from ravesvc.bot.parameters import Parameters, Said, usage_error
from ravesvc.bot.parsing import without_prefix
from ravesvc.bot.plugin_store import PluginStore
from ravesvc.bot.plugin_tasks import PluginTasks
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.bot.secrets import handed_over
from ravesvc.bot.step_timeout import stepwise
from ravesvc.common.picture import Media
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import translate
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import RoomState
from ravesvc.room.chat import ChatMessage

if TYPE_CHECKING:
    # Protocols: no process needs them to run, and each would be 16 kB heavier.
    from ravesvc.bot.http import Http
    from ravesvc.bot.permissions import Permissions
    from ravesvc.bot.plugin_settings import Setting
    from ravesvc.bot.room_api import RoomApi

# Of a word that may be the name of a sub-command. No name is longer.
_MAX_NAME_CHARS = 64

Handler: TypeAlias = "Callable[[Context], Awaitable[None]]"
# Runs before a handler, and raises for what may not be run.
Check: TypeAlias = "Callable[[Context], Awaitable[object]]"
# What a command is made of: its parameters after the context are filled by the words that a user writes.
TypedHandler: TypeAlias = Callable[..., Awaitable[None]]
EventHandler: TypeAlias = Callable[[Event], Awaitable[None]]
ErrorHandler: TypeAlias = "Callable[[Context, Exception], Awaitable[None]]"


class PluginTimer(NamedTuple):
    """A handler that runs again and again, after so many seconds each time."""

    seconds: float
    handler: EventHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: as its author writes it; `key` is what tells commands apart. That of a sub-command has two words.
        aliases: other names of it.
        description: one sentence for `help`.
        permission: who may run it, unless an admin has changed that.
        seconds: how long its handler may take; None for what any command may.
        cooldown: how long it rests after a run; one that ends with InvalidArgument does not count.
        source: the file or package that it comes from; empty for the program's own.
        group: under which `help` lists it.
        usage: what to write after the name, such as `<command> <admin|user>`; empty if nothing. That of the handler's
            parameters, unless it is given.
        example: the same as a user would write it, such as `ping admin`; empty if there is nothing to show.
    """

    name: str
    description: str
    handler: Handler = field(repr=False)
    aliases: tuple[str, ...] = ()
    permission: Permission = Permission.USER
    seconds: float | None = None
    cooldown: Cooldown = NO_COOLDOWN
    source: str = ""
    group: str = GENERAL
    usage: str = ""
    example: str = ""

    @property
    def key(self) -> str:
        """The name as it is compared: see `spelling.fold`."""
        return fold(self.name)

    @property
    def family(self) -> str:
        """The key of the command that it is a part of; its own, unless it is a sub-command."""
        return self.key.partition(" ")[0]

    @property
    def title(self) -> str:
        """The name, and for a plugin's command where it comes from: for the log."""
        return f"{self.name} of {self.source}" if self.source else self.name

    @property
    def fixed(self) -> bool:
        """Whether its permission can't be changed."""
        return self.family in FIXED_COMMANDS


class Registry:
    """The commands and event handlers of a bot; may be shared by several bots.

    Attributes:
        source: the file or package that registers here; empty for the program itself.
        parts: this registry, and those included in it.
        timers: what runs again and again.
        settings: those that admins of a room can change, in the order in which they were declared.
        tasks: those that the file or package has started.
        checks: run before each command that is registered here, before those of its own.
        on_error: answers for a command that has raised what is no `RaveError`, in place of the bot; None if nothing
            does.
    """

    def __init__(self, source: str = "", taken: Mapping[str, str] | None = None, mark: Mark = NO_MARK) -> None:
        """`taken` has the keys that no command may have here, and whose they are; `mark` is the plugin's."""
        self.source = source
        self.parts: tuple[Registry, ...] = (self,)
        self._taken = taken or {}
        # By all of their keys.
        self._commands: dict[str, Command] = {}
        # Those that were made for sub-commands: an author may register another.
        self._families: set[str] = set()
        self._handlers: dict[EventKind, tuple[EventHandler, ...]] = {}
        self.timers: list[PluginTimer] = []
        self.settings: list[Setting[Any]] = []
        self.tasks = PluginTasks(source, mark)
        self.checks: list[Check] = []
        self.on_error: ErrorHandler | None = None

    def include(self, registries: Sequence[Registry]) -> None:
        """Include these registries, in place of those that were included before.

        Of two commands of one name the first counts, and what is registered here counts most.
        """
        self.parts = (self, *registries)

    def command(
        self,
        name: str,
        description: str,
        *,
        permission: Permission = Permission.USER,
        seconds: float | None = None,
        cooldown: float | Cooldown = 0.0,
        group: str = "",
        usage: str = "",
        example: str = "",
        aliases: Sequence[str] = (),
        checks: Sequence[Check] = (),
    ) -> Callable[[TypedHandler], TypedHandler]:
        """Register the decorated `async def handler(context, ...)` as a command.

        The arguments are the attributes of `Command`; a cooldown in seconds is one of each user. Without a group it
        is in that of the program's own, or of those of other authors. `bot/parameters.py` says which other
        parameters the handler may have. `checks` run before it, and before the words are read.

        A name of two words is that of a sub-command. The command of the first word, unless there is one, is made, and
        tells which sub-commands there are.

        Raises:
            RaveError: InvalidArgument, if a name can't be typed or is taken, if a fixed command has another
                permission than its own, or if no words can fill the parameters. Only the program itself may replace
                a command of its own.
        """
        keys = [self._free_key(each) for each in (name, *aliases)]
        _require_permission(keys[0], permission)
        twice = [key for key in keys if key in self._commands and key not in self._families]
        if self.source and twice:
            raise RaveError(
                Code.INVALID_ARGUMENT, f"{twice[0]} is the name of two commands", hint="take another name"
            )

        def register(handler: TypedHandler) -> TypedHandler:
            parameters = Parameters.of(handler)
            made = Command(
                name=name,
                description=description,
                # Those of the file may be registered after the command.
                handler=self._filled(handler, parameters, checks) if self.source or parameters else handler,
                aliases=tuple(aliases),
                permission=permission,
                seconds=seconds,
                cooldown=cooldown if isinstance(cooldown, Cooldown) else Cooldown(cooldown),
                source=self.source,
                group=group or (MORE if self.source else GENERAL),
                usage=usage or parameters.usage,
                example=example,
            )
            self._commands |= dict.fromkeys(keys, made)
            self._families.difference_update(keys)
            self._add_family(made)
            return handler

        return register

    def _free_key(self, name: str) -> str:
        key = " ".join(map(_key, name.split(maxsplit=1) or [""]))
        # To have a sub-command of a command is to have that one.
        if owner := self._taken.get(key.partition(" ")[0]):
            text = f"there is a command {name} already: it belongs to {owner}"
            raise RaveError(Code.INVALID_ARGUMENT, text, hint="take another name")
        return key

    def _add_family(self, part: Command) -> None:
        if part.family != part.key and part.family not in self._commands:
            name, description = part.name.split()[0], _("Has sub-commands, which help lists")
            self._families.add(part.family)
            self._commands[part.family] = Command(
                name=name, description=description, handler=_tell_parts, source=self.source, group=part.group
            )

    def _filled(self, handler: TypedHandler, parameters: Parameters, checks: Sequence[Check]) -> Handler:
        """The handler after the checks, with its parameters read from the words after the command."""

        async def run(context: Context) -> None:
            for check in itertools.chain(self.checks, checks):
                # One that returns False would refuse elsewhere; here it would be taken for a yes.
                if await check(context) is not None:
                    raise TypeError("a check returns nothing: it raises UserError with the reason")
            # A handler without parameters takes any words: they are its `context.text`.
            places: Sequence[Any] = ()
            names: Mapping[str, Any] = {}
            if parameters:
                # Types may be the author's, with a `from_word` of theirs.
                places, names = await stepwise(parameters.read(context.said), self.tasks.mark)
            await handler(context, *places, **names)

        return run

    def add_setting(self, setting: Setting[Any]) -> None:
        """Add a setting. Raises `RaveError` (InvalidArgument) if another file has settings of this plugin's name."""
        if owner := self._taken.get(f"{SETTINGS} {setting.plugin}"):
            text = f"there are settings of {setting.plugin} already: they belong to {owner}"
            raise RaveError(Code.INVALID_ARGUMENT, text, hint="give one of the files another name")
        self.settings.append(setting)

    def on(self, kind: EventKind) -> Callable[[EventHandler], EventHandler]:
        """Register the decorated `async def handler(event)`; an event runs its handlers in this order."""

        def register(handler: EventHandler) -> EventHandler:
            self._handlers[kind] = (*self.handlers(kind), handler)
            return handler

        return register

    def get(self, name: str) -> Command | None:
        """The command of that name, however it is spelt."""
        return self._get(fold(name))

    def find(self, name: str, text: str) -> tuple[Command, str] | None:
        """The command that is meant by a folded name and the text after it, and the text that is left of that."""
        first, *rest = text.split(maxsplit=1) or [""]
        found = self._get(name)
        # Also by an alias of the command that it is a part of.
        family = found.key if found else name
        if part := self._get(f"{family} {fold(first[:_MAX_NAME_CHARS])}"):
            return part, rest[0] if rest else ""
        return (found, text) if found else None

    def commands(self) -> list[Command]:
        """All commands by name, without sub-commands."""
        return [command for command in self._all() if command.family == command.key]

    def parts_of(self, command: Command) -> list[Command]:
        """The sub-commands of a command, by name."""
        return [each for each in self._all() if each.family == command.key != each.key]

    def owners(self) -> dict[str, str]:
        """All names that are taken, aliases and sub-commands included, and whose they are.

        Settings take the name of their plugin, as an admin writes it: `settings welcome`.
        """
        settings = {f"{SETTINGS} {each.plugin}": part.source for part in self.parts for each in part.settings}
        return settings | {
            key: command.source or "the bot itself"
            for part in reversed(self.parts)
            for key, command in part._commands.items()
        }

    def _get(self, key: str) -> Command | None:
        return next((part._commands[key] for part in self.parts if key in part._commands), None)

    def _all(self) -> list[Command]:
        found = {key: command for part in reversed(self.parts) for key, command in part._commands.items()}
        return [found[key] for key in sorted(found) if found[key].key == key]

    def error_handler(self, source: str) -> ErrorHandler | None:
        """What answers for failed commands of that file or package."""
        return next((part.on_error for part in self.parts if part.source == source), None)

    def handlers(self, kind: EventKind) -> tuple[EventHandler, ...]:
        """The handlers of such an event that are registered here; those of `parts` are theirs to tell."""
        return self._handlers.get(kind, ())


@dataclass(slots=True, kw_only=True)
class BotInfo:
    """What commands show about the bot. The owner of the bot keeps it up to date.

    Attributes:
        title: the mesh's title, as strangers wrote it.
        server: host of the mesh's socket server.
        version: of this program.
        connected_since: on the bot's (monotonic) clock, or None while not connected.
        reconnects: how often the connection was made anew.
    """

    version: str
    title: str = ""
    server: str = ""
    connected_since: float | None = None
    reconnects: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One invocation of a command.

    Attributes:
        command: the command, and `text`: what follows it, as written.
        message: the chat message; its `mentions` tell the user ids behind words like @name.
        mesh_id: where; `own_user_id`: the user that the bot is; `users`: who was there at that moment.
        room: what else was known of the room at that moment, and `server_now`: the moment by its server's clock, for
            `Playback.position_at`.
        prefixes: what a command may start with; hints use the first.
        facts: about bot and mesh.
        now: the time on the clock of `facts`.
        settings: those of the room at that moment, and `settings_now` returns those of now.
        rave: what can be asked of Rave for this room, and `http`: of other servers.
        dialogue: what this run asks; see `ask` and `answers`.
        secrets: what the operator hands over to plugins, by name; see `secret`.
        store: what the file or package of the command keeps of the room, and `shared`: for all rooms.
    """

    command: Command
    text: str
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
    settings_now: Callable[[], RoomSettings] = field(repr=False)
    registry: Registry = field(repr=False)
    permissions: Permissions = field(repr=False)
    outbox: Outbox = field(repr=False)
    people: DisplayNames = field(repr=False)
    rave: RoomApi = field(repr=False)
    http: Http = field(repr=False)
    dialogue: Dialogue = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    store: PluginStore = field(repr=False)
    shared: PluginStore = field(repr=False)

    @property
    def args(self) -> tuple[str, ...]:
        """The words after the command, as written."""
        return tuple(self.text.split())

    def is_command(self, text: str) -> bool:
        """Whether a text begins as a command does in this room: another bot in it might obey that."""
        return any(without_prefix(text, prefix) is not None for prefix in self.prefixes)

    @property
    def written(self) -> str:
        """The command as one writes it, with a prefix."""
        return f"{self.prefixes[0]}{self.command.name}"

    @property
    def said(self) -> Said:
        """The command with what follows it, to be read."""
        command = self.command
        return Said(
            self.written,
            command.usage,
            command.example,
            self.text,
            self.message.mentions,
            self.users,
            self.people,
            self.user_id,
            self.dialogue.videos,
        )

    @property
    def user_id(self) -> int | None:
        """Who asks, if known."""
        return self.message.sender

    async def display_name(self) -> str:
        """The asker's display name, fit for a chat text."""
        return await self.people.name(self.user_id)

    async def member(self) -> Member:
        """The asker, to be mentioned: `await context.reply(member.mention, mentions=[member])`.

        Raises `RaveError` (InvalidArgument) if Rave does not say who it is.
        """
        return await self.people.member(self.user_id)

    def allowed_commands(self) -> list[Command]:
        """The commands that the asker may run here, by name."""
        commands = [c for c in self.registry.commands() if not self.settings.is_off(c.group)]
        return [c for c in commands if self.permissions.allows(c, self.user_id)]

    def translate(self, text: str) -> str:
        """A text in the language of the room; `reply` and `send` do that by themselves."""
        return translate(text, self.outbox.catalogue)

    async def reply(self, text: str, *, mentions: Sequence[Mentioned] = (), media: Sequence[Media] = ()) -> str:
        """Answer the command's message; returns and raises what `Outbox.send` does."""
        return await self.outbox.send(text, reply_to=self.message.id or None, mentions=mentions, media=media)

    async def send(self, text: str, *, mentions: Sequence[Mentioned] = (), media: Sequence[Media] = ()) -> str:
        """Say something in the mesh that is no answer; returns and raises what `Outbox.send` does."""
        return await self.outbox.send(text, mentions=mentions, media=media)

    async def react(self, emoji: str, *, to: str = "") -> None:
        """React to the command's message, or to that with the id `to`, with one emoji; raises as `Outbox.react`."""
        await self.outbox.react(to or self.message.id, emoji)

    async def ask(self, question: str, kind: Any = str, *, timeout: float = 60.0) -> Any:  # noqa: ASYNC109 - as authors expect
        """Ask the user who runs the command, and return the answer: the next message that is no command.

        Args:
            question: what the bot says.
            kind: what the answer is to be: a type that a parameter of a command may have. An answer that is none is
                answered with what is wrong, and asked for again, three times in all. A `str` is the whole message.
            timeout: seconds to wait. They do not count as time of the command; all questions of one run together wait
                for ten minutes at most.

        Raises:
            NoAnswerError: None came in time.
            RaveError: The question can't be sent, see `Outbox.send`; InvalidArgument, if no word can be of that type
                or the third answer is wrong, too; Closed, if the file of the command is loaded anew.
        """
        return await self.dialogue.ask(self.user_id, question, kind, timeout, self.message.id or None)

    def answers(self, question: str, kind: Any = str, *, timeout: float = 60.0) -> AsyncIterator[Answer]:
        """Ask all users, and yield one answer after another, until the time is over or you leave the loop.

        The arguments are those of `ask`. Messages that are no such answer are left out; all are events as well. The
        bot does not say that the time is over. Raises what `ask` raises, but `NoAnswerError`.
        """
        return self.dialogue.answers(question, kind, timeout)

    def secret(self, name: str) -> str:
        """What the operator hands over under this name, such as a key. Never say or log it.

        Raises `RaveError` (Config), in words for the operator, if there is none: see rave-mesh(8).
        """
        return handed_over(self.secrets, name)


async def _tell_parts(context: Context) -> None:
    """Say which sub-commands there are: the words after the command name none."""
    parts = context.registry.parts_of(context.command)
    allowed = [part for part in parts if context.permissions.allows(part, context.user_id)]
    raise usage_error(context.said._replace(usage="|".join(part.name.split()[1] for part in allowed)))


def _key(name: str) -> str:
    key = command_key(name)
    if key is None:
        raise RaveError(
            Code.INVALID_ARGUMENT,
            f"{name[:80]!r} can't be the name of a command",
            hint="use one word of at most 32 characters, or two for a sub-command",
        )
    return key


def _require_permission(key: str, permission: Permission) -> None:
    if key in ADMIN_COMMANDS and permission is not Permission.ADMIN:
        raise RaveError(Code.INVALID_ARGUMENT, f"the command {key} is for admins only", hint="register it as such")
    if key == CLAIM and permission is not Permission.USER:
        raise RaveError(Code.INVALID_ARGUMENT, f"the command {key} is for all users", hint="register it as such")
