"""A limit for what the service logs about a mesh: much of it a bot decides, which may have been taken over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ravesvc.journal import Event, mesh_of
from ravesvc.tokenbucket import Rate, TokenBucket

log = logging.getLogger(__name__)

# Entries about one mesh: a bad hour of a healthy bot, and then one each half minute.
_ALLOWED = Rate(60, 1 / 30)

# What a bot can't have repeated: decisions of the service or of an operator, and changes, which have a limit of their
# own. A bot that was taken over must not hide those behind a flood.
_DECISIONS = frozenset(
    {
        *(Event.STOPPED, Event.BLOCKED, Event.HELD, Event.UNBLOCKED, Event.ENDED, Event.UNHEALTHY),
        Event.CHANGED,
    }
)


class MeshLogLimit(logging.Filter):
    """Drops entries about a mesh that are too many, and says so; debugging and decisions are never dropped.

    Args:
        now: seconds of a clock that does not go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._buckets: dict[str, TokenBucket] = {}
        self._dropping: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        mesh = mesh_of(record)
        if not mesh or record.levelno < logging.INFO or getattr(record, "rave_event", None) in _DECISIONS:
            return True
        now = self._now()
        bucket = self._buckets.setdefault(mesh, TokenBucket(_ALLOWED, now))
        if bucket.take(now) == 0:
            self._dropping.discard(mesh)
            return True
        if mesh not in self._dropping:
            self._dropping.add(mesh)
            # Without the mesh in a field, by which it would be dropped as well.
            log.warning("Too much happens to mesh %s: part of it is not logged", mesh)
        return False
