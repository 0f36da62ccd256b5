"""What the operator hands over to plugins where no unit does that: the files of a directory, by their names."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from ravesvc.bot.secrets import MAX_SECRET_BYTES
from ravesvc.common import fd_files
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)


def read(directory: Path) -> dict[str, str]:
    """The texts of all files, without blanks around them. One that can't be used is in the log, and left out."""
    found: dict[str, str] = {}
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return found
    except OSError as error:
        log.warning("No secrets are handed over to plugins: %s", error)
        return found
    for path in paths:
        try:
            found[path.name] = _text(path)
        except (OSError, RaveError) as error:
            log.warning("A secret is left out: %s", error)
    return found


def _text(path: Path) -> str:
    # O_NONBLOCK: to open a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            log.warning("Other users can use %s: chmod 600 %s", path, path)
        return fd_files.read(descriptor, str(path), MAX_SECRET_BYTES).strip()
    finally:
        os.close(descriptor)
