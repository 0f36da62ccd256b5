"""Reads the notes that rave-ended@.service writes of how bots have ended, for a service that was away meanwhile.

A note is an empty file whose name is the mesh and the exit status of its bot.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ravesvc import names
from ravesvc.errors import RaveError
from ravesvc.names import FINAL_STATUSES, ExitStatus

log = logging.getLogger(__name__)


def weightier(status: ExitStatus, other: ExitStatus) -> ExitStatus:
    """That of two ends of a bot which matters more for its mesh: a kick most, then the others by their numbers.

    CONFIG, whose number sysexits.h has chosen, matters least: it says nothing of the mesh.
    """
    return min(status, other, key=lambda each: (each is ExitStatus.CONFIG, each))


class ExitNotes:
    """The notes in a directory, which may not exist. The methods block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> dict[str, ExitStatus]:
        """The exit status of each mesh that has ended for good. Of several, the one that matters most: a kick first.

        Files that are no such notes, or say nothing, as the note of a crash, are removed.
        """
        found: dict[str, ExitStatus] = {}
        for name in self._names():
            end = _end(name)
            if end is None:
                self._remove(name)
            else:
                mesh, status = end
                found[mesh] = weightier(status, found.get(mesh, status))
        return found

    def forget(self, mesh: str) -> None:
        """Remove the notes of a mesh. What follows from them must be saved before."""
        for name in self._names():
            if name.startswith(f"{mesh}."):
                self._remove(name)

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self._directory.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as e:
            log.warning("%s can't be read: %s", self._directory, e.strerror)
            return []

    def _remove(self, name: str) -> None:
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as e:
            log.warning("%s can't be removed: %s", self._directory / name, e.strerror)


def _end(name: str) -> tuple[str, ExitStatus] | None:
    mesh, _, status = name.partition(".")
    try:
        end = names.mesh_id(mesh), ExitStatus(int(status))
    except (RaveError, ValueError):
        return None
    return end if end[1] in FINAL_STATUSES else None
