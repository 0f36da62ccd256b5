"""The meshes on the bus, one object for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ravesvc import names
from ravesvc.bus import Bus, Interface
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.orchestrator.dbus.polkit import AccessCheck


class MeshObject(Interface):
    """One mesh, at /org/ravesvc/Rave1/mesh/<escaped id> of org.ravesvc.Rave1.

    Every property changes with a signal. It has no methods: those of the manager take the id. They also serve a mesh
    that has no object because it is blocked only, answer NoSuchMesh instead of a bus error when the mesh is gone, and
    need no escaped path.

    Properties:
        Id: The id of the mesh.
        Title: Its title when it was last listed, or when it was blocked; may be empty.
        Server: Host and port of its server; empty when that is not known.
        Invited: Whether the bot was invited to it.
        Unit: The systemd unit of its bot.
        State: blocked (on the blocklist), held (stopped by an operator), stopped, starting, connected, disconnected,
            unhealthy, restarting, stopping or failed.
        Reason: Why it is not connected, in words, or empty.
        Healthy: False when its process does not answer; it is restarted then. True says nothing of a mesh whose State
            is not connected or disconnected: it has no process that could answer.
        Outdated: Whether its process runs an older program or other settings than a new one would.
        Debug: Whether its process says in the log all that it ever says, as far as is known.
        Users: Users in the mesh when discovery last read it.
        MainPID: The process id of its bot; 0 when no process runs.
        Restarts: Automatic restarts since the unit was started.
        SinceTimestamp: When it was last connected or disconnected: microseconds of CLOCK_REALTIME, 0 for never.
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

    def __init__(self, access: AccessCheck, roll: RollingRestart, mesh: str) -> None:
        super().__init__(access)
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
