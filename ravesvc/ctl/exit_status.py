"""The exit statuses of ravectl. The manual page lists the same."""

from __future__ import annotations

from enum import IntEnum

from ravesvc.errors import Code, RaveError


class Exit(IntEnum):
    """Exit statuses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    DENIED = 4
    INTERRUPTED = 130


def of(error: RaveError) -> Exit:
    """The exit status for a failure."""
    match error.code:
        case Code.NOT_RUNNING if "from_service" not in error.attributes:
            return Exit.NOT_RUNNING
        case Code.ACCESS_DENIED:
            return Exit.DENIED
        case _:
            return Exit.FAILED
