"""Whether a chat user is in the room for which a bot names them: asked of Rave, because a bot may name any user."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from ravesvc.common.log_fields import about
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# Seconds for which a user whom Rave has listed counts as present.
FRESH_S = 5.0
# Seconds after an answer, or a failure, until Rave is asked again about a user whom it did not list.
_ASK_AGAIN_S = 1.0


@dataclass(slots=True)
class _RoomPresence:
    """What Rave has said of a room. `at` is when it was asked last, in monotonic seconds."""

    at: float = float("-inf")
    users: frozenset[int] = frozenset()
    error: RaveError | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class PresenceCheck:
    """Answers for all rooms, from answers of Rave that are seconds old at most."""

    def __init__(
        self, users: Callable[[str], Awaitable[Collection[int]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`users` asks Rave whom it lists in a mesh, and raises `RaveError`; `clock` is in monotonic seconds."""
        self._users = users
        self._clock = clock
        self._rooms: dict[str, _RoomPresence] = {}

    async def insist(self, mesh: str, user: int) -> None:
        """Return if the user is in the room.

        Raises `RaveError`: AccessDenied if not, and what kept us from asking Rave, with words for the chat in its
        attribute `refused`.
        """
        self._drop_old()
        room = self._rooms.setdefault(mesh, _RoomPresence())
        # Two that come at once share one answer: the second one finds it when the lock is free.
        async with room.asking:
            age = self._clock() - room.at
            stale = age >= (FRESH_S if user in room.users else _ASK_AGAIN_S)
            if stale:
                await self._ask(mesh, room)
        if room.error:
            what = "it can't be checked who is in this room"
            raise RaveError(room.error.code, f"{what}: {room.error.message}", refused=what) from room.error
        if user not in room.users:
            if stale:
                # No more often than Rave is asked: a bot that was taken over may name such users without end.
                log.warning("A user whom Rave does not list in mesh %s is refused", mesh, extra=about(mesh))
            text = _("Rave does not list you among the users of this room")
            raise RaveError(Code.ACCESS_DENIED, text, hint=_("try again later, or ask an operator"))

    async def _ask(self, mesh: str, room: _RoomPresence) -> None:
        room.users, room.error = frozenset(), None
        try:
            room.users = frozenset(await self._users(mesh))
        except RaveError as e:
            room.error = e
        # Of now: a slow answer must not be old when it comes.
        room.at = self._clock()

    def _drop_old(self) -> None:
        now = self._clock()
        old = [
            mesh
            for mesh, room in self._rooms.items()
            if now - room.at >= FRESH_S and not room.asking.locked() and room.at != float("-inf")
        ]
        for mesh in old:
            del self._rooms[mesh]
