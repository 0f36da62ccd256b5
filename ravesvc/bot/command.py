"""Commands and event handlers, and the table where both are registered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from ravesvc.bot.event import Event, EventKind
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    from ravesvc.bot.context import Context

Handler: TypeAlias = "Callable[[Context], Awaitable[None]]"
EventHandler: TypeAlias = Callable[[Event], Awaitable[None]]

# Commands that rule over admins, permissions and the account: for admins whatever anybody configures.
FIXED_COMMANDS = frozenset({"admin", "refresh", "setperm", "removeperm", "listperms", "relogin"})

# For admins as well, unless somebody opens it.
LEAVE = "leave"

_NAME = re.compile(r"[^\sA-Z]{1,32}")


class Permission(StrEnum):
    """Whom a command is for."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        description: one sentence for `help`.
        permission: whom it is for, unless somebody configures something else.
        seconds: how long its handler may take; None for what any command may.
    """

    name: str
    description: str
    handler: Handler = field(repr=False)
    permission: Permission = Permission.USER
    seconds: float | None = None

    @property
    def fixed(self) -> bool:
        """Whether its permission can't be changed."""
        return self.name in FIXED_COMMANDS


class Registry:
    """The commands and event handlers of a bot; may be shared by several bots."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}
        self._handlers: dict[EventKind, tuple[EventHandler, ...]] = {}

    def command(
        self,
        name: str,
        description: str,
        *,
        permission: Permission = Permission.USER,
        seconds: float | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated `async def handler(context)` as a command; a later one of that name replaces it.

        The arguments are the attributes of `Command`.

        Raises:
            RaveError: InvalidArgument, when nobody could type the name or when a fixed command is not for admins.
        """
        _check(name, permission)

        def register(handler: Handler) -> Handler:
            self._commands[name] = Command(
                name=name, description=description, handler=handler, permission=permission, seconds=seconds
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
        """The command of that name, which is in lower case."""
        return self._commands.get(name)

    def commands(self) -> list[Command]:
        """All commands by name."""
        return [self._commands[name] for name in sorted(self._commands)]

    def handlers(self, kind: EventKind) -> tuple[EventHandler, ...]:
        """The handlers of such an event."""
        return self._handlers.get(kind, ())


def _check(name: str, permission: Permission) -> None:
    if not _NAME.fullmatch(name) or name != name.lower():
        raise RaveError(
            Code.INVALID_ARGUMENT,
            f"{name[:80]!r} can't be the name of a command",
            hint="use one word in lower case, of at most 32 characters",
        )
    if name in FIXED_COMMANDS and permission is not Permission.ADMIN:
        raise RaveError(Code.INVALID_ARGUMENT, f"the command {name} is for admins only", hint="register it as such")
