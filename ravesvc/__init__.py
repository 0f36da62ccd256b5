"""Chat bots for Rave, one systemd unit per mesh; `BotManager` has all of them in one process."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`BotManager`, when somebody asks for it: a child, which imports this package too, can't afford it."""
    if name == "BotManager":
        import importlib

        # By its name alone, because a tool that reads imports would take it for one of every module's.
        return importlib.import_module("ravesvc.single.manager").BotManager
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
