"""Names of units, objects and meshes, as systemd, the bus and callers spell them."""

from __future__ import annotations

from ravesvc import names
from ravesvc.errors import RaveError


def check(data: bytes) -> None:
    """A mesh that one of them names is spelled like that again."""
    text = data.decode(errors="surrogateescape")
    if mesh := names.mesh_of_unit(text):
        assert names.mesh_unit(mesh) == text
    if mesh := names.mesh_of_worker_path(text):
        assert names.worker_path(mesh) == text
    try:
        label = names.unescape(text)
    except RaveError:
        names.mesh_id(text)
    else:
        assert names.escape(label) == text
