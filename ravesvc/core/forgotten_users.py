"""Users who were forgotten, and bots that may write them back from an older memory of theirs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ravesvc.store.forget import without_users

# Seconds for which a bot that has not heard of it is watched. One that hangs for so long is replaced long before.
_WATCHED_S = 3600.0
_MAX_USERS = 256
# That the bot of one mesh may leave unanswered.
_MAX_UNANSWERED = 16


class Forgotten:
    """Takes them out of what bots write. `clock` is in monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way: set[int] = set()
        # Until when, and in what the bots of which meshes write; the latest last.
        self._watched: dict[int, tuple[float, frozenset[str]]] = {}

    def begin(self, user: int) -> None:
        """From now on the user is taken out of whatever is written."""
        self._under_way.add(user)

    def end(self, user: int, unheard: Collection[str] = ()) -> None:
        """From now on only out of what the bots of some meshes write, and only for a while."""
        self._under_way.discard(user)
        self._watched.pop(user, None)
        if unheard:
            self._watched[user] = self._clock() + _WATCHED_S, frozenset(unheard)
        while len(self._watched) > _MAX_USERS:
            del self._watched[next(iter(self._watched))]

    def left(self, mesh: str, value: Any) -> Any:
        """What is to be kept of JSON that the bot of a mesh writes."""
        # In one walk, however many users there are: a bot may write once a second, and chooses what there is to walk.
        users = self._under_way | self._watched_in(mesh)
        return without_users(value, users)[0] if users else value

    def is_unanswering(self, mesh: str) -> bool:
        """Whether the bot of a mesh has left so many wishes unanswered that it is to make no more."""
        return len(self._watched_in(mesh)) >= _MAX_UNANSWERED

    def _watched_in(self, mesh: str) -> set[int]:
        now = self._clock()
        return {user for user, (until, meshes) in self._watched.items() if now < until and mesh in meshes}
