"""Logging to standard error: with priorities for the journal under systemd, readable on a terminal elsewhere."""

from __future__ import annotations

import logging
import os
import sys

# sd-daemon(3): a line that begins with <N> gets syslog priority N.
_PRIORITIES = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"), (logging.NOTSET, "<7>"))


class _JournalFormatter(logging.Formatter):
    """One priority for each line, because the journal takes each line as a message of its own."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(text for level, text in _PRIORITIES if record.levelno >= level)
        return "\n".join(priority + line for line in super().format(record).splitlines())


def _to_journal() -> bool:
    """Whether standard error is the journal's. The variable alone proves nothing: a whole desktop inherits it."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up(level: int, *, prefix: str = "") -> None:
    """Send the log to standard error; `prefix` tells lines of several programs apart on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    if _to_journal():
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter(f"{prefix}%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # Libraries speak up about trouble only; what they say at other times may hold more than a log should.
    for library in ("urllib3", "websockets", "asyncio", "pymongo"):
        logging.getLogger(library).setLevel(logging.WARNING)
