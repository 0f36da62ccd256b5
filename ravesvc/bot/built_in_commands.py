"""The commands that every bot has of its own: no plugin may have the name of one."""

from __future__ import annotations

from typing import Any

from ravesvc.bot import admin, builtin, moderation, privacy, settings_commands, video_commands
from ravesvc.bot.command import Registry

# What the commands ask when they run, which none does here.
_NOTHING: Any = None


def built_in_commands() -> Registry:
    """All of them, to be looked at."""
    registry = Registry()
    builtin.register(registry)
    admin.register(registry, _NOTHING, _NOTHING, _NOTHING)
    moderation.register(registry, _NOTHING)
    settings_commands.register(registry, _NOTHING)
    privacy.register(registry, _NOTHING)
    video_commands.register(registry, _NOTHING, _NOTHING, _NOTHING)
    return registry
