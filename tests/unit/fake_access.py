"""An access check that lets every caller pass, and records the rights that calls need."""

from __future__ import annotations

from ravesvc.bus import Call


class FakeAccessCheck:
    """Takes every caller for ann."""

    def __init__(self) -> None:
        self.rights: list[tuple[str, str | None]] = []
        self.user = "ann"

    async def __call__(self, call: Call, action: str | None) -> None:
        self.rights.append((call.member, action))

    async def actor(self, call: Call) -> str:
        return self.user
