"""Meshes on a command line: an id, or the beginning of one that means a single mesh."""

from __future__ import annotations

import re
from typing import NamedTuple

from ravesvc import names
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


_BEGINNING = re.compile(r"[0-9a-f-]{1,36}")
_MAX_IDS_SHOWN = 5


def find(service: Service, text: str) -> str:
    """The full id of a mesh from its beginning; raises `RaveError` (InvalidArgument, NoSuchMesh)."""
    try:
        return names.mesh_id(text)
    except RaveError:
        if not _BEGINNING.fullmatch(text):
            raise
    found = sorted(mesh for mesh in _known(service) if mesh.startswith(text))
    if len(found) == 1:
        return found[0]
    if not found:
        hint = "the service knows no such mesh; an id that it has not seen yet has to be given in full"
        raise RaveError(Code.NO_SUCH_MESH, f"no mesh has an id that begins with {text}", hint=hint)
    shown = ", ".join(found[:_MAX_IDS_SHOWN]) + (", ..." if len(found) > _MAX_IDS_SHOWN else "")
    raise RaveError(Code.INVALID_ARGUMENT, f"{len(found)} meshes have an id that begins with {text}", hint=shown)


def _known(service: Service) -> set[str]:
    (meshes,) = service.call("ListMeshes")
    (entries,) = service.call("ListEntries", interface=names.BLOCKLIST_INTERFACE)
    return {mesh for mesh, *_ in meshes} | {mesh for mesh, *_ in entries}
