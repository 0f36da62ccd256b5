"""The meshes on the bus, one object for each. packaging/dbus has the contract as XML."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, method
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.reconciler import Fleet
from ravesvc.core.rolling_restart import RollingRestart
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import Authority


class MeshObject(Interface):
    """One mesh."""

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

    def __init__(self, authority: Authority, fleet: Fleet, roll: RollingRestart, mesh: str) -> None:
        super().__init__(authority)
        self._authority = authority
        self._fleet = fleet
        self._roll = roll
        self._mesh = mesh
        self.set(Id=mesh, Unit=names.mesh_unit(mesh))

    @method(action=PolkitAction.OPERATE)
    async def start(self, call: Call) -> None:
        """As StartMesh of the manager."""
        await self._fleet.start_mesh(self._mesh, await self._authority.actor(call))

    @method(action=PolkitAction.OPERATE)
    async def stop(self, call: Call) -> None:
        """As StopMesh of the manager."""
        await self._fleet.stop_mesh(self._mesh, await self._authority.actor(call))

    @method(action=PolkitAction.OPERATE)
    async def restart(self, call: Call) -> None:
        """As RestartMesh of the manager."""
        await self._fleet.restart_mesh(self._mesh)

    @method(action=PolkitAction.OPERATE)
    async def reconnect(self, call: Call) -> None:
        """Let the running child close its connection and open another."""
        await self._fleet.reconnect_mesh(self._mesh)

    @method(returns={"state": "s", "silence_usec": "t", "healthy": "b"}, action=PolkitAction.READ)
    async def get_health(self, call: Call) -> tuple[str, int, bool]:
        """The state, how long ago its process has last spoken or answered, and whether that is recent enough.

        The silence is 0, and that is well, when it has no process that could answer.
        """
        record = self._fleet.records.get(self._mesh)
        if record is None:
            # It has gone while polkit was asked.
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {self._mesh}", mesh=self._mesh)
        silence = int(self._fleet.health.silence(self._mesh) * 1_000_000)
        return record.state, silence, record.worker.healthy

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
