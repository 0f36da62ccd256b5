"""The sources of a bot for another program, which `ravectl migrate` reads."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from ravesvc.ctl import oldoptions, oldsource
from tests.fuzz.rules import check_errors

_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)


def check(data: bytes) -> None:
    """Whatever the file says, its options are read or reported."""
    directory = Path(_directory.name)
    (directory / "index.js").write_bytes(data)
    (directory / ".env").write_bytes(data)
    environment = oldsource.environment(directory)
    sources = oldsource.read(directory)
    _identity, errors = oldsource.identity(sources, environment)
    options = oldoptions.read(sources, environment)
    check_errors([*errors, *options.problems])
