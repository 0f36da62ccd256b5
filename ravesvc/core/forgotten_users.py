"""Keeps bots from writing users back who were forgotten, as bots may still have them in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ravesvc.common.forget import without_users

# Seconds for which a forgotten user is removed from the writes of a bot that has not confirmed it. A bot that hangs
# is replaced long before that.
_WATCHED_S = 3600.0
_MAX_USERS = 256
# The most requests to forget a user that the bot of one mesh may leave unconfirmed.
_MAX_UNANSWERED = 16


class Forgotten:
    """Removes forgotten users from what bots write. `clock` returns seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way: set[int] = set()
        # By user, until when, and for the bots of which meshes; the latest last.
        self._watched: dict[int, tuple[float, frozenset[str]]] = {}

    def begin(self, user: int) -> None:
        """From now on, remove the user from the writes of all bots."""
        self._under_way.add(user)

    def end(self, user: int, unheard: Collection[str] = ()) -> None:
        """From now on, remove the user only from the writes of the bots of `unheard`, and only for a while."""
        self._under_way.discard(user)
        self._watched.pop(user, None)
        if unheard:
            self._watched[user] = self._clock() + _WATCHED_S, frozenset(unheard)
        while len(self._watched) > _MAX_USERS:
            del self._watched[next(iter(self._watched))]

    def left(self, mesh: str, value: Any) -> Any:
        """A JSON value that the bot of a mesh writes, without the forgotten users."""
        # All users in one walk: a bot may write once a second, and chooses how large the value is.
        users = self._under_way | self._watched_in(mesh)
        return without_users(value, users)[0] if users else value

    def is_unanswering(self, mesh: str) -> bool:
        """Whether the bot of a mesh has left so many requests unconfirmed that it may make no more."""
        return len(self._watched_in(mesh)) >= _MAX_UNANSWERED

    def _watched_in(self, mesh: str) -> set[int]:
        now = self._clock()
        return {user for user, (until, meshes) in self._watched.items() if now < until and mesh in meshes}
