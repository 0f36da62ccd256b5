"""Chat bots for Rave, one systemd unit per mesh; `BotManager` has all of them in one process."""

from __future__ import annotations

from typing import Any

from ravesvc.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    """Import `BotManager` on first use: a bot's process imports this package too, and can't afford all of it."""
    if name == "BotManager":
        from ravesvc.single.manager import BotManager

        return BotManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
