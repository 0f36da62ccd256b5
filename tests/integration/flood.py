"""Run in the machine with a kind of message: send it without end, on 20 connections, as fast as the bus takes it."""

import asyncio
import struct
import sys
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.bus.header import Kind
from ravesvc.bus.message import NO_REPLY_EXPECTED, Message, encode
from ravesvc.errors import RaveError
from ravesvc.notify import notify

CONNECTIONS = 20
# Less than the 128 from which on the bus refuses a connection's calls by itself.
CALLS_AT_ONCE = 100
LIST = {"path": names.MANAGER_PATH, "interface": names.MANAGER_INTERFACE, "member": "ListMeshes"}


def messages(kind: str, path: str) -> list[dict[str, Any]]:
    """What is sent, by turns."""
    call = {"kind": Kind.CALL, "flags": NO_REPLY_EXPECTED, **LIST}
    said = {"kind": Kind.SIGNAL, "path": path, "interface": names.WORKER_INTERFACE}
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


def frames(kind: str, path: str) -> bytes:
    """Some of them, one after another."""
    made = [encode(Message(serial=1, destination=names.BUS_NAME, **each))[0] for each in messages(kind, path)]
    block = b""
    for number in range(max(len(made), 60_000 // max(map(len, made)))):
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
    else:
        block = frames(kind, path)
        work = [flood(block) for _ in range(CONNECTIONS)]
    print("begun", flush=True)
    notify("READY=1")
    await asyncio.gather(*work)


asyncio.run(main(*sys.argv[1:]))
