"""Admins and permissions as they were last read, in a file: for a parent that starts while the store is away.

Without this file such a start would have no admins, and every command that was restricted to admins would be open to
all users. The credentials are not in it: they have a file of their own.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ravesvc.common import text_file
from ravesvc.common.atomic_files import write_atomically
from ravesvc.errors import RaveError
from ravesvc.store import export
from ravesvc.store.export import Export
from ravesvc.store.model import Contents

log = logging.getLogger(__name__)

# Far more than the admins of any bot need.
_MAX_FILE_BYTES = 16 * 1024 * 1024


class PermissionsCache:
    """The copy in a file. Its methods block. They don't raise: a copy that can't be used is logged as a warning."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Contents | None:
        """The contents of the copy; None if there is no copy or it can't be used."""
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
        """Replace the copy."""
        kept = Contents(admins=contents.admins, permissions=contents.permissions, ignored=contents.ignored)
        try:
            write_atomically(self._path, export.to_json(Export(contents=kept)), 0o600)
        except OSError as e:
            log.warning("%s, the copy of admins and permissions, can't be written: %s", self._path, e.strerror)
