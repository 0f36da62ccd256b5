"""The modules with commands that installed packages offer. Looked up here, because that is dear for a worker."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ravesvc import names
from ravesvc.bot.backend import EntryPoint
from ravesvc.common.text import printable

log = logging.getLogger(__name__)

_MAX_CHARS = 200


def find() -> list[EntryPoint]:
    """All there are now, by module. Reads many small files; one that makes no sense is in the log."""
    if not _is_offered():
        return []
    # Together with what it needs of the standard library it takes a twentieth of the service's start.
    import importlib.metadata

    importlib.invalidate_caches()
    try:
        found = [
            EntryPoint(each.name, each.value, each.dist.version if each.dist else "")
            for each in importlib.metadata.entry_points(group=names.COMMANDS_GROUP)
        ]
    except Exception:
        log.exception("The commands of installed packages can't be looked up")
        return []
    return sorted(
        (EntryPoint(*(printable(text, _MAX_CHARS) for text in each)) for each in found), key=lambda each: each.module
    )


def _is_offered() -> bool:
    """Whether any installed package speaks of commands for us; hardly any machine has one."""
    files = (file for place in sys.path for file in Path(place).glob("*-info/entry_points.txt"))
    return any(names.COMMANDS_GROUP.encode() in _content(file) for file in files)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        # Just removed, or not for us.
        return b""
