"""The parent's face on the bus: the manager, and one object for each mesh. packaging/dbus has the contract as XML."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ravesvc import __version__, names
from ravesvc.bus import Bus, Call, Interface, method
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.discovery import Discovery
from ravesvc.orchestrator.fleet import Fleet
from ravesvc.orchestrator.polkit import Authority
from ravesvc.orchestrator.record import Record


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
        "Users": "u",
        "MainPID": "u",
        "Restarts": "u",
        "SinceTimestamp": "t",
    }

    def __init__(self, authority: Authority, fleet: Fleet, mesh: str) -> None:
        super().__init__(authority)
        self._fleet = fleet
        self._mesh = mesh
        self.set(Id=mesh, Unit=names.mesh_unit(mesh))

    @method(action=PolkitAction.OPERATE)
    async def start(self, call: Call) -> None:
        """As StartMesh of the manager."""
        self._fleet.start_mesh(self._mesh)

    @method(action=PolkitAction.OPERATE)
    async def stop(self, call: Call) -> None:
        """As StopMesh of the manager."""
        self._fleet.stop_mesh(self._mesh)

    @method(action=PolkitAction.OPERATE)
    async def reconnect(self, call: Call) -> None:
        """Let the running child close its connection and open another."""
        await self._fleet.reconnect_mesh(self._mesh)

    def show(self, record: Record) -> None:
        """Take over what a record says."""
        listed = record.listed
        self.set(
            Title=listed.title if listed else "",
            Server=(listed.server or "") if listed else "",
            Invited=bool(listed and listed.invited),
            Users=len(listed.users) if listed else 0,
            State=record.state,
            Reason=record.reason,
            MainPID=record.unit.main_pid,
            Restarts=record.unit.n_restarts,
            SinceTimestamp=int(record.worker.since * 1_000_000),
        )


class ManagerObject(Interface):
    """The service as a whole."""

    interface = names.MANAGER_INTERFACE
    properties: ClassVar = {
        "Version": "s",
        "Status": "s",
        "Meshes": "u",
        "Connected": "u",
        "DiscoveryError": "s",
        "LastDiscoveryTimestamp": "t",
        "HeldBack": "u",
    }
    signals: ClassVar = {"DiscoveryFinished": {"meshes": "u", "error": "s"}}

    def __init__(self, authority: Authority, fleet: Fleet, discovery: Discovery) -> None:
        super().__init__(authority)
        self._fleet = fleet
        self._discovery = discovery
        self.set(Version=__version__)

    @method(returns={"meshes": "a(ssso)"}, action=PolkitAction.READ)
    async def list_meshes(self, call: Call) -> list[list[str]]:
        """Id, title, state and object path of every mesh, by id."""
        return [
            [record.mesh, record.listed.title if record.listed else "", record.state, names.mesh_path(record.mesh)]
            for record in sorted(self._fleet.records.values(), key=lambda record: record.mesh)
        ]

    @method(takes={"id": "s"}, returns={"mesh": "o"}, action=PolkitAction.READ)
    async def get_mesh(self, call: Call, id: str) -> str:  # noqa: A002 - the argument's name on the wire
        """The object of a mesh. Errors: InvalidArgument, NoSuchMesh."""
        if names.mesh_id(id) not in self._fleet.records:
            raise RaveError(Code.NO_SUCH_MESH, f"there is no mesh {id}", hint="ListMeshes shows those that there are")
        return names.mesh_path(id)

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def start_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Lift a block that is not a kick, and start. Errors: InvalidArgument, NoSuchMesh, Blocked, BadFile."""
        self._fleet.start_mesh(names.mesh_id(id))

    @method(takes={"id": "s"}, action=PolkitAction.OPERATE)
    async def stop_mesh(self, call: Call, id: str) -> None:  # noqa: A002
        """Stop, and stay stopped until StartMesh. Errors: InvalidArgument, NoSuchMesh, BadFile."""
        self._fleet.stop_mesh(names.mesh_id(id))

    @method(action=PolkitAction.OPERATE)
    async def discover(self, call: Call) -> None:
        """Begin a discovery round now; DiscoveryFinished tells how it went."""
        self._discovery.ask()

    def show(self, status: str) -> None:
        """Take over what fleet and discovery say; `status` is one line for people."""
        states = [record.state for record in self._fleet.records.values()]
        self.set(
            Status=status,
            Meshes=len(states),
            Connected=states.count("connected"),
            DiscoveryError=str(self._discovery.error or ""),
            LastDiscoveryTimestamp=int(self._discovery.last_good * 1_000_000),
            HeldBack=self._discovery.census.held_back,
        )

    def discovery_finished(self) -> None:
        """Announce the end of a round."""
        self.emit("DiscoveryFinished", len(self._discovery.census.meshes or {}), str(self._discovery.error or ""))


class Objects:
    """Exports an object for each record, and keeps its properties up to date."""

    def __init__(self, bus: Bus, make: Callable[[str], MeshObject]) -> None:
        self._bus = bus
        self._make = make
        self._objects: dict[str, MeshObject] = {}

    def show(self, record: Record) -> None:
        """Export or update the object of a record."""
        exported = self._objects.get(record.mesh) or self._make(record.mesh)
        exported.show(record)
        if record.mesh not in self._objects:
            # With its values in place, because they are announced with it.
            self._objects[record.mesh] = exported
            self._bus.export(names.mesh_path(record.mesh), exported)

    def hide(self, record: Record) -> None:
        """Withdraw the object of a record."""
        if self._objects.pop(record.mesh, None):
            self._bus.unexport(names.mesh_path(record.mesh))
