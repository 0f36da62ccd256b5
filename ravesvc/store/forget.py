"""What is left of JSON when a user is to be forgotten. Pure.

It knows nothing of what the JSON means. A user is named by a number that is the id, or by a text in which the id
stands as a number of its own, as in a peer id. An object with a field that names the user is about them, and goes as
a whole; of a list the entry goes, and of an object that maps users to something the key.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Json: TypeAlias = Any

# In the place of what goes.
_GONE = object()


def without_user(value: Json, user: int) -> tuple[Json, int]:
    """A list or object without a user, and how many entries that took away.

    The outermost one stays, and loses its fields that name the user: it is the document of a whole room.
    """
    return _Forgetting(user).document(value)


def names_user(text: str, user: int) -> bool:
    """Whether a user is named in a text."""
    return _pattern(user).search(text) is not None


def _pattern(user: int) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9]){user}(?![0-9])")


class _Forgetting:
    def __init__(self, user: int) -> None:
        self._user = user
        self._named = _pattern(user)
        self._removed = 0

    def document(self, value: Json) -> tuple[Json, int]:
        left = self._fields(value) if isinstance(value, dict) else self._entries(value)
        return left, self._removed

    def _left(self, value: Json) -> Json:
        """What is left of a value; `_GONE` if nothing is."""
        if isinstance(value, list):
            return self._entries(value)
        if isinstance(value, dict) and not any(map(self._names, value.values())):
            return self._fields(value)
        return _GONE if isinstance(value, dict) or self._names(value) else value

    def _entries(self, entries: list[Json]) -> list[Json]:
        return [left for left in map(self._left, entries) if not self._counted(left)]

    def _fields(self, source: dict[str, Json]) -> dict[str, Json]:
        found = ((key, _GONE if self._names(key) else self._left(value)) for key, value in source.items())
        return {key: left for key, left in found if not self._counted(left)}

    def _counted(self, left: Json) -> bool:
        gone = left is _GONE
        self._removed += gone
        return gone

    def _names(self, value: Json) -> bool:
        if isinstance(value, str):
            return self._named.search(value) is not None
        # 1 == True, and a truth value is no id.
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value == self._user
