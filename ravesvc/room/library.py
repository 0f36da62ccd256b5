"""The WebSocket library, websockets, without what it brings along: the only module of a bot that imports it.

It imports `importlib.metadata` for development versions of itself, and `urllib.request` to find the proxy of a
connection that it opens; ours come from `dial.py`. Both, and what they import, would cost each bot 2 MB.
"""

from __future__ import annotations

from ravesvc.common.deferred_imports import deferred

with deferred("importlib.metadata", "urllib.request"):
    from websockets.asyncio.client import ClientConnection
    from websockets.client import ClientProtocol
    from websockets.datastructures import Headers
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidHandshake,
        InvalidMessage,
        InvalidStatus,
        PayloadTooBig,
        WebSocketException,
    )
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Response
    from websockets.protocol import State
    from websockets.typing import Subprotocol
    from websockets.uri import parse_uri

__all__ = [
    "ClientConnection",
    "ClientProtocol",
    "ConnectionClosed",
    "Frame",
    "Headers",
    "InvalidHandshake",
    "InvalidMessage",
    "InvalidStatus",
    "Opcode",
    "PayloadTooBig",
    "Response",
    "State",
    "Subprotocol",
    "WebSocketException",
    "parse_uri",
]
