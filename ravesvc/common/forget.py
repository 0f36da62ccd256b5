"""What is left of JSON when users are to be forgotten. Pure.

It knows no document by name, but goes by a rule for all of them: a user is named under a key that holds users, which
is `user`, `users`, `actor`, `by` or `served`, or ends with `_by`. There it is a number that is the id, a text that is
the id or a peer id, a list of these, or an object with them as keys. Nothing else is taken for a user: a round, a
number of views, a setting such as `max_per_user` or the 7 in a title may be equal to an id.

An object with a field that names the user is about them, and goes as a whole; of a list of users the entry goes, and
of an object with users as keys the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

Json: TypeAlias = Any

# Stands for a value that is to be removed.
_GONE = object()
_HOLDS_USERS = re.compile(r"user|users|actor|served|by|.*_by", re.DOTALL)
# The id of a user, or of a peer, which goes on with the device; `ravesvc.common.json_fields` reads no longer one.
_ID = re.compile(r"([0-9]{1,20})(?:_.*)?", re.DOTALL)


def without_users(value: Json, users: Collection[int]) -> tuple[Json, int]:
    """A list or object without some users, and how many entries that took away.

    The outermost one stays, and loses its fields that name them: it is the document of a whole room.
    """
    return _Forgetting(frozenset(users)).document(value)


def mentions(text: str, user: int) -> bool:
    """Whether the id stands in a text as a number of its own: without that, nothing in it is about the user."""
    return re.search(rf"(?<![0-9])0*{user}(?![0-9])", text) is not None


class _Forgetting:
    def __init__(self, users: frozenset[int]) -> None:
        self._users = users
        self._removed = 0

    def document(self, value: Json) -> tuple[Json, int]:
        left = self._fields(value) if isinstance(value, dict) else self._entries(value, self._left)
        return left, self._removed

    def _left(self, value: Json) -> Json:
        """What is left of a value under any other key; `_GONE` if nothing is."""
        if isinstance(value, list):
            return self._entries(value, self._left)
        if isinstance(value, dict):
            return _GONE if self._is_about(value) else self._fields(value)
        return value

    def _left_of_users(self, value: Json) -> Json:
        """What is left of a value under a key that holds users; `_GONE` if nothing is."""
        if isinstance(value, list):
            return self._entries(value, self._left_of_users)
        if isinstance(value, dict):
            return _GONE if self._is_about(value) else self._fields(self._keys(value))
        return _GONE if self._names(value) else value

    def _is_about(self, source: dict[str, Json]) -> bool:
        return any(_holds_users(key) and self._names(value) for key, value in source.items())

    def _entries(self, entries: list[Json], left_of: Callable[[Json], Json]) -> list[Json]:
        return [left for left in map(left_of, entries) if not self._counted(left)]

    def _fields(self, source: dict[str, Json]) -> dict[str, Json]:
        found = (
            (key, self._left_of_users(value) if _holds_users(key) else self._left(value))
            for key, value in source.items()
        )
        return {key: left for key, left in found if not self._counted(left)}

    def _keys(self, source: dict[str, Json]) -> dict[str, Json]:
        left = {key: value for key, value in source.items() if not self._names(key)}
        self._removed += len(source) - len(left)
        return left

    def _counted(self, left: Json) -> bool:
        gone = left is _GONE
        self._removed += gone
        return gone

    def _names(self, value: Json) -> bool:
        if isinstance(value, str):
            match = _ID.fullmatch(value)
            return match is not None and int(match[1]) in self._users
        # 1 == True, and a truth value is no id.
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value in self._users


def _holds_users(key: str) -> bool:
    return _HOLDS_USERS.fullmatch(key) is not None
