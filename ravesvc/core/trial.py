"""What a canary tries, and how far it is; and the file that keeps that for the next process of the service."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ravesvc.common import json_fields, text_file
from ravesvc.common.atomic_files import write_atomically
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# Bytes; that of the most files and meshes has about a tenth.
_MAX_BYTES = 256 * 1024


class Phase(StrEnum):
    """How far a canary is."""

    NONE = "none"
    TRYING = "trying"
    IN_FORCE = "in-force"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TriedFile:
    """A file of plugins: its name, the digest of its new version, and that of the former; empty without a former."""

    name: str
    digest: str
    former: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One canary.

    Attributes:
        files: what is tried, and `meshes`: where. Empty if nothing is, or was.
        began: when, in seconds since the epoch, and `ends`: when the files are to be in force in all meshes.
        reason: why it has failed, in words.
    """

    phase: Phase = Phase.NONE
    files: tuple[TriedFile, ...] = ()
    meshes: frozenset[str] = frozenset()
    began: float = 0.0
    ends: float = 0.0
    reason: str = ""


class TrialFile:
    """Keeps the trial. A file that can't be read is none: all bots then have what is in force without a canary."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Trial:
        """The trial of an earlier process."""
        try:
            return _trial(json_fields.parse_object(text_file.read(self._path, _MAX_BYTES), str(self._path)))
        except FileNotFoundError:
            pass
        except (OSError, RaveError) as error:
            log.warning("%s can't be used, so no plugin is tried: %s", self._path, error)
        return Trial()

    def keep(self, trial: Trial) -> None:
        """Save the trial. Raises `RaveError` (BadFile). It blocks."""
        content = {
            "phase": trial.phase,
            "files": [[file.name, file.digest, file.former] for file in trial.files],
            "meshes": sorted(trial.meshes),
            "began": trial.began,
            "ends": trial.ends,
            "reason": trial.reason,
        }
        try:
            write_atomically(self._path, json.dumps(content) + "\n", 0o600)
        except OSError as error:
            raise RaveError(Code.BAD_FILE, f"{self._path} can't be written: {error.strerror}") from error


def _trial(source: Object) -> Trial:
    phase = json_fields.get_str(source, "phase")
    if phase not in set(Phase):
        raise RaveError(Code.BAD_DATA, f"the phase {phase[:20]!r} is none")
    return Trial(
        phase=Phase(phase),
        files=tuple(map(_file, json_fields.get_list(source, "files"))),
        meshes=frozenset(str(mesh) for mesh in json_fields.get_list(source, "meshes")),
        began=json_fields.get_number(source, "began"),
        ends=json_fields.get_number(source, "ends"),
        reason=json_fields.get_str(source, "reason"),
    )


def _file(value: object) -> TriedFile:
    match value:
        case [str(name), str(digest), str(former)]:
            return TriedFile(name, digest, former)
    raise RaveError(Code.BAD_DATA, "a file is none")
