"""What the service remembers between runs, and how an engine keeps it: the embedded one (SQLite) or MongoDB.

Collections and fields are those of the guide ("MongoDB Collections"); here they have Python names. Dates are in UTC
and in whole milliseconds, which is what MongoDB keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

from ravesvc.common.spelling import fold
from ravesvc.config.worker_settings import Session
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument

# No command has a name as long.
_MAX_COMMAND_CHARS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The account, as a login leaves it. Texts that are not known are empty; tokens have no `r:`."""

    email: str = field(repr=False)
    device_id: str = field(repr=False)
    ssaid: str = field(repr=False)
    parse_id: str = field(default="", repr=False)
    parse_token: str = field(default="", repr=False)
    auth_token: str = field(default="", repr=False)
    user_id: int | None = None
    updated_at: datetime | None = None

    @property
    def peer_id(self) -> str:
        """The id of our socket participant; empty without a user id."""
        return "" if self.user_id is None else f"{self.user_id}_{self.device_id}"

    @property
    def session(self) -> Session | None:
        """What requests and sockets need; None when a login is needed to get it."""
        if not self.auth_token or not self.user_id:
            return None
        return Session(device_id=self.device_id, ssaid=self.ssaid, user_id=self.user_id, auth_token=self.auth_token)


@dataclass(frozen=True, kw_only=True, slots=True)
class Admin:
    """A user who is, or was, an admin: removal only clears `active`.

    An owner, who was made one on the host by ravectl or a code, has `added_by == user_id`: no new field, so older
    stores and those of the reference implementation have owners too.
    """

    user_id: int
    added_by: int
    added_at: datetime
    active: bool = True

    @property
    def owner(self) -> bool:
        """Whether no chat user may remove them."""
        return self.active and self.added_by == self.user_id


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandPermission:
    """Whether a command is for admins only, in place of its default. `command` is a `command_key`."""

    command: str
    requires_admin: bool
    description: str
    updated_at: datetime
    updated_by: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IgnoredUser:
    """A user whom all bots ignore. `added_by` is a user id, 0 for an operator."""

    user_id: int
    added_by: int
    added_at: datetime


StoreEntry: TypeAlias = Admin | CommandPermission | IgnoredUser


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Everything in a store but what rooms remember; admins and ignored users by user id, permissions by command.

    Attributes:
        unusable: why the credentials that are there make no sense, and so count as none; else empty.
    """

    credentials: Credentials | None = None
    unusable: str = ""
    admins: tuple[Admin, ...] = ()
    permissions: tuple[CommandPermission, ...] = ()
    ignored: tuple[IgnoredUser, ...] = ()

    def with_credentials(self, credentials: Credentials) -> Contents:
        """The same with other credentials."""
        return replace(self, credentials=credentials, unusable="")

    def without_credentials(self) -> Contents:
        """The same with no account."""
        return replace(self, credentials=None, unusable="")

    def with_admin(self, admin: Admin) -> Contents:
        """The same with a user's entry added, or in the place of the former one."""
        others = (each for each in self.admins if each.user_id != admin.user_id)
        return replace(self, admins=tuple(sorted((*others, admin), key=lambda each: each.user_id)))

    def without_admin(self, user_id: int) -> Contents:
        """The same with a user who is no admin any more."""
        admins = (replace(each, active=False) if each.user_id == user_id else each for each in self.admins)
        return replace(self, admins=tuple(admins))

    def with_permission(self, permission: CommandPermission) -> Contents:
        """The same with a command's permission added, or in the place of the former one."""
        others = self.without_permission(permission.command).permissions
        return replace(self, permissions=tuple(sorted((*others, permission), key=lambda each: each.command)))

    def without_permission(self, command: str) -> Contents:
        """The same without a command's permission."""
        return replace(self, permissions=tuple(each for each in self.permissions if each.command != command))

    def with_ignored(self, ignored: IgnoredUser) -> Contents:
        """The same with an ignored user added."""
        others = self.without_ignored(ignored.user_id).ignored
        return replace(self, ignored=tuple(sorted((*others, ignored), key=lambda each: each.user_id)))

    def without_ignored(self, user_id: int) -> Contents:
        """The same without an ignored user."""
        return replace(self, ignored=tuple(each for each in self.ignored if each.user_id != user_id))


def command_key(name: str) -> str:
    """The command that a stored name means: stores may hold names in any spelling. Empty if it means none."""
    return fold(name[:_MAX_COMMAND_CHARS]).strip()


def by_command(permissions: Iterable[CommandPermission]) -> tuple[CommandPermission, ...]:
    """Each command once, in order. Of several entries one that is for admins counts."""
    found: dict[str, CommandPermission] = {}
    for one in permissions:
        if one.requires_admin or one.command not in found:
            found[one.command] = one
    return tuple(found[command] for command in sorted(found))


# Seconds between two times that a host says it has the account, and after how many without a word it counts as gone.
BEAT_S = 30.0
SILENT_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A host that runs the bots of an account: an id that tells hosts apart, and a name for people."""

    id: str
    name: str


class Store(Protocol):
    """One engine. What a method has changed is safe on disk when it returns; a failed one has changed nothing.

    Every method raises `RaveError`: StoreUnavailable while the engine can't be reached or can't write, BadFile when
    its file is damaged or can't be used, BadData for what can't be read or kept at all. None of them blocks the event
    loop, and none takes longer than a few seconds. `open` and `close` may be called again, in turn. Credentials that
    make no sense are kept aside before others take their place, or they are removed.
    """

    @property
    def engine(self) -> str:
        """`embedded` or `mongodb`."""

    async def open(self) -> None:
        """Make it ready for use: connect, check, migrate. What failed may be tried again."""

    async def close(self) -> None:
        """Close the store; does not raise."""

    async def read(self) -> Contents:
        """Everything but what rooms remember."""

    async def replace(self, contents: Contents) -> None:
        """Put `contents` in the place of everything but what rooms remember."""

    async def save_credentials(self, credentials: Credentials) -> None:
        """Replace the credentials."""

    async def remove_credentials(self) -> bool:
        """Delete them; False if there are none."""

    async def add_admin(self, admin: Admin) -> bool:
        """Make a user an admin; False, and nothing changed, if they are an active one already.

        An owner replaces an active admin who is not an owner.
        """

    async def remove_admin(self, user_id: int) -> bool:
        """Clear `active`; False if they are no active admin. Raises LastAdmin for the only active one."""

    async def set_permission(self, permission: CommandPermission) -> None:
        """Put it in the place of the command's former one."""

    async def remove_permission(self, command: str) -> bool:
        """Delete a command's; False if it has none."""

    async def ignore_user(self, ignored: IgnoredUser) -> bool:
        """Have all bots ignore a user; False, and nothing changed, if they do already."""

    async def unignore_user(self, user_id: int) -> bool:
        """Have bots listen to them again; False if they do."""

    async def forget_user(self, user_id: int) -> int:
        """Delete a user's entry as a former admin, and put 0 where they have added or changed others.

        Returns how many entries that has changed. What rooms remember stays.
        """

    async def list_documents(self) -> list[DocumentSize]:
        """What rooms remember, in the order of mesh, kind and name."""

    async def read_document(self, mesh: str, kind: DocumentKind, name: str) -> RoomDocument | None:
        """One document of a room; None if there is none."""

    async def write_document(self, document: RoomDocument) -> None:
        """Put it in the place of the former one."""

    async def read_room(self, mesh: str) -> list[RoomDocument]:
        """All that a room remembers, in the order of kind and name."""

    async def replace_room(self, mesh: str, new: Sequence[RoomDocument]) -> None:
        """Replace all documents of a room by `new`; in MongoDB a failure may leave only some of them replaced."""

    async def register_host(self, host: Host) -> Host:
        """Register a host as the user of the account unless another is registered; returns the one that is.

        A registration ends when its host was silent for `SILENT_S` by the clock of the store's server. Of two hosts
        that call this at once one is registered. A store that can't be shared registers every host.
        """

    async def take_over(self, host: Host) -> None:
        """Give a host the account, also when another one has it."""

    async def release(self, host: Host) -> None:
        """If this host has the account, none has it any more."""
