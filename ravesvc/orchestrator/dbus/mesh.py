"""The meshes on the bus, one object for each. packaging/dbus has the contract as XML."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ravesvc import names
from ravesvc.bus import Bus, Interface
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.orchestrator.dbus.polkit import Authority


class MeshObject(Interface):
    """One mesh: its properties, and signals when they change.

    It has no methods. Those of the manager take the id: they also serve a mesh that has no object because it is
    blocked only, answer NoSuchMesh instead of a bus error when the mesh is gone, and need no escaped path.
    """

    interface = names.MESH_INTERFACE
    properties: ClassVar = {
        "Id": "s",
        "Title": "s",
        "Server": "s",
        "Invited": "b",
        "Unit": "s",
        "State": "s",
        "Reason": "s",
        "Healthy": "b",
        "Outdated": "b",
        "Debug": "b",
        "Users": "u",
        "MainPID": "u",
        "Restarts": "u",
        "SinceTimestamp": "t",
    }

    def __init__(self, authority: Authority, roll: RollingRestart, mesh: str) -> None:
        super().__init__(authority)
        self._roll = roll
        self.set(Id=mesh, Unit=names.mesh_unit(mesh))

    def show(self, record: MeshState) -> None:
        """Take over what a record says."""
        listed = record.listed
        self.set(
            Title=record.title,
            Server=record.server or "",
            Invited=bool(listed and listed.invited),
            Users=record.users,
            State=record.state,
            Reason=record.reason,
            Healthy=record.worker.healthy,
            Outdated=self._roll.is_outdated(record),
            Debug=record.worker.debug,
            MainPID=record.run.process,
            Restarts=record.run.restarts,
            SinceTimestamp=record.since,
        )


class MeshObjects:
    """Exports an object for each record, and keeps its properties up to date."""

    def __init__(self, bus: Bus, make: Callable[[str], MeshObject]) -> None:
        self._bus = bus
        self._make = make
        self._objects: dict[str, MeshObject] = {}

    def show(self, record: MeshState) -> None:
        """Export or update the object of a record."""
        exported = self._objects.get(record.mesh) or self._make(record.mesh)
        exported.show(record)
        if record.mesh not in self._objects:
            # With its values in place, because they are announced with it.
            self._objects[record.mesh] = exported
            self._bus.export(names.mesh_path(record.mesh), exported)

    def hide(self, record: MeshState) -> None:
        """Withdraw the object of a record."""
        if self._objects.pop(record.mesh, None):
            self._bus.unexport(names.mesh_path(record.mesh))
