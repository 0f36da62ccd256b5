"""The directory of a bot for another program, which `ravectl migrate` reads: sources, options, blocklist, account."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

from ravesvc.blocklist.model import Block
from ravesvc.ctl.operations import nodejs_files, nodejs_options, nodejs_source
from ravesvc.errors import RaveError
from ravesvc.names import mesh_id
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
        nodejs_files.account(data, directory / nodejs_files.CREDENTIALS)
    with contextlib.suppress(RaveError):
        _check_blocks(*nodejs_files.blocks(data, directory / nodejs_files.BLOCKLIST, _NOW_MS))
    environment = nodejs_source.environment(directory)
    sources = nodejs_source.read(directory)
    _identity, errors = nodejs_source.identity(sources, environment)
    options = nodejs_options.read(sources, environment)
    check_errors([*errors, *options.problems])


def _check_blocks(blocks: list[Block], problems: list[RaveError]) -> None:
    for block in blocks:
        assert mesh_id(block.mesh) == block.mesh
    for problem in problems:
        assert problem.message.isprintable()
