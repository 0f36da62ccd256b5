from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.process
def test_plugins_can_connect_with_the_library() -> None:
    """It asks `urllib.request`, which we keep away from it, for a proxy."""
    script = """
import asyncio, socket
import ravesvc.room.library
from websockets.asyncio.client import connect
with socket.socket() as closed:
    closed.bind(("127.0.0.1", 0))
    try:
        asyncio.run(connect("ws://127.0.0.1:%d" % closed.getsockname()[1]).__aenter__())
    except ConnectionRefusedError:
        print("tried")
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "tried\n"
