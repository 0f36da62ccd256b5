"""The one error class of the project.

Every failure that an operator, a chat user or a D-Bus caller may see is a `RaveError`: a stable code, a sentence, a
hint that says what to do, and attributes that say where. Any other exception that escapes is a bug; it is logged
where it happened and shown to others as `Code.INTERNAL` without detail.
"""

from __future__ import annotations

import os
from enum import StrEnum


class Code(StrEnum):
    """Stable codes; each is also the last element of a D-Bus error name (`names.ERROR_PREFIX`)."""

    # The caller's side.
    INVALID_ARGUMENT = "InvalidArgument"
    NO_SUCH_MESH = "NoSuchMesh"
    BLOCKED = "Blocked"
    NOT_RUNNING = "NotRunning"
    ACCESS_DENIED = "AccessDenied"
    BUSY = "Busy"
    LAST_ADMIN = "LastAdmin"
    CONFLICT = "Conflict"

    # Configuration, credentials and files.
    CONFIG = "Config"
    LOGIN_NEEDED = "LoginNeeded"
    BAD_FILE = "BadFile"
    STORE = "StoreUnavailable"

    # A login.
    WRONG_ADDRESS = "WrongAddress"
    NOT_CONFIRMED = "NotConfirmed"
    CANCELLED = "Cancelled"

    # Rave over HTTP and WebSocket.
    BAD_REQUEST = "BadRequest"
    UNAUTHORIZED = "Unauthorized"
    IDENTITY = "IdentityRefused"
    CLOCK = "ClockWrong"
    FORBIDDEN = "Forbidden"
    NOT_FOUND = "NotFound"
    RATE_LIMITED = "RateLimited"
    SERVER_ERROR = "ServerError"
    NETWORK = "Network"
    TIMEOUT = "Timeout"
    TLS = "Tls"
    BAD_DATA = "BadData"
    REFUSED = "Refused"
    CLOSED = "Closed"
    TOO_LARGE = "TooLarge"

    # The machine.
    BUS = "Bus"
    UNIT = "Unit"

    INTERNAL = "Internal"


class RaveError(Exception):
    """A failure in words.

    Attributes:
        code: what kind of failure, for programs.
        message: what failed and why, one sentence without a final stop, for people. Never holds a secret.
        hint: what to do about it, or empty.
        incident: the id under which the cause is in the log already, or empty. Passed as `incident=`.
        attributes: where it happened: file, key, line, mesh, status, ... Never holds a secret.
    """

    def __init__(self, code: Code, message: str, *, hint: str = "", **attributes: str | int | float) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        # It is for every reader, not a detail of where it happened.
        self.incident = str(attributes.pop("incident", ""))
        self.attributes = attributes

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def new_incident() -> str:
    """An id by which the log entry for an error message is found."""
    return os.urandom(4).hex()


def with_incident(text: str, incident: str) -> str:
    """A sentence with the id of its incident, in the form that chat, ravectl and log share."""
    return f"{text} (error {incident})"
