"""What the last list of meshes was a list of, kept for the next process: to that one another list is no loss."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from ravesvc.common import json_fields
from ravesvc.common.atomic_files import write_atomically
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

# Bytes; ours are some hundred.
_MAX_BYTES = 4096


class ScopeFile:
    """A file with one sentence, `Access.scope`. One that can't be used says nothing, and does no harm."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = ""

    def load(self) -> str:
        """The scope of an earlier process, or empty."""
        try:
            with self._path.open("rb") as file:
                top = json_fields.parse_object(file.read(_MAX_BYTES), str(self._path))
            self._kept = json_fields.get_str(top, "scope")
        except FileNotFoundError:
            pass
        except (OSError, RaveError) as e:
            log.warning("%s can't be used: %s", self._path, e)
        return self._kept

    async def keep(self, scope: str) -> None:
        """Keep a scope, if it is one and another one than before."""
        if scope in ("", self._kept):
            return
        self._kept = scope
        try:
            await asyncio.to_thread(write_atomically, self._path, json.dumps({"scope": scope}) + "\n", 0o600)
        except OSError as e:
            log.warning("%s can't be written: %s", self._path, e.strerror)
