"""Talking to the service manager: readiness, status text, watchdog (sd_notify(3)).

Outside systemd every call does nothing, so that a program also runs from a terminal.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ravesvc.common.text import printable

if TYPE_CHECKING:
    # What has no event loop, as the step before the service starts, is spared the import.
    import asyncio

# A status is a line for people, which may have to name several things.
MAX_STATUS_CHARS = 600
# From one status of a `StatusSender` to the next.
STATUS_INTERVAL_S = 1.0
# Digits of a number of 64 bits.
_MAX_DIGITS = 20


def notify(*assignments: str) -> bool:
    """Send assignments such as `STATUS=...` to the service manager; returns False when they were dropped.

    It does not wait for a manager that is busy, for example with a reload: then the message is dropped.
    """
    manager = _manager()
    if manager is None:
        return not os.environ.get("NOTIFY_SOCKET")
    with manager:
        try:
            manager.send("\n".join(map(_line, assignments)).encode())
        except OSError:
            return False
    return True


class StatusSender:
    """Sends a status that may change at any rate: the first at once, then the latest, no more than one a second.

    In a room where 20 users a second come or go the status changes as often. systemd announces each change to all
    clients that watch the unit, and the orchestrator kills a bot that causes too many. So a change within a second
    of the last status waits for the end of that second, and only the latest of those that wait is sent.
    """

    def __init__(
        self, send: Callable[[str], bool], call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle]
    ) -> None:
        """`send` returns False when a status was dropped; `call_later` is that of the event loop."""
        self._send = send
        self._call_later = call_later
        self._latest = ""
        self._delivered = ""
        self._pause: asyncio.TimerHandle | None = None  # nothing is sent before it ends
        self._closed = False

    def show(self, status: str) -> None:
        """Set the status, and send it now or after the pause."""
        self._latest = status
        if self._pause is None and not self._closed:
            self._send_latest()

    def close(self) -> None:
        """Send nothing more, not even a status that waits."""
        self._closed = True
        if self._pause:
            self._pause.cancel()

    def _send_latest(self) -> None:
        self._pause = None
        if self._latest == self._delivered:
            return
        # A status that was dropped is sent again after the pause: there may be no later change.
        if self._send(self._latest):
            self._delivered = self._latest
        self._pause = self._call_later(STATUS_INTERVAL_S, self._send_latest)


def sendable(status: str) -> bool:
    """Whether `notify` could have sent this status: systemd itself accepts 4 KB of any characters, and shows them."""
    return printable(status, MAX_STATUS_CHARS) == status


def keep_descriptor(descriptor: int, name: str) -> None:
    """Have the manager keep a file for the next process, as FileDescriptorStoreMax= of the unit allows.

    A message for which there is no room is dropped.
    """
    manager = _manager()
    if manager:
        with manager, contextlib.suppress(OSError):
            socket.send_fds(manager, [f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()], [descriptor])


async def notify_ready() -> None:
    """Send `READY=1`, and wait until the manager has room for it: without it the start would time out."""
    import asyncio

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
    """A socket to the service manager; None if there is none."""
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
    """Seconds between two `WATCHDOG=1`, half of the manager's limit; None if the watchdog is off.

    WATCHDOG_PID names the process that is watched; another one that inherited the environment must stay silent.
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not usec.isdecimal() or len(usec) > _MAX_DIGITS or int(usec) == 0 or pid != str(os.getpid()):
        return None
    return int(usec) / 1_000_000 / 2


async def feed_watchdog() -> None:
    """Send `WATCHDOG=1` for ever, as long as the event loop runs; wait for ever if the watchdog is off."""
    import asyncio

    interval = watchdog_interval()
    while interval:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)
    await asyncio.Event().wait()
