"""What an earlier process left in the state directory: what the last list was a list of, and how bots have ended."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

from ravesvc.core.scope_file import ScopeFile
from ravesvc.errors import Code, RaveError
from ravesvc.names import FINAL_STATUSES, mesh_id
from ravesvc.orchestrator.exit_notes import ExitNotes

_directory = tempfile.TemporaryDirectory()
atexit.register(_directory.cleanup)
_SCOPE = Path(_directory.name, "scope.json")
_ENDS = Path(_directory.name, "ended")
_ENDS.mkdir()


def check(data: bytes) -> None:
    """What can't be used says nothing, and goes; the rest are meshes with a final status."""
    _SCOPE.write_bytes(data)
    scope = ScopeFile(_SCOPE).load()
    assert len(scope) <= len(data)
    ended = _ended(data.decode(errors="surrogateescape").splitlines()[:8])
    if not scope and not ended:
        raise RaveError(Code.BAD_DATA, "neither")


def _ended(names: list[str]) -> list[str]:
    for name in names:
        # What is no name of a file can't be one.
        with contextlib.suppress(OSError, ValueError):
            (_ENDS / name.replace("/", "_")).touch()
    ends = ExitNotes(_ENDS)
    found = ends.read()
    for mesh, status in found.items():
        assert mesh_id(mesh) == mesh
        assert status in FINAL_STATUSES
        ends.forget(mesh)
    assert not list(_ENDS.iterdir())
    return list(found)
