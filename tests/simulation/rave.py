"""Rave as it is played here: rooms, what lists say of them, what keeps a bot out, and troubles of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from ravesvc.api.models import Mesh, MeshMode
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.room.close import CloseKind
from tests.unit.scenarios.world import API_HOST, OWN

_ANSWER_S = 0.05
# A client gives up after so many seconds.
_CLIENT_TIMEOUT_S = 30.0


class Door(StrEnum):
    """What happens to a bot that knocks at a room."""

    OPEN = "open"
    SILENT = "silent"  # Its server does not answer.
    SHUT = "shut"  # Its server turns the bot away.
    ELSEWHERE = "elsewhere"  # The account is connected there from another place.
    MISSING = "missing"  # Rave says that there is no such room.
    BULKY = "bulky"  # What it sends is larger than a bot takes.
    KICKS = "kicks"  # It lets the bot in, and throws it out.


@dataclass(slots=True)
class Room:
    """One room. `members` are the users in it but for the bot, `invited` tells whether the bot is.

    The next `late_lists` lists have it as if the bot was still invited, though the bot has left it.
    """

    id: str
    server: str
    originator: int
    members: tuple[int, ...]
    invited: bool = True
    public: bool = False
    late_lists: int = 0
    exists: bool = True
    door: Door = Door.OPEN

    def listed(self) -> Mesh:
        """What a list says of it."""
        return Mesh(self.id, self.server, "A film", self.seems_to_invite, self.members, self.originator)

    @property
    def seems_to_invite(self) -> bool:
        """Whether a list that is read now says that the bot is invited."""
        return self.invited or self.late_lists > 0

    def uninvite(self, late_lists: int) -> None:
        """The bot is invited no more, which so many lists do not know yet."""
        # The first one that begins from now on counts it down at once.
        self.invited, self.late_lists = False, late_lists + 1 if late_lists else 0


@dataclass(slots=True)
class Troubles:
    """What is wrong with Rave as a whole.

    Attributes:
        down: nothing answers, in a word how; empty if it does answer.
        slow_s: seconds that an answer takes longer.
        pause_s: seconds of the pause that it asks for; 0 if it asks for none.
        broken_list: in which way lists can't be read: "first page", "later page", "senseless"; empty if they can.
        hidden: the rooms that lists lack, though they are there.
        sudden: those of `hidden` that have vanished from the lists at once, most of all that had a bot.
        servers: those that let no bot in.
    """

    down: str = ""
    slow_s: float = 0.0
    pause_s: float = 0.0
    broken_list: str = ""
    hidden: set[str] = field(default_factory=set)
    sudden: set[str] = field(default_factory=set)
    servers: set[str] = field(default_factory=set)
    session_refused: bool = False


_DOWN = {
    "timeout": (Code.TIMEOUT, f"{API_HOST} does not answer"),
    "network": (Code.NETWORK, f"{API_HOST} can't be reached"),
    "server error": (Code.SERVER_ERROR, "Rave has a problem (HTTP 503)"),
    "gateway": (Code.NOT_FOUND, "not found (HTTP 404)"),
}
DOWN = tuple(_DOWN)


class Rave:
    """The rooms by id, and the `troubles`."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.troubles = Troubles()

    def ask(self) -> None:
        """A request of any kind; raises `RaveError` for what keeps it from an answer."""
        troubles = self.troubles
        if troubles.down:
            code, words = _DOWN[troubles.down]
            raise RaveError(code, words)
        if troubles.pause_s:
            raise RaveError(Code.RATE_LIMITED, "too many requests (HTTP 429)", retry_after=troubles.pause_s)
        if troubles.session_refused:
            raise RaveError(Code.UNAUTHORIZED, "the session is not valid (HTTP 401)", session_named=True)

    def page(self, source: MeshMode, size: int, cursor: str | None) -> tuple[list[Mesh], str | None]:
        """A page of a list, and the cursor of the next."""
        self.ask()
        troubles, first = self.troubles, int(cursor or 0)
        if troubles.broken_list == ("later page" if first else "first page"):
            raise RaveError(Code.SERVER_ERROR, "Rave has a problem (HTTP 500)")
        if troubles.broken_list == "senseless":
            raise RaveError(Code.BAD_DATA, "Rave's answer makes no sense")
        if source is MeshMode.INVITED and not first:
            for room in self.rooms.values():
                room.late_lists = max(0, room.late_lists - 1)
        found = [room.listed() for room in self.rooms.values() if self._is_listed(room, source)]
        more = first + size < len(found)
        return found[first : first + size], str(first + size) if more else None

    def lists(self, room: Room, *, all_sources: bool) -> bool:
        """Whether the lists that the service reads should have a room."""
        return room.exists and (room.invited or (all_sources and room.public))

    def _is_listed(self, room: Room, source: MeshMode) -> bool:
        there = room.exists and room.id not in self.troubles.hidden
        return there and (
            room.seems_to_invite if source is MeshMode.INVITED else source is MeshMode.PUBLIC and room.public
        )

    def leave(self, mesh: str) -> None:
        """The account leaves a room, and loses its invitation."""
        self.ask()
        if room := self.rooms.get(mesh):
            room.invited = False

    def knock(self, mesh: str) -> CloseKind | None:
        """A bot wants to get in: None if it does, CloseKind if the room's server ends it. Raises `RaveError`."""
        self.ask()
        room = self.rooms.get(mesh)
        if room is None or not room.exists or room.door is Door.MISSING:
            raise RaveError(Code.NOT_FOUND, "there is no such mesh (HTTP 404)")
        if room.server in self.troubles.servers or room.door is Door.SILENT:
            raise RaveError(Code.NETWORK, f"{room.server} can't be reached")
        match room.door:
            case Door.SHUT:
                raise RaveError(Code.REFUSED, f"{room.server} turns the bot away (HTTP 403)")
            case Door.ELSEWHERE:
                raise RaveError(Code.BUSY, "the account is connected elsewhere")
            case Door.BULKY:
                return CloseKind.TOO_LARGE
            case Door.KICKS:
                return CloseKind.KICKED
        return None


class RaveApi:
    """Stands in the place of `ravesvc.api.client.Api`. `cross` is called before each request."""

    def __init__(self, rave: Rave, cross: Callable[[str], None]) -> None:
        self._rave = rave
        self._cross = cross

    def set_session(self, session: Session) -> None:
        """The account stays the same here."""

    async def page(self, source: MeshMode, size: int, cursor: str | None, lang: str) -> tuple[list[Mesh], str | None]:
        """See `Api.page`."""
        await self._wait("a list")
        return self._rave.page(source, size, cursor)

    async def me(self) -> int:
        """Whose session it is."""
        await self._wait("whose session it is")
        self._rave.ask()
        return OWN

    async def leave(self, mesh: str, *, may_repeat: object = None) -> None:
        """See `Api.leave`; it is not repeated here."""
        await self._wait("a leave")
        self._rave.leave(mesh)

    async def close(self) -> None:
        """There is no connection."""

    async def _wait(self, what: str) -> None:
        self._cross(f"asks Rave for {what}")
        took = _ANSWER_S + self._rave.troubles.slow_s
        await asyncio.sleep(min(took, _CLIENT_TIMEOUT_S))
        if took > _CLIENT_TIMEOUT_S:
            raise RaveError(Code.TIMEOUT, f"{API_HOST} does not answer")
        self._cross(f"is answered by Rave: {what}")
