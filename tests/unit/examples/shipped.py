"""The plugins in docs/examples, and rooms to try them in."""

from __future__ import annotations

from pathlib import Path

from ravesvc.testing import FakeRoom

EXAMPLES = Path(__file__).parents[3] / "docs/examples"


def restarted(room: FakeRoom, *, prefixes: tuple[str, ...] = ("?",)) -> FakeRoom:
    """Another room, with what the bot has remembered in the first one. Users: Ann, Bob, and Eve, who is an admin."""
    other = FakeRoom(admins=["Eve"], prefixes=prefixes)
    other.user_id("Ann")
    other.user_id("Bob")
    other.service.documents = room.service.documents
    return other


def new_room(*, prefixes: tuple[str, ...] = ("?",)) -> FakeRoom:
    """A room where nothing is remembered."""
    return restarted(FakeRoom(), prefixes=prefixes)


def only(said: list[str]) -> str:
    """The one message, without the id of an error."""
    assert len(said) == 1, said
    return said[0].partition(" (error ")[0]
