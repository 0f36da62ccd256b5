"""What the bot tells about itself and its mesh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class BotInfo:
    """Kept up to date by whoever runs the bot.

    Attributes:
        title: the mesh's title, as strangers wrote it.
        server: host of the mesh's socket server.
        version: of this program.
        connected_since: on the bot's (monotonic) clock, or None while not connected.
        reconnects: how often the connection was made anew.
    """

    version: str
    title: str = ""
    server: str = ""
    connected_since: float | None = None
    reconnects: int = 0
