"""Logging: to the journal with priorities and fields under systemd, readable on a terminal elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ravesvc.common.dates import to_the_second
from ravesvc.common.log_fields import mesh_of
from ravesvc.common.text import printable
from ravesvc.errors import RaveError
from ravesvc.systemd.journal import MAX_TITLE_CHARS, PRIORITIES, JournalHandler

# A line on a terminal.
_MAX_LINE_CHARS = 4000


class _Formatter(logging.Formatter):
    """Shows exceptions even where the modules that show source lines can't be imported any more.

    They are imported with the first traceback. By then an upgrade may have replaced the Python that this runs with.
    """

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the library's name
        try:
            return super().formatException(ei)
        except ImportError:
            kind, error, trace = ei
            frames = [f"{frame.f_code.co_filename}, line {line}" for frame, line in traceback.walk_tb(trace)]
            return "\n".join([*frames, f"{kind.__name__}: {error}"])


class _PrefixFormatter(_Formatter):
    """sd-daemon(3): one priority for each line, because the journal takes each line as a message of its own."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class _LineFormatter(_Formatter):
    """For a terminal, safe from control sequences: before each line stand time, mesh and title."""

    def __init__(self, mesh: str) -> None:
        super().__init__("%(levelname)s %(message)s")
        self._mesh = mesh
        self.title_of: Callable[[str], str] = lambda _mesh: ""

    def format(self, record: logging.LogRecord) -> str:
        mesh = mesh_of(record) or self._mesh
        title = printable(self.title_of(mesh), MAX_TITLE_CHARS) if mesh else ""
        prefix = " ".join([to_the_second(record.created), *(f"[{each}]" for each in (mesh, title) if each), ""])
        lines = super().format(record).splitlines()
        return "\n".join(f"{prefix}{printable(line, _MAX_LINE_CHARS)}" for line in lines)


def _to_journal() -> bool:
    """Whether standard error is the journal's. The variable alone proves nothing: a whole desktop inherits it."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up(
    level: int,
    identifier: str,
    *,
    mesh: str = "",
    unit_of: Callable[[str], str] = lambda _mesh: "",
    limit: logging.Filter | None = None,
) -> None:
    """Send the log to the journal, or to standard error if that is something else.

    A `RaveError` that the program does not catch is logged as well, in words: it needs no traceback.

    `identifier` is SYSLOG_IDENTIFIER= there. `mesh` is the one that all of it is about, if this is the process of a
    bot; else `log_fields.current_mesh` tells, or the call. A bot writes lines without fields: its sandbox keeps it
    from the journal's socket, where one that was taken over could send entries of any size that say anything.
    `unit_of(mesh)` names the unit of a mesh's bot for RAVE_UNIT=; empty where bots have none of their own.

    `limit` drops records of which there are too many (`log_limit`).
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if _to_journal():
        handler.setFormatter(_PrefixFormatter("%(message)s"))
        if not mesh:
            handler = JournalHandler(identifier, handler, unit_of)
            handler.setFormatter(_Formatter("%(message)s"))
    else:
        handler.setFormatter(_LineFormatter(mesh))
    if limit:
        handler.addFilter(limit)
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _log_uncaught
    # Of libraries only warnings and errors: their other entries may contain secrets.
    for library in ("websockets", "asyncio", "pymongo"):
        logging.getLogger(library).setLevel(logging.WARNING)


def show_titles(title_of: Callable[[str], str]) -> None:
    """From now on, have each entry about a mesh show its title; `title_of(mesh)` is empty if it is not known."""
    for handler in logging.getLogger().handlers:
        for part in handler, handler.formatter:
            if isinstance(part, JournalHandler | _LineFormatter):
                part.title_of = title_of


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, RaveError):
        logging.getLogger(__name__).critical("%s", error)
    else:
        sys.__excepthook__(kind, error, trace)


def set_debug(debug: bool) -> None:  # noqa: FBT001 - the one thing that is set
    """Turn debug logging on or off, until the end of the process."""
    logging.getLogger().setLevel(logging.DEBUG if debug else logging.INFO)


def debug_enabled() -> bool:
    """Whether debug logging is on."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)
