"""A server that sends without a break: the process goes on with all else, keeps little of it, and leaves."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ravesvc.common.token_bucket import Rate
from ravesvc.room import connection
from ravesvc.room.close import Close, CloseKind
from tests.unit.authority import Authority
from tests.unit.loop_turns import MAX_TURN_S, turns
from tests.unit.room_server import Guest, make_room, mesh_server

_MAX_KEPT_BYTES = 12 << 20


def text_frame(text: bytes, *, first: int = 0x81) -> bytes:
    """A whole text frame of less than 64 KiB as it is on the wire."""
    assert len(text) < 1 << 16
    size = bytes([len(text)]) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2, "big")
    return bytes([first]) + size + text


def json_frame(**frame: Any) -> bytes:
    return text_frame(json.dumps(frame).encode())


PING = b"\x89\x00"
PONG = b"\x8a\x00"
REQUEST = json_frame(request=True, id=7, method="chatMessage", data={})
UNKNOWN = json_frame(request=True, id=7, method="x", data={})
CHAT = json_frame(notification=True, method="chatMessage", data={"from": "5_d", "id": "m", "chat": "x"})
STATE = json_frame(notification=True, method="stateMessage", data={"message": '{"users":[1],"mesh_state":{}}'})


@contextmanager
def flooding(authority: Authority, frames: bytes, *, first: bytes = b"") -> Iterator[str]:
    """The address of a server, on a thread of its own, that lets us in and then sends `frames` for ever."""
    started, stop = threading.Event(), threading.Event()
    port = 0

    async def flood(guest: Guest) -> None:
        await guest.admit()
        guest.socket.transport.write(first)
        with suppress(ConnectionError):
            while not guest.socket.transport.is_closing() and not stop.is_set():
                guest.socket.transport.write(frames)
                await guest.socket.drain()

    async def serve() -> None:
        nonlocal port
        async with mesh_server(authority, flood) as server:
            port = server.port
            started.set()
            await asyncio.get_running_loop().run_in_executor(None, stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="flooding server")
    thread.start()
    try:
        assert started.wait(10)
        yield f"localhost:{port}"
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


async def end_under_flood(authority: Authority, server: str) -> tuple[Close, float, int]:
    """How the room ends, the longest turn until then in seconds, and the most memory in bytes."""
    room = make_room(authority, server, _Deaf())
    await room.open()
    tracemalloc.start()
    try:
        with turns() as found:
            close = await room.run()
        return close, found.longest, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class _Deaf:
    """Hears everything and keeps nothing."""

    def __getattr__(self, _name: str) -> Callable[[object], None]:
        return lambda _what: None


@pytest.mark.slow
@pytest.mark.parametrize(
    "frame", [PING, PONG, REQUEST, UNKNOWN, CHAT, STATE], ids=["ping", "pong", "request", "unknown", "chat", "state"]
)
async def test_a_server_that_floods_is_left_and_holds_nothing_up(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, frame: bytes
) -> None:
    # On a busy machine a frame may take longer than between two that are allowed.
    monkeypatch.setattr(connection, "_FRAME_RATE", Rate(2_000, 20))

    with flooding(authority, frame * (262_144 // len(frame))) as server:
        close, longest, memory = await end_under_flood(authority, server)
    assert close.kind is CloseKind.LOST
    assert close.reason == "the server sends more than 20 frames a second"
    assert longest < MAX_TURN_S
    assert memory < _MAX_KEPT_BYTES


async def test_so_is_one_whose_message_has_no_end(authority: Authority) -> None:
    """Its pieces are empty, so that the limit on the bytes of a message is never met."""

    with flooding(authority, b"\x00\x00" * 100_000, first=b"\x01\x00") as server:
        close, longest, memory = await end_under_flood(authority, server)
    assert close.kind is CloseKind.LOST
    assert close.reason == "the server sends a message in more than 1000 pieces"
    assert longest < MAX_TURN_S
    assert memory < _MAX_KEPT_BYTES


@pytest.mark.slow
async def test_a_burst_that_ends_is_taken(authority: Authority) -> None:
    """What came in while the process was stopped: as much as a busy room says in half a minute."""
    heard = 0
    done = asyncio.Event()

    class Counting(_Deaf):
        def on_chat(self, _message: object) -> None:
            nonlocal heard
            heard += 1
            if heard == 5_000:
                done.set()

    async def burst(guest: Guest) -> None:
        await guest.admit()
        guest.socket.transport.write(CHAT * 5_000)
        await guest.hold()

    async with mesh_server(authority, burst) as server:
        room = make_room(authority, server, Counting())
        await room.open()
        await done.wait()
        assert room.connected
        await room.close()
