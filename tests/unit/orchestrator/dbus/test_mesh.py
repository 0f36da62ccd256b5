from __future__ import annotations

import contextlib
import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, Reason
from ravesvc.bus import Bus, Interface, SignalMessage, introspection
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.errors import RaveError
from ravesvc.mesh.dbus_object import WorkerObject
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.backend import BackendObject
from ravesvc.orchestrator.dbus.blocklist import BlocklistObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.mesh import MeshObject, MeshObjects
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.store import StoreObject
from tests.unit.bus_fakes import connected
from tests.unit.fake_authority import FakeAuthority
from tests.unit.fake_systemd import MESH, OTHER, settle

Run = Callable[[Any], Any]
OPERATORS: tuple[type[Interface], ...] = (
    ManagerObject,
    AccountObject,
    PermissionsObject,
    StoreObject,
    BlocklistObject,
)
CONTRACT = Path(__file__).parents[4] / "packaging/dbus"
FILM = Mesh(MESH, "server.example:443", "A film", True, (1, 2))


# The contract.

# Whatever is not named takes the right to operate.
RIGHTS = {
    **dict.fromkeys(("GetStatus", "ListMeshes", "GetMesh", "ListAdmins", "ListPermissions"), PolkitAction.READ),
    "ListUsers": PolkitAction.READ,
    "IssueClaim": PolkitAction.ADMINS,
    **dict.fromkeys(("ListIgnoredUsers", "ListChatChanges"), PolkitAction.READ),
    "UndoChatChange": PolkitAction.ADMINS,
    **dict.fromkeys(("IgnoreUser", "UnignoreUser", "ForgetUser"), PolkitAction.ADMINS),
    "TakeOver": PolkitAction.OPERATE,
    **dict.fromkeys(("DescribeMeshes", "Plan", "Explain", "GetHealthStats", "GetHealth"), PolkitAction.READ),
    **dict.fromkeys(("ListEntries", "GetStats", "GetHistory"), PolkitAction.READ),
    **dict.fromkeys(("Block", "Unblock", "ImportEntries", "Restore"), PolkitAction.QUARANTINE),
    **dict.fromkeys(("AddAdmin", "RemoveAdmin", "SetPermission", "RemovePermission"), PolkitAction.ADMINS),
    **dict.fromkeys(("Login", "CancelLogin", "Logout", "ImportCredentials"), PolkitAction.CREDENTIALS),
    **dict.fromkeys(("Export", "Save", "Import"), PolkitAction.CREDENTIALS),
}


def described(xml: str) -> dict[str, Any]:
    """Everything that a document says of its one interface."""
    (interface,) = ET.fromstring(xml).findall("interface")
    members = {}
    for member in interface:
        args = [(arg.get("name"), arg.get("type"), arg.get("direction")) for arg in member.findall("arg")]
        members[member.tag, member.get("name")] = (args, member.get("type"), member.get("access"))
    assert len(members) == len(interface), "a member stands there twice"
    return {"name": interface.get("name"), "members": members}


@pytest.mark.parametrize("interface", [*OPERATORS, MeshObject, BackendObject, WorkerObject])
def test_the_code_keeps_the_contract(interface: type[Interface]) -> None:
    file = CONTRACT / f"{interface.interface}.xml"
    assert described(introspection([interface])) == described(file.read_text())


def test_there_is_no_other_contract() -> None:
    interfaces = {each.interface for each in (*OPERATORS, MeshObject, BackendObject, WorkerObject)}
    assert {file.stem for file in CONTRACT.glob("*.xml")} == interfaces


def explained(interface: type[Interface]) -> dict[str, str]:
    """What a document says about each method of its interface, on one line."""
    comments = ET.parse(
        CONTRACT / f"{interface.interface}.xml",
        ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)),
    ).getroot()
    text = {}
    for before, element in zip(comments[-1], list(comments[-1])[1:], strict=False):
        if element.tag == "method":
            text[element.get("name") or ""] = " ".join((before.text or "").split())
    return text


@pytest.mark.parametrize("interface", OPERATORS)
def test_every_method_names_its_right(interface: type[Interface]) -> None:
    rights = {name: method.action for name, method in interface.methods.items()}
    assert rights
    assert rights == {name: RIGHTS.get(name, PolkitAction.OPERATE) for name in rights}
    text = explained(interface)
    for name, right in rights.items():
        assert f"Right: {right}." in text[name]


# The objects on a bus.


class FakeRoll:
    """The meshes in `old` run an old program."""

    def __init__(self) -> None:
        self.old: set[str] = set()

    def is_outdated(self, record: MeshState) -> bool:
        return record.mesh in self.old


class Site:
    def __init__(self, bus: Bus, client: Bus) -> None:
        self.bus = bus
        self.client = client
        self.roll = FakeRoll()
        self.authority = FakeAuthority()
        self.heard: list[SignalMessage] = []
        self.objects = MeshObjects(bus, self._make)
        bus.object_manager(names.MANAGER_PATH)

    def _make(self, mesh: str) -> MeshObject:
        return MeshObject(self.authority, self.roll, mesh)  # type: ignore[arg-type]

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        (values,) = await self._call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", interface)
        return dict(values)

    async def _call(self, path: str, interface: str, member: str, signature: str = "", *args: Any) -> list[Any]:
        return await self.client.call(self.bus.unique_name, path, interface, member, signature, *args)

    async def said(self) -> list[tuple[Any, ...]]:
        await settle(self.bus, self.client)
        heard, self.heard[:] = [(signal.path, signal.member, *signal.body) for signal in self.heard], []
        return heard


@contextlib.asynccontextmanager
async def site_on(address: str) -> AsyncIterator[Site]:
    async with connected(address, 2) as (bus, client):
        site = Site(bus, client)
        await client.match(f"type='signal',sender='{bus.unique_name}'", site.heard.append)
        yield site


def test_a_mesh_is_announced_with_its_values_changes_with_signals_and_is_withdrawn(
    run: Run, bus_address: str
) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            run_state = RunState(phase=RunPhase.RUNNING, process=100, restarts=2)
            worker = WorkerState(connected=True, since=1.5)
            record = MeshState(MESH, listed=FILM, run=run_state, worker=worker)
            site.objects.show(record)
            path = names.mesh_path(MESH)
            expected = {
                "Id": MESH,
                "Title": "A film",
                "Server": "server.example:443",
                "Invited": True,
                "Unit": f"rave-mesh@{MESH}.service",
                "State": "connected",
                "Reason": "",
                "Healthy": True,
                "Outdated": False,
                "Debug": False,
                "Users": 2,
                "MainPID": 100,
                "Restarts": 2,
                "SinceTimestamp": 1_500_000,
            }
            announced = (names.MANAGER_PATH, "InterfacesAdded", path, {names.MESH_INTERFACE: expected})
            assert await site.said() == [announced]
            assert await site.properties(path, names.MESH_INTERFACE) == expected
            worker.connected, worker.last_error = False, "the connection broke"
            site.objects.show(record)
            site.objects.show(record)
            changed: dict[str, Any] = {"State": "disconnected", "Reason": "the connection broke"}
            assert await site.said() == [(path, "PropertiesChanged", names.MESH_INTERFACE, changed, [])]
            worker.healthy = False
            site.roll.old.add(MESH)
            site.objects.show(record)
            changed = {"State": "unhealthy", "Reason": "its process does not answer", "Healthy": False}
            worker.debug = True
            site.objects.show(record)
            changed["Outdated"] = changed["Debug"] = True
            assert await site.said() == [(path, "PropertiesChanged", names.MESH_INTERFACE, changed, [])]
            site.objects.hide(record)
            site.objects.hide(record)
            removed = (names.MANAGER_PATH, "InterfacesRemoved", path, [names.MESH_INTERFACE])
            assert await site.said() == [removed]
            with pytest.raises(RaveError):
                await site.properties(path, names.MESH_INTERFACE)
            site.objects.show(record)
            assert [said[1] for said in await site.said()] == ["InterfacesAdded"], "it may come back"

    run(body())


def test_a_mesh_that_is_not_listed_has_no_title(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            block = Block(mesh=MESH, reason=Reason.KICKED, since=0, until=None)
            site.objects.show(MeshState(MESH, block=block))
            site.objects.show(MeshState(OTHER, listed=dataclasses.replace(FILM, id=OTHER, server=None)))
            values = await site.properties(names.mesh_path(MESH), names.MESH_INTERFACE)
            assert (values["Title"], values["Server"], values["Users"], values["Invited"]) == ("", "", 0, False)
            assert (values["State"], values["Reason"]) == ("blocked", "the bot was kicked")
            values = await site.properties(names.mesh_path(OTHER), names.MESH_INTERFACE)
            assert (values["Server"], values["State"]) == ("", "stopped")

    run(body())
