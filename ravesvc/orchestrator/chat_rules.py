"""What the configuration says of changes that admins make from rooms."""

from __future__ import annotations

from dataclasses import dataclass

from ravesvc.config import OWNERS


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRules:
    """The options with these names, see rave.yaml(5)."""

    admins_by_chat: str

    @property
    def owners_alone(self) -> bool:
        """Whether only owners make and remove admins from a room."""
        return self.admins_by_chat == OWNERS
