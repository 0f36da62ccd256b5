"""A real mesh server on 127.0.0.1, over TLS, that does what a test tells it to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from ravesvc.config.worker_settings import Session
from ravesvc.room.changes import Change
from ravesvc.room.chat import ChatMessage
from ravesvc.room.peer import Timings
from ravesvc.room.room import Room
from tests.unit.authority import Authority

MESH = "11111111-2222-4333-8444-555555555555"
TOKEN = "very-secret-token"
SESSION = Session(device_id="0123456789abcdef0123456789abcdef", ssaid="", user_id=900000001, auth_token=TOKEN)

# Longer than any test takes: what must not happen.
NEVER = 60.0


class Guest:
    """The server's side of a socket."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.socket.recv())
        return frame

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def notify(self, method: str, **data: Any) -> None:
        await self.send(notification=True, method=method, data=data)

    async def state(self, **inner: Any) -> None:
        await self.notify("stateMessage", message=json.dumps(inner))

    async def users(self, *users: Any) -> None:
        await self.state(users=[{"user_id": user} for user in users], mesh_state={"status": "PLAY"})

    async def say(self, text: str, **data: Any) -> None:
        await self.notify("chatMessage", **{"from": "5_dev", "id": "m1", "chat": text, **data})

    async def grant(self, frame: dict[str, Any]) -> None:
        await self.send(response=True, id=frame["id"], ok=True, data={})

    async def admit(self) -> None:
        frame = await self.receive()
        assert (frame["method"], frame["data"], frame["request"]) == ("fullyJoined", {}, True)
        await self.grant(frame)

    async def hold(self) -> tuple[int | None, str | None]:
        """Wait for the end; its code and reason as the guest said them."""
        await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason


Script = Callable[[Guest], Awaitable[None]]


class MeshServer:
    """Runs `script` for each socket; a failing assertion in it fails the test. `refuse` is an HTTP status."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.refuse: tuple[int, dict[str, str]] | None = None
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self.port = 0

    async def handle(self, socket: ServerConnection) -> None:
        try:
            await self.script(Guest(socket))
        except AssertionError as e:
            self.failures.append(e)

    def screen(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if self.refuse is None:
            return None
        response = socket.respond(self.refuse[0], "no\n")
        for name, value in self.refuse[1].items():
            response.headers[name] = value
        return response


def server_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert_file, authority.key_file)
    return context


@asynccontextmanager
async def mesh_server(
    authority: Authority, script: Script, *, subprotocols: Sequence[str] = ("protoo",)
) -> AsyncIterator[MeshServer]:
    mesh = MeshServer(script)
    context = server_context(authority)
    options: dict[str, Any] = {"subprotocols": [Subprotocol(name) for name in subprotocols] or None}
    async with serve(
        mesh.handle,
        "127.0.0.1",
        0,
        ssl=context,
        process_request=mesh.screen,
        close_timeout=1,
        ping_interval=None,
        **options,
    ) as server:
        mesh.port = port_of(server)
        yield mesh
    assert not mesh.failures, mesh.failures


def port_of(server: Server | asyncio.Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


class Listener:
    """Keeps what it is told, for `await listener.next()`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.changes: asyncio.Queue[Change] = asyncio.Queue()

    async def next(self) -> tuple[str, Any]:
        return await self.queue.get()

    def rest(self) -> list[tuple[str, Any]]:
        return [self.queue.get_nowait() for _ in range(self.queue.qsize())]

    def on_chat(self, message: ChatMessage) -> None:
        self.queue.put_nowait(("chat", message.text))

    def on_joined(self, users: frozenset[int]) -> None:
        self.queue.put_nowait(("joined", set(users)))

    def on_left(self, users: frozenset[int]) -> None:
        self.queue.put_nowait(("left", set(users)))

    def on_change(self, change: Change) -> None:
        self.changes.put_nowait(change)

    def on_kicked(self) -> None:
        self.queue.put_nowait(("kicked", None))


def make_room(
    authority: Authority, server: MeshServer | str, listener: Any = None, timings: Timings | None = None, **other: Any
) -> Room:
    return Room(
        mesh_id=MESH,
        server=server if isinstance(server, str) else f"localhost:{server.port}",
        listener=listener or Listener(),
        timings=timings or Timings(chat_answer_timeout_s=NEVER, closing_timeout_s=1.0),
        **{"session": SESSION, "ssl_context": ssl.create_default_context(cafile=authority.ca_file), **other},
    )
