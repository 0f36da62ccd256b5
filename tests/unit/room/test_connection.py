"""Opening a room: what the server sees, and every way in which it fails."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.utils import accept_key

from ravesvc.errors import Code, RaveError
from ravesvc.room.close import CloseKind
from ravesvc.room.peer import Timings
from ravesvc.room.room import Room
from tests.unit.authority import Authority, make_authority
from tests.unit.conftest import until
from tests.unit.room_server import (
    MESH,
    NEVER,
    SESSION,
    TOKEN,
    Guest,
    Listener,
    make_room,
    mesh_server,
    port_of,
    server_context,
)

pytestmark = pytest.mark.slow

Run = Callable[[Any], Any]


async def admit(guest: Guest) -> None:
    await guest.admit()
    await guest.hold()


async def opening_error(room: Room) -> RaveError:
    with pytest.raises(RaveError) as caught:
        await room.open()
    assert not room.connected
    assert await room.run() is room.closed
    assert TOKEN not in str(caught.value)
    return caught.value


async def test_the_request_of_the_upgrade(authority: Authority) -> None:
    async with mesh_server(authority, admit) as server:
        room = make_room(authority, f"wss://localhost:{server.port}")
        await room.open()
        assert room.connected
        await room.close()
    (request,) = server.requests
    headers = request.headers
    assert request.path == f"/?roomId={MESH}&peerId={SESSION.peer_id}"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["API-Version"] == "4"
    assert headers["Sec-WebSocket-Protocol"] == "protoo"
    assert headers["Host"] == f"localhost:{server.port}"
    assert "User-Agent" not in headers
    assert "Sec-WebSocket-Extensions" not in headers


async def test_no_token_no_header(authority: Authority) -> None:
    async with mesh_server(authority, admit) as server:
        room = make_room(authority, server, session=replace(SESSION, auth_token=""))
        await room.open()
        await room.close()
    assert "Authorization" not in server.requests[0].headers


def test_nothing_secret_is_logged_even_with_debugging_on(
    run: Run, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def body() -> None:
        async with mesh_server(authority, admit) as server:
            # The server in this process would write the header, too.
            logging.getLogger("websockets.server").setLevel(logging.WARNING)
            room = make_room(authority, server)
            await room.open()
            await room.close()

    run(body())
    assert "connection ended" in caplog.text
    assert TOKEN not in caplog.text
    assert SESSION.device_id not in caplog.text


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.BAD_REQUEST),
        (401, Code.UNAUTHORIZED),
        (403, Code.FORBIDDEN),
        (404, Code.NOT_FOUND),
        (418, Code.REFUSED),
        (429, Code.RATE_LIMITED),
        (500, Code.SERVER_ERROR),
        (503, Code.SERVER_ERROR),
    ],
)
async def test_a_refused_upgrade(authority: Authority, status: int, code: Code) -> None:
    async with mesh_server(authority, admit) as server:
        server.refuse = (status, {})
        room = make_room(authority, server)
        error = await opening_error(room)
    assert error.code is code
    assert error.attributes["status"] == status
    assert room.closed
    assert (room.closed.kind, room.closed.code) == (CloseKind.REFUSED, status)
    assert (room.closed.opened, room.closed.held) == (False, 0.0)


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_redirect_is_not_followed(authority: Authority, status: int) -> None:
    async with mesh_server(authority, admit) as server, mesh_server(authority, admit) as other:
        server.refuse = (status, {"Location": f"wss://localhost:{other.port}/"})
        error = await opening_error(make_room(authority, server))
    assert error.code is Code.REFUSED
    assert len(server.requests) == 1
    assert not other.requests


async def test_a_server_without_protoo(authority: Authority) -> None:
    async with mesh_server(authority, admit, subprotocols=()) as server:
        assert (await opening_error(make_room(authority, server))).code is Code.BAD_DATA


async def test_an_address_that_is_none(authority: Authority) -> None:
    room = make_room(authority, "user:pw@localhost:1/x")
    assert (await opening_error(room)).code is Code.BAD_DATA
    assert room.closed
    assert (room.closed.kind, room.closed.opened) == (CloseKind.LOST, False)


async def test_an_untrusted_certificate(authority: Authority, tmp_path: Path) -> None:
    async with mesh_server(authority, admit) as server:
        room = make_room(make_authority(tmp_path), server)
        error = await opening_error(room)
    assert error.code is Code.TLS
    assert "tls.ca_file" in error.hint
    assert room.closed
    assert room.closed.kind is CloseKind.LOST
    assert not server.requests


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    other = make_authority(tmp_path, "DNS:example.test")
    async with mesh_server(other, admit) as server:
        error = await opening_error(make_room(other, server))
    assert error.code is Code.TLS


async def test_no_server(authority: Authority) -> None:
    async with mesh_server(authority, admit) as server:
        pass
    error = await opening_error(make_room(authority, server))
    assert error.code is Code.NETWORK


async def raw_server_error(authority: Authority, answer: bytes, *, tls: bool = True) -> RaveError:
    """What `open` raises when a server reads a request and sends `answer`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    context = server_context(authority) if tls else None
    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as server:
        return await opening_error(make_room(authority, f"localhost:{port_of(server)}"))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", Code.NETWORK),
        (b"hello\r\n\r\n", Code.NETWORK),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Code.BAD_DATA),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Code.REFUSED),
    ],
)
async def test_what_is_no_web_socket_server(authority: Authority, answer: bytes, code: Code) -> None:
    assert (await raw_server_error(authority, answer)).code is code


async def test_no_tls(authority: Authority) -> None:
    assert (await raw_server_error(authority, b"HTTP/1.1 400 Bad Request\r\n\r\n", tls=False)).code is Code.TLS


@asynccontextmanager
async def hanging_server(authority: Authority, *, tls: bool) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that only reads. Yields its address and an event for the first connection, and waits for its end."""
    connected, hung_up = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        try:
            while await reader.read(1000):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()
        hung_up.set()

    context = server_context(authority) if tls else None
    async with await asyncio.start_server(hang, "127.0.0.1", 0, ssl=context) as server:
        yield f"localhost:{port_of(server)}", connected
        await hung_up.wait()


@pytest.mark.parametrize("tls", [False, True], ids=["before TLS", "after TLS"])
async def test_a_server_that_hangs(authority: Authority, tls: bool) -> None:
    async with hanging_server(authority, tls=tls) as (server, _):
        room = make_room(authority, server, timings=Timings(opening_timeout_s=0.3))
        assert (await opening_error(room)).code is Code.TIMEOUT
    assert room.closed
    assert (room.closed.kind, room.closed.opened) == (CloseKind.LOST, False)


# The one is to end when the connection is open already, on a busy machine too.
@pytest.mark.slow
@pytest.mark.parametrize(
    "timings", [Timings(opening_timeout_s=1.0), Timings(answer_timeout_s=0.2)], ids=["opening", "answer"]
)
async def test_fully_joined_without_an_answer(authority: Authority, timings: Timings) -> None:
    ends: list[Any] = []

    async def silent(guest: Guest) -> None:
        await guest.receive()
        ends.append(await guest.hold())

    async with mesh_server(authority, silent) as server:
        room = make_room(authority, server, timings=timings)
        assert (await opening_error(room)).code is Code.TIMEOUT
        assert room.closed
        assert (room.closed.kind, room.closed.opened) == (CloseKind.LOST, True)
    assert ends[0][0] == 1000


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"ok": False, "errorCode": 403, "errorReason": "not allowed"}, CloseKind.REJECTED),
        ({"errorCode": 403, "errorReason": "not allowed"}, CloseKind.REJECTED),
        ({"ok": False}, CloseKind.REJECTED),
        ({"errorCode": 500}, CloseKind.LOST),
    ],
)
async def test_fully_joined_refused(authority: Authority, answer: dict[str, Any], kind: CloseKind) -> None:
    async def refuse(guest: Guest) -> None:
        frame = await guest.receive()
        await guest.send(response=True, id=frame["id"], **answer)
        assert (await guest.hold())[0] == 1000

    async with mesh_server(authority, refuse) as server:
        room = make_room(authority, server)
        error = await opening_error(room)
    assert error.code is Code.REFUSED
    assert error.attributes["error_code"] == answer.get("errorCode", 0)
    assert str(answer.get("errorReason", "")) in str(error)
    assert room.closed
    assert (room.closed.kind, room.closed.opened) == (kind, True)


@pytest.mark.parametrize("code", [1000, 1008, 4000, 4400])
async def test_closed_instead_of_let_in(authority: Authority, code: int) -> None:
    async def close(guest: Guest) -> None:
        await guest.socket.close(code, "go away")

    async with mesh_server(authority, close) as server:
        room = make_room(authority, server)
        error = await opening_error(room)
    assert error.code is Code.CLOSED
    assert room.closed
    assert (room.closed.kind, room.closed.code, room.closed.opened) == (CloseKind.REJECTED, code, True)
    assert room.closed.reason == f"the server closed the connection with code {code}: go away"
    assert room.closed.held < 5


@pytest.mark.slow
async def test_closed_in_the_same_breath_as_the_upgrade(authority: Authority) -> None:
    hung_up = asyncio.Event()

    async def upgrade_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split()[1] for line in head.splitlines() if line.lower().startswith("sec-websocket-key:"))
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: protoo\r\nSec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
            b"\x88\x02\x03\xe8"
        )
        await reader.read()
        writer.close()
        hung_up.set()

    context = server_context(authority)
    async with await asyncio.start_server(upgrade_and_close, "127.0.0.1", 0, ssl=context) as server:
        room = make_room(authority, f"localhost:{port_of(server)}")
        assert (await opening_error(room)).code is Code.CLOSED
        await hung_up.wait()
    assert room.closed
    assert (room.closed.kind, room.closed.code, room.closed.held) == (CloseKind.REJECTED, 1000, 0.0)


async def test_broken_instead_of_let_in(authority: Authority) -> None:
    async def cut(guest: Guest) -> None:
        await guest.receive()
        guest.socket.transport.abort()

    async with mesh_server(authority, cut) as server:
        room = make_room(authority, server)
        assert (await opening_error(room)).code is Code.CLOSED
    assert room.closed
    assert (room.closed.kind, room.closed.code) == (CloseKind.LOST, 1006)


async def test_kicked_instead_of_let_in(authority: Authority) -> None:
    async def kick(guest: Guest) -> None:
        await guest.notify("kicked")
        await guest.hold()

    listener = Listener()
    async with mesh_server(authority, kick) as server:
        room = make_room(authority, server, listener)
        assert (await opening_error(room)).code is Code.CLOSED
    assert room.closed
    assert room.closed.kind is CloseKind.KICKED
    assert listener.rest() == [("kicked", None)]


async def test_not_connected_before_fully_joined_is_granted(authority: Authority) -> None:
    asked, grant = asyncio.Event(), asyncio.Event()

    async def wait(guest: Guest) -> None:
        frame = await guest.receive()
        asked.set()
        await grant.wait()
        await guest.grant(frame)
        await guest.hold()

    async with mesh_server(authority, wait) as server:
        room = make_room(authority, server)
        opening = asyncio.create_task(room.open())
        await asked.wait()
        assert not room.connected
        with pytest.raises(RaveError) as caught:
            await room.chat("too early")
        assert caught.value.code is Code.CLOSED
        grant.set()
        await opening
        assert room.connected
        await room.close()
        assert not room.connected


async def test_a_cancelled_opening_says_goodbye(authority: Authority) -> None:
    asked = asyncio.Event()
    heard: list[tuple[int | None, str | None]] = []

    async def listen(guest: Guest) -> None:
        # By now the server may take us for one of its own.
        await guest.receive()
        asked.set()
        heard.append(await guest.hold())

    async with mesh_server(authority, listen) as server:
        room = make_room(authority, server)
        opening = asyncio.create_task(room.open())
        await asked.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: heard)
    assert heard == [(1000, "the opening was stopped")]
    assert room.closed
    assert room.closed.kind is CloseKind.LOCAL


async def test_a_cancelled_opening_leaves_nothing_and_waits_for_nobody(authority: Authority) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def freeze(guest: Guest) -> None:
        await guest.receive()
        guest.socket.transport.pause_reading()
        asked.set()
        await release.wait()
        guest.socket.transport.abort()

    async with mesh_server(authority, freeze) as server:
        room = make_room(authority, server, timings=Timings(closing_timeout_s=NEVER))
        opening = asyncio.create_task(room.open())
        await asked.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await opening
        assert room.closed
        assert room.closed.kind is CloseKind.LOCAL
        release.set()


@pytest.mark.parametrize("tls", [False, True], ids=["before TLS", "after TLS"])
async def test_cancelled_before_anything_opened(authority: Authority, tls: bool) -> None:
    async with hanging_server(authority, tls=tls) as (server, connected):
        room = make_room(authority, server)
        opening = asyncio.create_task(room.open())
        await connected.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await room.close()
    assert room.closed
    assert (room.closed.kind, room.closed.opened) == (CloseKind.LOCAL, False)


async def test_a_refusal_may_ask_for_a_pause(authority: Authority) -> None:
    async with mesh_server(authority, admit) as server:
        for headers, attributes in (({}, {}), ({"Retry-After": "7"}, {"retry_after": 7.0})):
            server.refuse = 429, headers
            error = await opening_error(make_room(authority, f"localhost:{server.port}"))
            assert error.code is Code.RATE_LIMITED
            assert error.attributes == {"status": 429, **attributes}
