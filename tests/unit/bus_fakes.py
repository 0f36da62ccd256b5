"""A bus that does what a test wants, and objects to export on a real one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import pytest

from ravesvc.bus import Bus, Call, Interface, allow_all, connection, method
from ravesvc.names import PolkitAction
from tests.unit.conftest import until

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The bus's side of the authentication."""
    await reader.readuntil(b"\r\n")
    writer.write(b"OK 0123456789abcdef0123456789abcdef\r\n")
    await reader.readuntil(b"NEGOTIATE_UNIX_FD\r\n")
    writer.write(b"AGREE_UNIX_FD\r\n")
    await reader.readuntil(b"BEGIN\r\n")


@contextlib.asynccontextmanager
async def fake_bus(directory: Path, serve: Serve, *, abstract: str = "") -> AsyncIterator[str]:
    """Listen like a bus; `serve` gets each connection. Yields the address."""
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            connections.discard(task)

    server = await asyncio.start_unix_server(accept, f"\0{abstract}" if abstract else directory / "fake")
    try:
        yield f"unix:abstract={abstract}" if abstract else f"unix:path={directory / 'fake'}"
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await until(lambda: not connections)


def send_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls and signals sent however large they are, as a stranger's program would."""
    monkeypatch.setattr(connection, "MAX_SENT_BYTES", 10**9)


@contextlib.asynccontextmanager
async def connected(address: str, count: int = 1) -> AsyncIterator[list[Bus]]:
    """Connections to a bus, closed at the end."""
    buses = [await Bus.connect(address) for _ in range(count)]
    try:
        yield buses
    finally:
        for bus in buses:
            await bus.close()


def open_fds() -> set[str]:
    """What our descriptors refer to, with their numbers; the directory listing's own left out."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{fd.name} {fd.readlink()}")
    return found


class Lamp(Interface):
    """An object with a bit of everything."""

    interface = "org.example.Lamp1"
    properties: ClassVar = {"Name": "s", "Level": "u", "Tags": "as", "Notes": "a{ss}", "Where": "o", "Lit": "b"}
    signals: ClassVar = {"Switched": {"lit": "b", "by": "s"}}

    def __init__(self, authorizer=allow_all) -> None:  # type: ignore[no-untyped-def]
        super().__init__(authorizer)
        self.calls: list[Call] = []
        self.go = asyncio.Event()

    @method(takes={"text": "s", "times": "u"}, returns={"said": "s", "length": "u"}, action=PolkitAction.READ)
    async def say(self, call: Call, text: str, times: int) -> tuple[str, int]:
        self.calls.append(call)
        return text * times, len(text)

    @method(returns={"sender": "s"}, action=PolkitAction.READ)
    async def who_calls(self, call: Call) -> str:
        await asyncio.sleep(0)
        return call.sender

    @method(action=PolkitAction.OPERATE)
    async def wait(self, call: Call) -> None:
        self.calls.append(call)
        await self.go.wait()

    @method()
    async def unnamed(self, call: Call) -> None:
        """A method without an action."""
