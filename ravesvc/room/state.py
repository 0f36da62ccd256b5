"""Who is in the room: the state message, and joins and leaves as differences between two of them; no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ravesvc import fields
from ravesvc.fields import Object
from ravesvc.room.frames import insist_affordable


@dataclass(frozen=True, slots=True)
class State:
    """What we use of a state message. `users` is None when the message says nothing about them."""

    users: frozenset[int] | None
    kicked: frozenset[int]


@dataclass(frozen=True, slots=True)
class Change:
    """Who came and who went."""

    joined: frozenset[int]
    left: frozenset[int]


def parse_state(data: Object) -> State:
    """Read the data of a stateMessage: an object under `message`, as JSON text inside the JSON or as it is.

    Raises `RaveError`: TooLarge, and BadData when there is no such object. A part of it that can't be read says
    nothing, and spoils no other part.
    """
    message = data.get("message")
    if isinstance(message, str):
        # As text of a text it may be written with escapes, which hide how many values it has.
        insist_affordable(message)
        inner = fields.parse_object(message, "the state")
    else:
        inner = fields.as_object(message, "state")
    kicks = inner.get("kicks")
    kicked = map(user_id, kicks if isinstance(kicks, list) else ())
    return State(users=_users(inner), kicked=frozenset(user for user in kicked if user is not None))


def _users(inner: Object) -> frozenset[int] | None:
    """The users of a message that has both `users` and `mesh_state`.

    A list with an entry that can't be read is no list: to leave out the entry would report that somebody left.
    """
    entries = inner.get("users")
    if not isinstance(entries, list) or inner.get("mesh_state") is None:
        return None
    users = [user_id(entry) for entry in entries]
    return None if None in users else frozenset(user for user in users if user is not None)


def user_id(entry: object) -> int | None:
    """The user that an entry of `users` or `kicks` means: an id as number or text, or an object that has one."""
    if isinstance(entry, dict):
        entry = next((entry[key] for key in ("user_id", "id", "userId") if entry.get(key) is not None), None)
    number = fields.as_int(entry)
    # More would not fit the 64 bits of a D-Bus integer.
    return number if number is not None and 0 < number < 2**63 else None


class Members:
    """The users in the room. Nobody has joined or left as long as we don't know who was there."""

    def __init__(self) -> None:
        self._users: frozenset[int] | None = None

    @property
    def users(self) -> frozenset[int]:
        """The users as last heard; empty while unknown."""
        return self._users or frozenset()

    def baseline(self, users: Iterable[int]) -> None:
        """Take a list that was asked for elsewhere, unless a state message was faster: that one is newer."""
        if self._users is None:
            self._users = frozenset(users)

    def update(self, users: frozenset[int]) -> Change:
        """Take the list of a state message; the first list of all changes nothing."""
        before = users if self._users is None else self._users
        self._users = users
        return Change(joined=users - before, left=before - users)
