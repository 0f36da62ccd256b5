"""Who may run which command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ravesvc.bot.command_names import Permission

if TYPE_CHECKING:
    # No process needs protocols to run, and each would cost a bot 5 KB.
    class Restricted(Protocol):
        """What decides who may run a command."""

        @property
        def key(self) -> str:
            """Its name as names of commands are compared."""

        @property
        def family(self) -> str:
            """Likewise, the name of the command that it is a part of; its own, unless it is a sub-command."""

        @property
        def permission(self) -> Permission:
            """Whom it is for, unless an admin has configured something else."""

        @property
        def fixed(self) -> bool:
            """Whether its permission can't be changed."""

    class Permissions(Protocol):
        """Answers at once, from memory: it is asked before every command."""

        @property
        def admins(self) -> frozenset[int]:
            """The user ids of admins, in all meshes."""

        @property
        def overrides(self) -> Mapping[str, Permission]:
            """What admins configured, by the key of a command, which need not exist here."""

        @property
        def without_admin(self) -> bool:
            """Whether the first admin has yet to be made."""

        def allows(self, command: Restricted, user_id: int | None) -> bool:
            """Whether the user may run the command. A sender without a user id is no admin."""

        def needed(self, command: Restricted) -> Permission:
            """Whom the command is for, with overrides, which a fixed command has none of."""


@dataclass(frozen=True, slots=True)
class StaticPermissions:
    """A copy of the permissions as the service last sent them.

    Without any, there are no admins: commands for admins are refused, all others run.

    Attributes:
        admins: the user ids of admins, in all meshes.
        admins_known: False until the service has sent the admins; `admins` is empty until then.
        overrides: by the key of a command, in place of the command's own permission; fixed commands have none.
    """

    admins: frozenset[int] = frozenset()
    overrides: Mapping[str, Permission] = field(default_factory=dict)
    admins_known: bool = True

    @property
    def without_admin(self) -> bool:
        """Whether the first admin has yet to be made."""
        return self.admins_known and not self.admins

    def allows(self, command: Restricted, user_id: int | None) -> bool:
        """Whether the user may run the command."""
        return self.needed(command) is Permission.USER or user_id in self.admins

    def needed(self, command: Restricted) -> Permission:
        """Whom the command is for, with overrides; they name a command as a whole.

        To open a command to all users does not open those of its sub-commands that are for admins.
        """
        is_part = command.family != command.key
        if command.fixed or (is_part and command.permission is Permission.ADMIN):
            return command.permission
        return self.overrides.get(command.family, command.permission)
