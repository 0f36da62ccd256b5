"""Run in the machine with a kind of flood: send without end, on 20 connections, as fast as the bus takes it."""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.bus.header import MessageKind
from ravesvc.bus.matching import DAEMON, DAEMON_PATH
from ravesvc.bus.message import NO_REPLY_EXPECTED, Message, encode
from ravesvc.errors import RaveError
from ravesvc.systemd.notify import notify

CONNECTIONS = 20
# Less than the 128 from which on the bus refuses a connection's calls by itself.
CALLS_AT_ONCE = 100
LIST = {"path": names.MANAGER_PATH, "interface": names.MANAGER_INTERFACE, "member": "ListMeshes"}


def messages(kind: str, path: str) -> list[dict[str, Any]]:
    """What is sent, by turns."""
    call = {"kind": MessageKind.CALL, "flags": NO_REPLY_EXPECTED, **LIST}
    said = {"kind": MessageKind.SIGNAL, "path": path, "interface": names.WORKER_INTERFACE}
    return {
        "large": [{**call, "signature": "as", "body": [["x"] * 7500]}],
        "small": [call],
        "signals": [
            {**said, "member": "Error", "signature": "s", "body": ["x" * 200]},
            {**said, "member": "CommandErrors", "signature": "as", "body": [["x"] * 2000]},
        ],
        "nonsense": [
            {**said, "member": "Ready", "signature": "as", "body": [["x"] * 7500]},
            {**said, "member": "Error", "signature": "s", "body": ["x" * 1_000_000]},
        ],
    }[kind]


def frames(kind: str, path: str, count: int = 0) -> bytes:
    """So many of them, one after another; or as many as 60 kB hold."""
    made = [encode(Message(serial=1, destination=names.BUS_NAME, **each))[0] for each in messages(kind, path)]
    block = b""
    for number in range(count or max(len(made), 60_000 // max(map(len, made)))):
        frame = bytearray(made[number % len(made)])
        struct.pack_into("<I", frame, 8, 1000 + number)
        block += frame
    return block


async def flood(block: bytes) -> None:
    """Send for ever."""
    bus = await Bus.connect()
    while True:
        bus._transport.send(block, [])
        await bus._transport.flush()
        await asyncio.sleep(0)


async def reconnect(calls: bytes) -> None:
    """Connect, send, and leave, for ever; all that is to be said is sent at once, as no library would."""
    loop = asyncio.get_running_loop()
    uid = str(os.geteuid()).encode().hex().encode()
    daemon = {"destination": DAEMON, "path": DAEMON_PATH, "interface": DAEMON}
    hello, _ = encode(Message(kind=MessageKind.CALL, serial=1, member="Hello", **daemon))
    opening = b"\0AUTH EXTERNAL " + uid + b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" + hello + calls
    while True:
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            # Its backlog may be full, or the user has as many connections as one may have.
            sock.connect("/run/dbus/system_bus_socket")
            await loop.sock_sendall(sock, opening)
            # The bus has read what it answers to, and what came with it.
            await loop.sock_recv(sock, 65536)
        await asyncio.sleep(0)


async def ask(bus: Bus) -> None:
    """Ask for all objects, again and again."""
    while True:
        try:
            await bus.call(
                names.BUS_NAME,
                names.MANAGER_PATH,
                "org.freedesktop.DBus.ObjectManager",
                "GetManagedObjects",
                timeout=3600,
            )
        except RaveError:
            # Refused: some of these are answered in silence, and wait for ever.
            await asyncio.sleep(0)


async def main(kind: str, path: str = "") -> None:
    """Begin, and say so."""
    if kind == "objects":
        buses = [await Bus.connect() for _ in range(CONNECTIONS)]
        work = [ask(bus) for bus in buses for _ in range(CALLS_AT_ONCE)]
    elif kind == "reconnects":
        calls = frames("small", path, 1), frames("large", path, 1)
        work = [reconnect(calls[number % 2]) for number in range(CONNECTIONS)]
    else:
        block = frames(kind, path)
        work = [flood(block) for _ in range(CONNECTIONS)]
    print("begun", flush=True)
    notify("READY=1")
    await asyncio.gather(*work)


asyncio.run(main(*sys.argv[1:]))
