"""Log entries with fields (systemd.journal-fields(7)), in the protocol of systemd.io/JOURNAL_NATIVE_PROTOCOL.

    log.info("Mesh %s is connected", mesh, extra=about(mesh, Event.CONNECTED))

becomes an entry that `journalctl -u rave-orchestrator RAVE_MESH=<id>` and `... RAVE_EVENT=connected` find, and
`journalctl -x` explains. The journal itself notes the unit; without it any process could have written the entry.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum

SOCKET = "/run/systemd/journal/socket"

# Syslog priorities.
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))

# Characters of a text. What is far longer does not fit into a datagram, and nobody reads it.
_LONGEST = 32768


# The mesh that all is about which runs in a context, in a process that has several meshes.
current_mesh: ContextVar[str] = ContextVar("ravesvc.journal.current_mesh", default="")


class Event(StrEnum):
    """What operators search for (RAVE_EVENT=); packaging/catalog explains each under its MESSAGE_ID=."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    UNREACHABLE = "unreachable"
    UNHEALTHY = "unhealthy"
    ENDED = "ended"
    STOPPED = "stopped"
    BLOCKED = "blocked"
    HELD = "held"
    UNBLOCKED = "unblocked"
    NOTHING_STARTS = "nothing-starts"
    DISCOVERY_FAILED = "discovery-failed"
    STORE_FAILED = "store-failed"
    CHANGED = "changed-by-chat"
    TAKEN_OVER = "taken-over"


MESSAGE_IDS = {
    Event.CONNECTED: "571fdeb99c284bff8138cc1bafc361c3",
    Event.DISCONNECTED: "9e1f2b01d911436a8bfe3b577a7f398d",
    Event.UNREACHABLE: "d894b41d50954c5abbe27b9a59481ce6",
    Event.UNHEALTHY: "20755f380009420f8ddb36621c672afa",
    Event.ENDED: "bb273802661746f7b79ad99faa9f16e9",
    Event.STOPPED: "6bcade5f29f440ddafa558adcd2d2ea7",
    Event.BLOCKED: "79a1b30787a243b6baf752656d00b081",
    Event.HELD: "6abc054dacdc42ef884c2a1f565b963b",
    Event.UNBLOCKED: "6c52e2507a854f4590de7f2c48c6c7a5",
    Event.NOTHING_STARTS: "ff37b2e6a22f47488eab8cfe20380d83",
    Event.DISCOVERY_FAILED: "3e38513701004830adbdd4b9141e0114",
    Event.STORE_FAILED: "cfb7c9f3b63a40cfab0151f5842dd097",
    Event.CHANGED: "c03a435b162d458cb4ba68ea3ca70ff3",
    Event.TAKEN_OVER: "0d1cc7d09c2f4f4ba2650b7188ac0fac",
}


def about(mesh: str = "", event: Event | None = None) -> dict[str, object]:
    """The `extra` of a log call: which mesh it is about, and what has happened."""
    return {"rave_mesh": mesh, "rave_event": event}


def mesh_of(record: logging.LogRecord) -> str:
    """The mesh that a record is about; empty if that is none in particular, or the only one of the process."""
    return getattr(record, "rave_mesh", "") or current_mesh.get()


class JournalHandler(logging.Handler):
    """Sends each record as one entry; what the journal does not take at once goes to `fallback`.

    `unit_of(mesh)` names the unit of a mesh's bot, empty where it has none of its own.
    """

    def __init__(self, identifier: str, fallback: logging.Handler, unit_of: Callable[[str], str]) -> None:
        super().__init__()
        self._identifier = identifier
        self._unit_of = unit_of
        self._fallback = fallback
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._socket.sendto(self._entry(record), SOCKET)
        except OSError:
            # A journal that hangs must not hang us as well.
            self._fallback.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _entry(self, record: logging.LogRecord) -> bytes:
        event: Event | None = getattr(record, "rave_event", None)
        mesh = mesh_of(record)
        fields = {
            "MESSAGE": self.format(record)[:_LONGEST],
            "PRIORITY": str(next(number for level, number in PRIORITIES if record.levelno >= level)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "RAVE_MESH": mesh,
            "RAVE_EVENT": event or "",
            "RAVE_UNIT": self._unit_of(mesh) if mesh else "",
            "MESSAGE_ID": MESSAGE_IDS[event] if event else "",
        }
        return b"".join(_field(name, text) for name, text in fields.items() if text)


def _field(name: str, text: str) -> bytes:
    """A field with its length, as it has to be for a text of several lines and may be for others."""
    value = text.encode(errors="replace")
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
