"""The directory of a bot for another program, which `ravectl migrate` reads: sources, options, blocklist, account."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

from ravesvc.ctl import oldbot, oldoptions, oldsource
from ravesvc.errors import RaveError
from ravesvc.names import mesh_id
from ravesvc.store.blocklist import Block
from tests.fuzz.rules import check_errors

_NOW_MS = 1_764_414_000_000
_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)


def check(data: bytes) -> None:
    """Whatever the file says, its options are read or reported."""
    directory = Path(_directory.name)
    for name in ("index.js", ".env", "package.json"):
        (directory / name).write_bytes(data)
    with contextlib.suppress(RaveError):
        oldbot.account(data, directory / oldbot.CREDENTIALS)
    with contextlib.suppress(RaveError):
        _check_blocks(*oldbot.blocks(data, directory / oldbot.BLOCKLIST, _NOW_MS))
    environment = oldsource.environment(directory)
    sources = oldsource.read(directory)
    _identity, errors = oldsource.identity(sources, environment)
    options = oldoptions.read(sources, environment)
    check_errors([*errors, *options.problems])


def _check_blocks(blocks: list[Block], problems: list[RaveError]) -> None:
    for block in blocks:
        assert mesh_id(block.mesh) == block.mesh
    for problem in problems:
        assert problem.message.isprintable()
