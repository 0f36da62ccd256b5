"""The file of the embedded store, byte by byte, as a failing disk or another program leaves it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from ravesvc.errors import RaveError
from ravesvc.store import export
from ravesvc.store.engines.sqlite import _read
from ravesvc.store.engines.sqlite_file import StateFile
from ravesvc.store.export import Export
from tests.fuzz.rules import check_errors


def check(data: bytes) -> None:
    """It is a whole store, or refused in words; no byte of it is lost then, and it is read no second time."""
    directory = Path(tempfile.mkdtemp())
    try:
        _check(directory, data)
    finally:
        shutil.rmtree(directory)


def _check(directory: Path, data: bytes) -> None:
    path = directory / "state.db"
    path.write_bytes(data)
    with contextlib.closing(StateFile(path)) as file:
        try:
            contents = file.run("BEGIN", _read)
        except RaveError as e:
            assert data in [each.read_bytes() for each in directory.iterdir()]
            check_errors([e])
            raise
        export.to_json(Export(contents=contents)).encode()
