"""The files of a canary that has gone well: moved into the place of the former versions, which root alone may do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ravesvc.common import plugin_files
from ravesvc.common.atomic_files import sync
from ravesvc.common.text import printable
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError


def move(directory: Path, files: Sequence[Sequence[str]]) -> None:
    """Move new versions into the directory of plugins, and say so.

    Each file has its name, the digest of its new version, and that of the former. One that was changed meanwhile
    stays where it is: what the operator has written last counts. Raises `RaveError` (BadData) for what is no name.
    """
    for name, digest, former in files:
        if "/" in name:
            # Root moves files here, and a service that was taken over must not choose which.
            raise RaveError(
                Code.BAD_DATA, f"the service has named {printable(name, 80)}, which is no file of plugins"
            )
        new, old = directory / plugin_files.CANARY_DIRECTORY / name, directory / name
        if not plugin_files.has_digest(new, digest):
            if not plugin_files.has_digest(old, digest):
                output.print_problem(f"{new} is not what was tried, and is not moved (ravectl plugin withdraw)")
            continue
        if new.is_symlink():
            # From elsewhere a link may lead elsewhere.
            output.print_problem(f"{new} is a link, and is not moved: move what it leads to, then ravectl refresh")
            continue
        if former and not os.path.lexists(old):
            output.print_problem(f"{old} was removed meanwhile: {new} is not moved")
            continue
        if old.exists() and not plugin_files.has_digest(old, former):
            output.print_problem(f"{old} has changed meanwhile: {new} is not moved")
            continue
        try:
            new.replace(old)
        except OSError as error:
            output.print_problem(f"{new} can't be moved to {directory}: {error.strerror} (try as root)")
            continue
        sync(directory)
        output.print_line(f"{new} is moved to {directory}.")
