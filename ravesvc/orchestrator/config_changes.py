"""rave.yaml while the service runs: how it differs from the options in force, and what a reload applies of it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence

from ravesvc.config import options as config
from ravesvc.config import rave_yaml, table
from ravesvc.config.options import Config
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# The most options that the note names.
_MAX_NAMED = 6


class ConfigFile:
    """Compares the file with the options in force, and applies what a reload may apply.

    Args:
        used: the options in force.
        apply: puts other options into force; they differ in those that a reload applies.

    Attributes:
        note: how the file differs from the options in force, and what to run, in a sentence; empty if it does not.
        reloaded: the options that the last reload applied.
    """

    def __init__(self, used: Config, apply: Callable[[Config], None]) -> None:
        self.note = ""
        self.reloaded: Sequence[str] = ()
        self._used = used
        self._apply = apply

    async def look(self) -> None:
        """Read the file after an edit, set `note`, and log it if it is another."""
        before = self.note
        try:
            self.note = self._compared(await asyncio.to_thread(self._read))
        except RaveError as e:
            self.note = f"the service goes on with what it read before, because of a mistake: {e}"
        if self.note == before:
            return
        if self.note:
            log.warning("%s", self.note)
        else:
            log.info("%s is as the service has it", self._used.file)

    async def reload(self, digest: str) -> tuple[list[str], list[str]]:
        """Apply what a reload applies; returns those options, and the changed ones that wait for a restart.

        `digest` is that of the settings which bots get from now on. Raises `RaveError`: Config; InvalidArgument if
        the file has others.
        """
        found = await asyncio.to_thread(self._read)
        used = dataclasses.replace(table.reloaded(self._used, found), lines=found.lines, warnings=found.warnings)
        if used.edition().digest != digest:
            text = f"{self._used.file} has changed since bots were given its options"
            raise RaveError(Code.INVALID_ARGUMENT, text, hint="systemctl reload rave-orchestrator does both")
        self.reloaded = config.changes(self._used, used)
        self._used = used
        self._apply(used)
        self.note = self._compared(found)
        if self.reloaded:
            log.info("Applied from %s: %s", used.file, ", ".join(self.reloaded))
        if self.note:
            log.warning("%s", self.note)
        elif not self.reloaded:
            log.info("%s has not changed since the service read it", used.file)
        return list(self.reloaded), config.changes(used, found)

    def _read(self) -> Config:
        """The file's options; raises `RaveError` (Config) for the first mistake."""
        found, problems = rave_yaml.examine(self._used.file)
        if found is None or problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise RaveError(Code.CONFIG, f"{problems[0]}{more}")
        return rave_yaml.with_environment(found, os.environ)

    def _compared(self, found: Config) -> str:
        changed = config.changes(self._used, found)
        if not changed:
            return ""
        first = f"{self._used.file} has changed ({_listed(changed)}): "
        by_reload = [name for name in changed if name in config.RELOADED]
        if by_reload == changed:
            return f"{first}systemctl reload rave-orchestrator applies it"
        also = f", a reload {_listed(by_reload)} alone" if by_reload else ""
        return f"{first}systemctl restart rave-orchestrator applies it{also}"


def _listed(options: Sequence[str]) -> str:
    more = f" and {len(options) - _MAX_NAMED} more" if len(options) > _MAX_NAMED else ""
    return ", ".join(options[:_MAX_NAMED]) + more
