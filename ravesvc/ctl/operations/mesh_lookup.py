"""Meshes on a command line: by id, by the beginning of an id, or by title, as long as that means a single mesh."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ravesvc import names
from ravesvc.common.text import count, printable
from ravesvc.ctl.client import Service
from ravesvc.errors import Code, RaveError


class MeshRow(NamedTuple):
    """A mesh by DescribeMeshes; `since` in microseconds since the epoch, 0 for never."""

    id: str
    title: str
    state: str
    reason: str
    since: int
    users: int
    restarts: int
    outdated: bool


class FoundMesh(NamedTuple):
    """A mesh that a user has named. As a text, it is the id with the title in brackets; no title if none is known."""

    id: str
    title: str

    def __str__(self) -> str:
        # Strangers write titles, and this stands in a sentence.
        title = printable(self.title, _MAX_TITLE_CHARS)
        return f"{self.id} ({title})" if title else self.id

    def short(self) -> str:
        """The same with the beginning of the id."""
        return str(self._replace(id=self.id[:SHORT_ID_CHARS]))


# So much of an id is shown where there is little room.
SHORT_ID_CHARS = 8
_BEGINNING = re.compile(r"[0-9a-f-]{1,36}")
_MAX_SHOWN = 5
_MAX_TITLE_CHARS = 60


def find(service: Service, text: str) -> FoundMesh:
    """The mesh with this id, or else this beginning of an id, title, or part of a title.

    Upper and lower case are the same in a title. Raises `RaveError`: NoSuchMesh if none fits, InvalidArgument if
    several do.
    """
    if names.is_mesh_id(text):
        return FoundMesh(text, listed_titles(service).get(text, ""))
    known = _titles(service)
    if found := _with_beginning(known, text):
        return _only(known, found, f"an id that begins with {text}")
    if found := _with_title(known, text):
        return _only(known, found, f"{text[:_MAX_TITLE_CHARS]!r} in their titles")
    if _BEGINNING.fullmatch(text):
        what = f"no mesh has an id that begins with {text}, nor {text} in its title"
        hint = "the service knows no such mesh; an id that it has not seen yet has to be given in full"
        raise RaveError(Code.NO_SUCH_MESH, what, hint=hint)
    what = f"{text[:_MAX_TITLE_CHARS]!r} is not a mesh id, and no mesh has it in its title"
    raise RaveError(Code.NO_SUCH_MESH, what, hint="ravectl list shows the meshes that there are")


def listed_titles(service: Service) -> dict[str, str]:
    """By id, the titles of the meshes that are listed, run, or were blocked lately; empty for one without a title."""
    (meshes,) = service.call("ListMeshes")
    return {mesh: title for mesh, title, *_ in meshes}


def _titles(service: Service) -> dict[str, str]:
    """The same of all meshes that the service knows. The blocklist may have thousands."""
    (entries,) = service.call("DescribeEntries", interface=names.BLOCKLIST_INTERFACE)
    return {mesh: title for mesh, title, *_ in entries} | listed_titles(service)


def _only(known: Mapping[str, str], found: Sequence[str], what: str) -> FoundMesh:
    """The one mesh that was found; raises `RaveError` (InvalidArgument) with some of them if there are more."""
    if len(found) == 1:
        return FoundMesh(found[0], known[found[0]])
    shown = ", ".join(str(FoundMesh(mesh, known[mesh])) for mesh in found[:_MAX_SHOWN])
    more = ", ..." if len(found) > _MAX_SHOWN else ""
    hint = f"name one of them by its id: {shown}{more}"
    raise RaveError(Code.INVALID_ARGUMENT, f"{count(len(found), 'mesh')} have {what}", hint=hint)


def _with_beginning(known: Mapping[str, str], text: str) -> list[str]:
    return sorted(mesh for mesh in known if mesh.startswith(text)) if _BEGINNING.fullmatch(text) else []


def _with_title(known: Mapping[str, str], text: str) -> list[str]:
    """The meshes with this title, or else those with this in their titles."""
    wanted = text.strip().casefold()
    if not wanted:
        return []
    folded = {mesh: title.strip().casefold() for mesh, title in known.items()}
    whole = sorted(mesh for mesh, title in folded.items() if title == wanted)
    return whole or sorted(mesh for mesh, title in folded.items() if wanted in title)
