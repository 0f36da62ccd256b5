"""Commands and event handlers, and the table where both are registered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from ravesvc.bot.event import Event, EventKind
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    from ravesvc.bot.context import Context

Handler: TypeAlias = "Callable[[Context], Awaitable[None]]"
EventHandler: TypeAlias = Callable[[Event], Awaitable[None]]

# Commands that rule over admins, permissions and the account: for admins whatever is configured.
ADMIN_COMMANDS = frozenset({"admin", "ignore", "refresh", "setperm", "removeperm", "listperms", "relogin"})

# For all users whatever is configured: the first admin is none yet.
CLAIM = "claim"

# Commands whose permission can't be changed.
FIXED_COMMANDS = ADMIN_COMMANDS | {CLAIM}

# For admins as well, unless somebody opens it.
LEAVE = "leave"

# The groups of `help`; authors may have others. What names none is in GENERAL, or in MORE if an author wrote it.
GENERAL, VIDEO, GAMES, MODERATION, SERVICE, MORE = "general", "video", "games", "moderation", "service", "more"

# Admins may give it with the usual prefixes in any room.
SETTINGS = "settings"

# As it is written, and as it is compared.
_NAME = re.compile(r"\S{1,32}")


class Permission(StrEnum):
    """Whom a command is for."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: as its author writes it; `key` is what tells commands apart.
        description: one sentence for `help`.
        permission: whom it is for, unless somebody configures something else.
        seconds: how long its handler may take; None for what any command may.
        cooldown: seconds until the same user may run it again; a run that ends with InvalidArgument does not count.
        source: the file or package that it comes from; empty for the program's own.
        group: under which `help` lists it.
        usage: what to write after the name, such as `<command> <admin|user>`; empty if nothing.
        example: the same as a user would write it, such as `ping admin`; empty if there is nothing to show.
    """

    name: str
    description: str
    handler: Handler = field(repr=False)
    permission: Permission = Permission.USER
    seconds: float | None = None
    cooldown: float = 0.0
    source: str = ""
    group: str = GENERAL
    usage: str = ""
    example: str = ""

    @property
    def key(self) -> str:
        """The name as it is compared: see `spelling.fold`."""
        return fold(self.name)

    @property
    def title(self) -> str:
        """The name, and where it comes from if somebody else wrote it: for the log."""
        return f"{self.name} of {self.source}" if self.source else self.name

    @property
    def fixed(self) -> bool:
        """Whether its permission can't be changed."""
        return self.key in FIXED_COMMANDS


class Registry:
    """The commands and event handlers of a bot; may be shared by several bots.

    Attributes:
        source: the file or package that registers here; empty for the program itself.
        parts: this registry, and those included in it.
    """

    def __init__(self, source: str = "", taken: Mapping[str, str] | None = None) -> None:
        """`taken` has the keys that no command may have here, and whose they are."""
        self.source = source
        self.parts: tuple[Registry, ...] = (self,)
        self._taken = taken or {}
        self._commands: dict[str, Command] = {}
        self._handlers: dict[EventKind, tuple[EventHandler, ...]] = {}

    def include(self, registries: Sequence[Registry]) -> None:
        """Have what is registered there as well, in place of what was included before.

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
        cooldown: float = 0.0,
        group: str = "",
        usage: str = "",
        example: str = "",
    ) -> Callable[[Handler], Handler]:
        """Register the decorated `async def handler(context)` as a command; a later one of that name replaces it.

        The arguments are the attributes of `Command`. Without a group it is in that of the program's own, or of those
        of other authors.

        Raises:
            RaveError: InvalidArgument, when nobody could type the name, when it is taken, or when a fixed command is
                for others than it has to be.
        """
        key = _key(name)
        if key in self._taken:
            text = f"there is a command {name} already: it belongs to {self._taken[key]}"
            raise RaveError(Code.INVALID_ARGUMENT, text, hint="take another name")
        _insist_on_permission(key, permission)

        def register(handler: Handler) -> Handler:
            self._commands[key] = Command(
                name=name,
                description=description,
                handler=handler,
                permission=permission,
                seconds=seconds,
                cooldown=cooldown,
                source=self.source,
                group=group or (MORE if self.source else GENERAL),
                usage=usage,
                example=example,
            )
            return handler

        return register

    def on(self, kind: EventKind) -> Callable[[EventHandler], EventHandler]:
        """Register the decorated `async def handler(event)`; an event runs its handlers in this order."""

        def register(handler: EventHandler) -> EventHandler:
            self._handlers[kind] = (*self.handlers(kind), handler)
            return handler

        return register

    def get(self, name: str) -> Command | None:
        """The command of that name, however it is spelt."""
        key = fold(name)
        return next((part._commands[key] for part in self.parts if key in part._commands), None)

    def commands(self) -> list[Command]:
        """All commands by name."""
        found = {name: command for part in reversed(self.parts) for name, command in part._commands.items()}
        return [found[name] for name in sorted(found)]

    def handlers(self, kind: EventKind) -> tuple[EventHandler, ...]:
        """The handlers of such an event that are registered here; those of `parts` are theirs to tell."""
        return self._handlers.get(kind, ())


def command_key(name: str) -> str | None:
    """The key of a command of that name; None if it can't be typed, or not be kept by each engine of the store."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        return None
    key = fold(name)
    return key if _NAME.fullmatch(key) and key.isprintable() else None


def _key(name: str) -> str:
    key = command_key(name)
    if key is None:
        raise RaveError(
            Code.INVALID_ARGUMENT,
            f"{name[:80]!r} can't be the name of a command",
            hint="use one word of at most 32 characters",
        )
    return key


def _insist_on_permission(key: str, permission: Permission) -> None:
    if key in ADMIN_COMMANDS and permission is not Permission.ADMIN:
        raise RaveError(Code.INVALID_ARGUMENT, f"the command {key} is for admins only", hint="register it as such")
    if key == CLAIM and permission is not Permission.USER:
        raise RaveError(Code.INVALID_ARGUMENT, f"the command {key} is for everybody", hint="register it as such")


def refuse_fixed(key: str) -> None:
    """Raise `RaveError` (InvalidArgument) for a command whose permission can't be changed."""
    if key == CLAIM:
        text = _("the command {name} is for everybody, which can't be changed", name=key)
        raise RaveError(Code.INVALID_ARGUMENT, text)
    if key in FIXED_COMMANDS:
        raise RaveError(
            Code.INVALID_ARGUMENT, _("the command {name} is for admins, which can't be changed", name=key)
        )
