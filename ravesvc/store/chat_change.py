"""A change by a chat user that applies to all rooms, with the former value, so that an operator can undo it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from ravesvc import names
from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError
from ravesvc.store import export
from ravesvc.store.model import Admin, CommandPermission, Contents, IgnoredUser, StoreEntry

# The type and the id of an entry.
Key: TypeAlias = tuple[type[StoreEntry], int | str]


@dataclass(frozen=True, slots=True)
class ChatUser:
    """A user who asks for a change, and the mesh whose bot has passed it on."""

    id: int
    mesh: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatChange:
    """A change of one entry of the store.

    Attributes:
        number: counts the changes, from 1.
        user: the id of the user who made it; 0 if that user was forgotten.
        before, after: the entry, None where there was none. A former admin has none. At least one of the two is set.
    """

    number: int
    at: datetime
    mesh: str
    user: int
    before: StoreEntry | None
    after: StoreEntry | None
    undone: bool = False

    @property
    def key(self) -> Key:
        """The key of the entry that was changed."""
        entry = self.before or self.after
        assert entry, "a change of something"
        return _key(entry)

    def can_be_undone(self, contents: Contents) -> bool:
        """Whether there is something to undo in a store that holds this.

        Raises `RaveError` (Conflict) when the entry was changed again: then what was before is not what is wanted.
        """
        current = _entries(contents).get(self.key)
        if self.undone or current == self.before:
            return False
        if current != self.after:
            what = f"change {self.number} can't be undone: what it has set was changed again since"
            raise RaveError(Code.CONFLICT, what, hint="undo a later change first, or set it as it is to be")
        return True

    @property
    def words(self) -> str:
        """What was done, to go on after the name of who did it."""
        match self.before, self.after:
            case Admin(user_id=user), None:
                return f"removed the admin {user}"
            case _, Admin(user_id=user, owner=True):
                return f"made user {user} an owner by a code"
            case _, Admin(user_id=user):
                return f"made user {user} an admin"
            case IgnoredUser(user_id=user), None:
                return f"had user {user} no longer ignored"
            case _, IgnoredUser(user_id=user):
                return f"had user {user} ignored"
            case CommandPermission(command=command), None:
                return f"reset the command {command} to its default permission"
            case _, CommandPermission(command=command, requires_admin=True):
                return f"set the command {command} to be for admins only"
            case _, CommandPermission(command=command):
                return f"set the command {command} to be for all users"
        raise AssertionError("a change of something")

    def concerns(self, user: int) -> bool:
        """Whether the entry is about this user."""
        return self.key in ((Admin, user), (IgnoredUser, user))


def difference(before: Contents, after: Contents) -> tuple[StoreEntry | None, StoreEntry | None] | None:
    """The one entry that differs, before and after; None if none does."""
    old, new = _entries(before), _entries(after)
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    return (old.get(changed[0]), new.get(changed[0])) if changed else None


def without_user(changes: Iterable[ChatChange], user: int) -> tuple[ChatChange, ...]:
    """The changes without the id of a user; changes of that user's own entries are left out."""
    return tuple(
        replace(
            each,
            user=0 if each.user == user else each.user,
            before=_without_author(each.before, user),
            after=_without_author(each.after, user),
        )
        for each in changes
        if not each.concerns(user)
    )


def to_object(change: ChatChange) -> json_fields.Object:
    """A change as JSON has it."""
    return {
        "number": change.number,
        "at": export.of_date(change.at),
        "meshId": change.mesh,
        "userId": change.user,
        "isUndone": change.undone,
        "before": change.before and export.entry_to_object(change.before),
        "after": change.after and export.entry_to_object(change.after),
    }


def from_object(source: json_fields.Object) -> ChatChange:
    """Read what `to_object` has made; raises `RaveError` (BadData, InvalidArgument)."""
    before, after = json_fields.opt_object(source, "before"), json_fields.opt_object(source, "after")
    change = ChatChange(
        number=json_fields.get_int(source, "number"),
        at=export.date(source, "at"),
        mesh=names.mesh_id(json_fields.get_str(source, "meshId")),
        user=json_fields.get_int(source, "userId"),
        undone=json_fields.get_bool(source, "isUndone"),
        before=None if before is None else export.entry_from_object(before),
        after=None if after is None else export.entry_from_object(after),
    )
    keys = {_key(each) for each in (change.before, change.after) if each}
    if len(keys) != 1 or change.number < 1 or change.user < 0:
        raise RaveError(Code.BAD_DATA, "a change must be of one entry, with a number and a user")
    return change


def _entries(contents: Contents) -> dict[Key, StoreEntry]:
    entries: list[StoreEntry] = [admin for admin in contents.admins if admin.active]
    entries += [*contents.permissions, *contents.ignored]
    return {_key(entry): entry for entry in entries}


def _key(entry: StoreEntry) -> Key:
    return type(entry), entry.command if isinstance(entry, CommandPermission) else entry.user_id


def _without_author(entry: StoreEntry | None, user: int) -> StoreEntry | None:
    """The entry as the store has it, once a user was forgotten."""
    match entry:
        case CommandPermission(updated_by=by) if by == user:
            return replace(entry, updated_by=0)
        case Admin(added_by=by) | IgnoredUser(added_by=by) if by == user:
            return replace(entry, added_by=0)
    return entry
