"""How a connection ended, and what that means; no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ravesvc.room.frames import MAX_MESSAGE_BYTES

# Going away, internal error, service restart, try again later, bad gateway: the server has trouble of its own and
# says nothing about us, however early.
_SERVER_TROUBLE = frozenset({1001, 1011, 1012, 1013, 1014})


class CloseKind(StrEnum):
    """What the end of a connection means for coming back."""

    REFUSED = "refused"  # The upgrade was answered by an HTTP status other than 101.
    REJECTED = "rejected"  # The server accepted the connection, and closed it soon after.
    KICKED = "kicked"  # The bot must not come back by itself.
    TOO_LARGE = "too large"  # The server sends more than we accept, and will do so again.
    LOST = "lost"  # A later attempt may succeed.
    LOCAL = "local"  # We closed it.


class Close(NamedTuple):
    """The end of a connection.

    Attributes:
        kind: what it means.
        code: the close code (1006 when there was none), or the HTTP status when refused; 0 when nothing opened.
        reason: in words, for people.
        held: seconds between opening and end, measured at the end itself; 0 when nothing opened.
        opened: whether the upgrade succeeded.
    """

    kind: CloseKind
    code: int
    reason: str
    held: float
    opened: bool


class End(NamedTuple):
    """The facts of the end of an open connection.

    Attributes:
        code: the close code, 1006 when the connection broke.
        reason: what the server says, or what it did that no WebSocket may do.
        held: seconds from opening to end.
        by_peer: whether there was a close frame of the server.
        too_large: the bytes of a message that was larger than we take; 0 if none was.
        fault: what the server did that made us end it; empty if nothing did.
    """

    code: int
    reason: str
    held: float
    by_peer: bool
    too_large: int = 0
    fault: str = ""


def classify(end: End, early: float) -> CloseKind:
    """What an end means that we have not brought about.

    A server that completes the upgrade and then sends a close frame within `early` seconds does not want us. A
    connection that merely broke was lost, even that early.
    """
    if end.too_large:
        return CloseKind.TOO_LARGE
    if end.by_peer and end.held < early and end.code not in _SERVER_TROUBLE:
        return CloseKind.REJECTED
    return CloseKind.LOST


def describe(end: End) -> str:
    """Words for an end that we have not brought about."""
    if end.too_large:
        return f"a message of {end.too_large} bytes, where {MAX_MESSAGE_BYTES} are the limit"
    if end.fault:
        return end.fault
    what = f"the server closed the connection with code {end.code}" if end.by_peer else "the connection broke"
    return f"{what}: {end.reason}" if end.reason else what
