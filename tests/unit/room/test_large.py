"""Large rooms: what real ones send is taken, and beyond that the connection ends for a reason of its own."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError
from ravesvc.room.close import Close, CloseKind
from ravesvc.room.frames import MAX_MESSAGE_BYTES
from tests.unit.authority import Authority
from tests.unit.room_server import Guest, make_room, mesh_server


def users(count: int) -> list[dict[str, Any]]:
    """As the wire has them."""
    return [
        {"user_id": 600_000_000 + n, "when_joined": 1_700_000_000.25, "is_leader": False, "order": n}
        for n in range(count)
    ]


async def wait_for_end(authority: Authority, send: Callable[[Guest], Any], *, admit: bool = True) -> Close:
    """How a room ends whose server sends something, after letting us in or instead of it."""

    async def script(guest: Guest) -> None:
        if admit:
            await guest.admit()
        else:
            await guest.receive()
        await send(guest)
        # The handshake of the end is the library's.
        await guest.hold()

    async with mesh_server(authority, script) as server:
        room = make_room(authority, server)
        if admit:
            await room.open()
            return await room.run()
        with pytest.raises(RaveError) as caught:
            await room.open()
        assert caught.value.code is Code.TOO_LARGE
        assert room.closed
        assert caught.value.message == room.closed.reason
        return room.closed


@pytest.mark.slow
@pytest.mark.parametrize("count", [6_000, 10_000])
async def test_a_room_of_thousands_is_taken(authority: Authority, count: int) -> None:
    async def script(guest: Guest) -> None:
        await guest.admit()
        await guest.state(
            users=users(count),
            mesh_state={},
            votes=[{"url": "https://localhost/v", "user_id": n} for n in range(2_000)],
            likeskips=list(range(1_000)),
            kicks=list(range(1, 1_000)),
            messages=[{"chat": "long ago " * 20} for n in range(1_000)],
        )
        await guest.say("and now?")
        await guest.hold()

    async with mesh_server(authority, script) as server:
        room = make_room(authority, server, listener := _Chat())
        await room.open()
        await listener.heard.wait()
        assert len(room.users) == count
        assert room.connected
        await room.close()


class _Chat:
    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def on_chat(self, message: object) -> None:
        self.heard.set()

    def on_joined(self, users: frozenset[int]) -> None:
        raise AssertionError("the first list of all says who was here")

    def on_left(self, users: frozenset[int]) -> None:
        raise AssertionError("nobody left")

    def on_change(self, change: object) -> None:
        """It is about the video, not about users."""

    def on_kicked(self) -> None:
        raise AssertionError("nobody was kicked")


@pytest.mark.slow
@pytest.mark.parametrize("admit", [True, False], ids=["in the room", "at the door"])
async def test_a_message_beyond_the_limit_ends_it_for_that_reason(authority: Authority, admit: bool) -> None:
    size = MAX_MESSAGE_BYTES + 1

    close = await wait_for_end(authority, lambda guest: guest.socket.send("x" * size), admit=admit)
    assert close.kind is CloseKind.TOO_LARGE
    assert close.reason == f"a message of {size} bytes, where {MAX_MESSAGE_BYTES} are the limit"


@pytest.mark.slow
async def test_so_does_one_in_pieces(authority: Authority) -> None:
    pieces = ["x" * (MAX_MESSAGE_BYTES // 2)] * 3
    close = await wait_for_end(authority, lambda guest: guest.socket.send(pieces))
    assert close.kind is CloseKind.TOO_LARGE
    assert f"a message of {3 * (MAX_MESSAGE_BYTES // 2)} bytes" in close.reason


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * 200_000 + "[]]",
        '{"a":' + "[" + "{}," * 200_000 + "{}]}",
        '{"notification":true,"method":"stateMessage","data":{"message":"[' + "0," * 200_000 + ' 0]"}}',
        # The same, hidden by escapes.
        '{"notification":true,"method":"stateMessage","data":{"message":"[0' + "\\u002c0" * 200_000 + ']"}}',
    ],
    ids=["lists", "objects", "text", "escapes"],
)
async def test_a_message_that_would_fill_the_memory_ends_it_before_it_is_decoded(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert len(text) < MAX_MESSAGE_BYTES

    close = await wait_for_end(authority, lambda guest: guest.socket.send(text))
    assert close.kind is CloseKind.TOO_LARGE
    assert "values, where 75000 are the limit" in close.reason


async def test_that_our_own_message_was_too_large_is_something_else(authority: Authority) -> None:
    close = await wait_for_end(authority, lambda guest: guest.socket.close(1009, "yours was too big"))
    assert close.kind is CloseKind.REJECTED
    assert close.code == 1009


@pytest.mark.slow
def test_the_dearest_message_within_the_limit_is_read_in_a_moment() -> None:
    pairs = ",".join(f'"{"k" * 30}{number}":0.5' for number in range(json_fields.MAX_VALUES - 1))
    taken = [math.inf]
    # Other work on the machine takes the caches away, so that it takes up to twice as long for a while.
    while min(taken) >= 0.1 and len(taken) <= 30:
        begun = time.thread_time()
        json_fields.parse_message(f"{{{pairs}}}", "it")
        taken.append(time.thread_time() - begun)
    # On a quiet machine it is half of that at most.
    assert min(taken) < 0.1


def test_values_in_strings_are_counted_only_in_what_is_long() -> None:
    few, many = ("," * (json_fields.MAX_VALUES - 3 + extra) for extra in (0, 1))
    for text in (few, few.encode()):
        json_fields.parse_message(
            b'{"a":[",%b"]}' % text if isinstance(text, bytes) else f'{{"a":[",{text}"]}}', "it"
        )
    for text in (many, many.encode()):
        with pytest.raises(RaveError, match="it has 75001 values, where 75000 are the limit"):
            json_fields.parse_message(
                b'{"a":[",%b"]}' % text if isinstance(text, bytes) else f'{{"a":[",{text}"]}}', "it"
            )
