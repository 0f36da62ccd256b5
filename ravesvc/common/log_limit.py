"""A limit for repeated log entries: a bot that was taken over, or a user of the chat, can cause many of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

from ravesvc.common.log_fields import LogEvent, about, mesh_of
from ravesvc.common.token_bucket import Rate, TokenBucket

log = logging.getLogger(__name__)

# Entries of the service about one mesh: a bad hour of a healthy bot, and then one each half minute.
PER_MESH = Rate(60, 1 / 30)
# Entries from one line of the program: with tracebacks that is about what the journal accepts from a bot.
PER_PLACE = Rate(20, 1 / 60)

# Events that a bot can't repeat at will: decisions of the service or of an operator, and changes, which have a limit
# of their own. They are never dropped, so a bot that was taken over can't hide them behind a flood.
_DECISIONS = frozenset(
    {
        LogEvent.STOPPED,
        LogEvent.BLOCKED,
        LogEvent.HELD,
        LogEvent.UNBLOCKED,
        LogEvent.ENDED,
        LogEvent.UNHEALTHY,
        LogEvent.CHANGED,
        LogEvent.TAKEN_OVER,
    }
)

# Kinds of records that are counted at the same time; beyond that all counts start again.
_MAX_KINDS = 4096
# An entry that is quoted as an example.
_MAX_EXAMPLE_CHARS = 200


def by_mesh(record: logging.LogRecord) -> Hashable:
    """Count all records about one mesh together; other records are not limited."""
    return mesh_of(record)


def by_place(record: logging.LogRecord) -> Hashable:
    """Count the records that one line of the program makes about one mesh."""
    return mesh_of(record), record.name, record.lineno


class LogLimit(logging.Filter):
    """Drops entries of a kind when there are too many, and logs that; debugging and decisions are never dropped.

    Args:
        kind: with which others a record counts; empty for one that is not limited.
        now: seconds of a clock that does not go back.
    """

    def __init__(
        self, kind: Callable[[logging.LogRecord], Hashable], rate: Rate, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._kind = kind
        self._rate = rate
        self._now = now
        self._buckets: dict[Hashable, TokenBucket] = {}
        self._dropping: set[Hashable] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        kind = self._kind(record)
        own = record.name == __name__
        if not kind or own or record.levelno < logging.INFO or getattr(record, "rave_event", None) in _DECISIONS:
            return True
        now = self._now()
        if self._bucket(kind, now).take(now) == 0:
            self._dropping.discard(kind)
            return True
        if kind not in self._dropping:
            self._dropping.add(kind)
            text = 'Too many entries of one kind: those that follow are dropped for now, such as "%s"'
            log.warning(text, record.getMessage()[:_MAX_EXAMPLE_CHARS], extra=about(mesh_of(record)))
        return False

    def _bucket(self, kind: Hashable, now: float) -> TokenBucket:
        if len(self._buckets) > _MAX_KINDS:
            self._buckets.clear()
            self._dropping.clear()
        return self._buckets.setdefault(kind, TokenBucket(self._rate, now))
