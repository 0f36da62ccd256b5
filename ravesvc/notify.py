"""Talking to the service manager: readiness, status text, watchdog (sd_notify(3)).

Outside systemd every call does nothing, so that a program also runs from a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

from ravesvc.words import printable

# Characters. A status is a line for people, which may have to name several things.
MAX_STATUS_CHARS = 600
# Of a number of 64 bits.
_MAX_DIGITS = 20


def notify(*assignments: str) -> None:
    """Send assignments such as `STATUS=...` to the service manager.

    It does not wait for a manager that is busy, with a reload say: what can't be delivered at once is dropped.
    """
    manager = _manager()
    if manager:
        with manager, contextlib.suppress(OSError):
            manager.send("\n".join(map(_line, assignments)).encode())


def sendable(status: str) -> bool:
    """Whether `notify` could have sent this status: systemd itself takes 4 KB of anything, and shows them."""
    return printable(status, MAX_STATUS_CHARS) == status


async def notify_ready() -> None:
    """Send `READY=1`, and wait until the manager has room for it: without it the start would time out."""
    manager = _manager()
    if manager:
        with manager, contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(manager, b"READY=1")


def notify_reloading() -> None:
    """Send `RELOADING=1`; `READY=1` ends it (Type=notify-reload)."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}")


def _line(assignment: str) -> str:
    """An assignment as systemd reads it: a backslash quotes what follows it.

    A message that ends in one is dropped, all of it.
    """
    return printable(assignment, MAX_STATUS_CHARS).replace("\\", "\\\\")


def _manager() -> socket.socket | None:
    """A socket to the service manager; None when there is none to talk to."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return None
    try:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    except OSError:
        return None
    try:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        manager.close()
        return None
    return manager


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`, half of the manager's limit; None when it wants none.

    WATCHDOG_PID names the process that is watched; another one that inherited the environment must stay silent.
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not usec.isdecimal() or len(usec) > _MAX_DIGITS or int(usec) == 0 or pid != str(os.getpid()):
        return None
    return int(usec) / 1_000_000 / 2


async def feed_watchdog() -> None:
    """Tell the manager for ever that the event loop turns, if it wants to know."""
    interval = watchdog_interval()
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
    await asyncio.Event().wait()
