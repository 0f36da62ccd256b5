"""The interface through which a room reports what happens."""

from __future__ import annotations

from typing import Protocol

from ravesvc.room.changes import Change
from ravesvc.room.chat import ChatMessage


class RoomListener(Protocol):
    """A room calls these methods in the order in which things happen. They must not block."""

    def on_chat(self, message: ChatMessage) -> None:
        """Another user wrote something, or reacted to a message."""

    def on_joined(self, users: frozenset[int]) -> None:
        """Users came; `Room.users` has them already."""

    def on_left(self, users: frozenset[int]) -> None:
        """Users went; `Room.users` no longer has them."""

    def on_change(self, change: Change) -> None:
        """Something else in the room is different now; `Room.state` has it already."""

    def on_kicked(self) -> None:
        """The bot was kicked. Called once, at once; the end of the connection follows."""
