"""The files of a canary that has gone well: moved into the place of the former versions, which root alone may do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ravesvc.common import plugin_files
from ravesvc.common.atomic_files import sync
from ravesvc.ctl.ui import output


def move(directory: Path, files: Sequence[Sequence[str]]) -> None:
    """Move new versions into the directory of plugins, and say so.

    Each file has its name, the digest of its new version, and that of the former. One that was changed meanwhile
    stays where it is: what the operator has written last counts.
    """
    for name, digest, former in files:
        new, old = directory / plugin_files.CANARY_DIRECTORY / name, directory / name
        if not plugin_files.has_digest(new, digest):
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
