"""What a room tells, and to whom."""

from __future__ import annotations

from typing import Protocol

from ravesvc.room.changes import Change
from ravesvc.room.chat import ChatMessage


class RoomListener(Protocol):
    """Who is told what happens in a room, in the order in which it happened. The methods must not block."""

    def on_chat(self, message: ChatMessage) -> None:
        """Another user wrote something."""

    def on_joined(self, users: frozenset[int]) -> None:
        """Users came; `Room.users` has them already."""

    def on_left(self, users: frozenset[int]) -> None:
        """Users went; `Room.users` no longer has them."""

    def on_change(self, change: Change) -> None:
        """Something else in the room is different now; `Room.state` has it already."""

    def on_kicked(self) -> None:
        """We were thrown out. Called once, at once; the end of the connection follows."""
