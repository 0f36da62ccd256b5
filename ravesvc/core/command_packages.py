"""The modules with commands that installed packages offer. Looked up here, because that is dear for a worker."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging

from ravesvc import names
from ravesvc.bot.backend import EntryPoint
from ravesvc.common.text import printable

log = logging.getLogger(__name__)

_MAX_CHARS = 200


def find() -> list[EntryPoint]:
    """All there are now, by module. Reads many small files; one that makes no sense is in the log."""
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
