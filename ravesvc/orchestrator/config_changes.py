"""Compares rave.yaml with the options in use. A reload reports changes, and only a restart applies them."""

from __future__ import annotations

import asyncio
import logging
import os

from ravesvc.config import options as config
from ravesvc.config import rave_yaml
from ravesvc.config.options import Config
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

# The most options that the note names.
_MAX_NAMED = 6


class ConfigFile:
    """Compares the file with the configuration that is in use.

    Attributes:
        note: how the file differs from the options in use, in a sentence; empty if it does not.
    """

    def __init__(self, used: Config) -> None:
        self.note = ""
        self._used = used

    async def look(self) -> None:
        """Read the file, set `note`, and log it."""
        self.note = await asyncio.to_thread(self._compare)
        if self.note:
            log.warning("%s", self.note)
        else:
            log.info("%s has not changed since the service read it", self._used.file)

    def _compare(self) -> str:
        found, problems = rave_yaml.examine(self._used.file)
        if found and not problems:
            try:
                found = rave_yaml.with_environment(found, os.environ)
            except RaveError as e:
                problems = [e]
        if found is None or problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return f"the service goes on with what it read before, because of a mistake: {problems[0]}{more}"
        changed = config.changes(self._used, found)
        if not changed:
            return ""
        more = f" and {len(changed) - _MAX_NAMED} more" if len(changed) > _MAX_NAMED else ""
        options = ", ".join(changed[:_MAX_NAMED]) + more
        return f"{self._used.file} has changed ({options}): systemctl restart rave-orchestrator takes it up"
