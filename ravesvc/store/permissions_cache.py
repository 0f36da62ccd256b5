"""Admins and permissions as they were last read, in a file: for a parent that starts while the store is away.

Without it nobody would be an admin then, and every command that somebody has kept to admins would be for everybody.
The credentials are not in it: they have a file of their own.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ravesvc.common import text_file
from ravesvc.common.atomic_files import write_atomically
from ravesvc.errors import RaveError
from ravesvc.store import export
from ravesvc.store.model import Contents

log = logging.getLogger(__name__)

# Bytes; far more than the admins of any bot.
_MAX_FILE_BYTES = 16 * 1024 * 1024


class PermissionsCache:
    """The copy in a file. Its methods block, and don't fail: whatever is wrong with a copy is a warning."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Contents | None:
        """What it holds; None if there is none that can be used."""
        try:
            return export.from_json(text_file.decode(text_file.read(self._path, _MAX_FILE_BYTES))).contents
        except FileNotFoundError:
            return None
        except RaveError as e:
            reason = e.message
        except OSError as e:
            reason = str(e.strerror)
        log.warning("%s, the copy of admins and permissions, can't be used: %s", self._path, reason)
        return None

    def write(self, contents: Contents) -> None:
        """Make it anew."""
        kept = Contents(admins=contents.admins, permissions=contents.permissions, ignored=contents.ignored)
        try:
            write_atomically(self._path, export.to_json(kept), 0o600)
        except OSError as e:
            log.warning("%s, the copy of admins and permissions, can't be written: %s", self._path, e.strerror)
