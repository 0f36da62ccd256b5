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


def move(directory: Path, files: Sequence[Sequence[str]]) -> bool:
    """Move new versions into the directory of plugins, and say so; returns whether all of them are there then.

    Each file has its name, the digest of its new version, and that of the former. One that was changed meanwhile
    stays where it is: what the operator has written last counts. Raises `RaveError` (BadData) for what is no name.
    """
    for name, *_ in files:
        if "/" in name:
            # Root moves files here, and a service that was taken over must not choose which.
            what = f"the service has named {printable(name, 80)}, which is no file of plugins"
            raise RaveError(Code.BAD_DATA, what)
    # Each of them, also after one that stays.
    moved = [_move(directory, *each) for each in files]
    return all(moved)


def _move(directory: Path, name: str, digest: str, former: str) -> bool:
    new, old = directory / plugin_files.CANARY_DIRECTORY / name, directory / name
    if plugin_files.has_digest(old, digest):
        return True
    if why := _obstacle(new, old, digest, former):
        output.print_problem(why)
        return False
    try:
        new.replace(old)
    except OSError as error:
        output.print_problem(f"{new} can't be moved to {directory}: {error.strerror} (try as root)")
        return False
    sync(directory)
    output.print_line(f"{new} is moved to {directory}.")
    return True


def _obstacle(new: Path, old: Path, digest: str, former: str) -> str:
    """Why a new version can't take the place of the former one; empty if it can."""
    if not plugin_files.has_digest(new, digest):
        return f"{new} is not what was tried, and is not moved (ravectl plugin withdraw)"
    if new.is_symlink():
        # From elsewhere a link may lead elsewhere.
        return f"{new} is a link, and is not moved: move what it leads to, then ravectl refresh"
    if former and not os.path.lexists(old):
        return f"{old} was removed meanwhile: {new} is not moved"
    if old.exists() and not plugin_files.has_digest(old, former):
        return f"{old} has changed meanwhile: {new} is not moved"
    return ""
