"""Fields of a log record: the mesh that it is about, and the event that operators search for.

    log.info("Mesh %s is connected", mesh, extra=about(mesh, LogEvent.CONNECTED))

becomes an entry that `journalctl -u rave-orchestrator RAVE_MESH=<id>` and `... RAVE_EVENT=connected` find, and
`journalctl -x` explains. `ravesvc.systemd.journal` writes it.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from enum import StrEnum

# The mesh for which the code of this context runs, in a process that has several meshes.
current_mesh: ContextVar[str] = ContextVar("current_mesh", default="")


class LogEvent(StrEnum):
    """Events that operators search for (RAVE_EVENT=); packaging/catalog explains each under its MESSAGE_ID=."""

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
    LogEvent.CONNECTED: "571fdeb99c284bff8138cc1bafc361c3",
    LogEvent.DISCONNECTED: "9e1f2b01d911436a8bfe3b577a7f398d",
    LogEvent.UNREACHABLE: "d894b41d50954c5abbe27b9a59481ce6",
    LogEvent.UNHEALTHY: "20755f380009420f8ddb36621c672afa",
    LogEvent.ENDED: "bb273802661746f7b79ad99faa9f16e9",
    LogEvent.STOPPED: "6bcade5f29f440ddafa558adcd2d2ea7",
    LogEvent.BLOCKED: "79a1b30787a243b6baf752656d00b081",
    LogEvent.HELD: "6abc054dacdc42ef884c2a1f565b963b",
    LogEvent.UNBLOCKED: "6c52e2507a854f4590de7f2c48c6c7a5",
    LogEvent.NOTHING_STARTS: "ff37b2e6a22f47488eab8cfe20380d83",
    LogEvent.DISCOVERY_FAILED: "3e38513701004830adbdd4b9141e0114",
    LogEvent.STORE_FAILED: "cfb7c9f3b63a40cfab0151f5842dd097",
    LogEvent.CHANGED: "c03a435b162d458cb4ba68ea3ca70ff3",
    LogEvent.TAKEN_OVER: "0d1cc7d09c2f4f4ba2650b7188ac0fac",
}


# Of an event with several causes the catalogue explains these apart, because each asks the operator for something
# else. By event and cause: a reason of the blocklist, or the code of an error.
_LOGIN_NEEDED_ID = "c42625b06a164a0e86e3550b1e86b5a5"
CAUSE_MESSAGE_IDS = {
    (LogEvent.BLOCKED, "kicked"): "c52a56d5c2f44a0193171bd315482032",
    (LogEvent.BLOCKED, "operator"): "acb3c213aa5a414685cb926a8f900697",
    (LogEvent.BLOCKED, "rejected"): "e0723b6859b04c4ea13a1edda834834d",
    (LogEvent.BLOCKED, "too_large"): "e07acb5c888f4821adb5388b7e1ae956",
    (LogEvent.NOTHING_STARTS, "LoginNeeded"): _LOGIN_NEEDED_ID,
    (LogEvent.DISCOVERY_FAILED, "Unauthorized"): _LOGIN_NEEDED_ID,
}


def about(mesh: str = "", event: LogEvent | None = None, cause: str = "") -> dict[str, object]:
    """The `extra` of a log call: which mesh it is about, what has happened, and why if that has an explanation."""
    return {"rave_mesh": mesh, "rave_event": event, "rave_cause": cause}


def message_id(record: logging.LogRecord) -> str:
    """The id of the entry of the catalogue that explains a record; empty if none does."""
    event: LogEvent | None = getattr(record, "rave_event", None)
    if event is None:
        return ""
    return CAUSE_MESSAGE_IDS.get((event, getattr(record, "rave_cause", "")), MESSAGE_IDS[event])


def mesh_of(record: logging.LogRecord) -> str:
    """The mesh that a record is about; empty if it is about none, or about the only one of the process."""
    return getattr(record, "rave_mesh", "") or current_mesh.get()
