"""Somebody who lets every caller pass, and notes what they asked for."""

from __future__ import annotations

from ravesvc.bus import Call


class FakeAuthority:
    """Takes everybody for ann."""

    def __init__(self) -> None:
        self.rights: list[tuple[str, str | None]] = []
        self.user = "ann"

    async def __call__(self, call: Call, action: str | None) -> None:
        self.rights.append((call.member, action))

    async def actor(self, call: Call) -> str:
        return self.user
