"""Chat bots for Rave, one systemd unit per mesh; `BotManager` has all of them in one process."""

from __future__ import annotations

from typing import Any

from ravesvc.version import __version__ as __version__

# What programs that were written for the Node.js bot import, and what does the same here.
_ELSEWHERE = {
    "LegacyBotManager": "use ravesvc.BotManager, which has all bots in one process",
    "ProcessManager": "the service rave-orchestrator runs each mesh in a process, ravesvc.BotManager all in one",
}


def __getattr__(name: str) -> Any:
    """Import `BotManager` on first use: a bot's process imports this package too, and can't afford all of it.

    Raises `ImportError` for a name of the Node.js bot: `from ravesvc import` hides the text of an `AttributeError`.
    """
    if name == "BotManager":
        from ravesvc.single.manager import BotManager

        return BotManager
    if name in _ELSEWHERE:
        raise ImportError(f"ravesvc has no {name}: {_ELSEWHERE[name]}", name=__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
