from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import __version__, names
from ravesvc.api.models import Mesh, User
from ravesvc.bus import Bus, Call, Interface, Signal, introspection
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.object import WorkerObject
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.discovery import Discovery
from ravesvc.orchestrator.objects import ManagerObject, MeshObject, Objects
from ravesvc.orchestrator.record import Record, WorkerState
from ravesvc.orchestrator.unit import UnitState
from ravesvc.store.blocklist import Block, Reason
from tests.unit.bus_fakes import connected
from tests.unit.fake_systemd import MESH, OTHER, settle

Run = Callable[[Any], Any]
CONTRACT = Path(__file__).parents[2] / "packaging/dbus"
FILM = Mesh(MESH, "server.example:443", "A film", True, (User(1, "Ann"), User(2, "Bob")))


# The contract.


def described(xml: str) -> dict[str, Any]:
    """Everything that a document says of its one interface."""
    (interface,) = ET.fromstring(xml).findall("interface")
    members = {}
    for member in interface:
        args = [(arg.get("name"), arg.get("type"), arg.get("direction")) for arg in member.findall("arg")]
        members[member.tag, member.get("name")] = (args, member.get("type"), member.get("access"))
    assert len(members) == len(interface), "a member stands there twice"
    return {"name": interface.get("name"), "members": members}


@pytest.mark.parametrize("interface", [ManagerObject, MeshObject, WorkerObject])
def test_the_code_keeps_the_contract(interface: type[Interface]) -> None:
    file = CONTRACT / f"{interface.interface}.xml"
    assert described(introspection([interface])) == described(file.read_text())


def test_there_is_no_other_contract() -> None:
    interfaces = {names.MANAGER_INTERFACE, names.MESH_INTERFACE, names.WORKER_INTERFACE}
    assert {file.stem for file in CONTRACT.glob("*.xml")} == interfaces


@pytest.mark.parametrize("interface", [ManagerObject, MeshObject])
def test_every_method_names_its_right(interface: type[Interface]) -> None:
    reads = {"ListMeshes", "GetMesh"}
    rights = {name: method.action for name, method in interface.methods.items()}
    assert rights
    assert rights == {name: PolkitAction.READ if name in reads else PolkitAction.OPERATE for name in rights}
    comments = ET.parse(
        CONTRACT / f"{interface.interface}.xml",
        ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)),
    ).getroot()
    text = {}
    for before, element in zip(comments[-1], list(comments[-1])[1:], strict=False):
        if element.tag == "method":
            text[element.get("name")] = " ".join((before.text or "").split())
    for name, right in rights.items():
        if interface is ManagerObject or name == "Reconnect":
            assert f"Right: {right}." in text[name]


# The objects on a bus.


class FakeFleet:
    """The fleet as the objects see it."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.asked: list[tuple[str, str]] = []

    def start_mesh(self, mesh: str) -> None:
        self.asked.append(("start", mesh))
        if mesh == OTHER:
            raise RaveError(Code.BLOCKED, "the bot was kicked")

    def stop_mesh(self, mesh: str) -> None:
        self.asked.append(("stop", mesh))

    async def reconnect_mesh(self, mesh: str) -> None:
        self.asked.append(("reconnect", mesh))


class Site:
    def __init__(self, bus: Bus, client: Bus) -> None:
        self.bus = bus
        self.client = client
        self.fleet = FakeFleet()
        self.discovery = Discovery(self._read, 60.0, lambda: None)
        self.rights: list[tuple[str, str | None]] = []
        self.heard: list[Signal] = []
        self.manager = ManagerObject(self._authorize, self.fleet, self.discovery)  # type: ignore[arg-type]
        self.objects = Objects(bus, lambda mesh: MeshObject(self._authorize, self.fleet, mesh))  # type: ignore[arg-type]
        bus.export(names.MANAGER_PATH, self.manager)
        bus.object_manager(names.MANAGER_PATH)

    async def _read(self) -> list[Mesh]:
        return [FILM]

    async def _authorize(self, call: Call, action: str | None) -> None:
        self.rights.append((call.member, action))

    async def ask(self, member: str, signature: str = "", *args: str) -> list[Any]:
        return await self._call(names.MANAGER_PATH, names.MANAGER_INTERFACE, member, signature, *args)

    async def ask_mesh(self, mesh: str, member: str) -> list[Any]:
        return await self._call(names.mesh_path(mesh), names.MESH_INTERFACE, member)

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
            unit = UnitState(active="active", main_pid=100, n_restarts=2)
            worker = WorkerState(connected=True, since=1.5)
            record = Record(MESH, listed=FILM, unit=unit, worker=worker)
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
            changed = {"State": "disconnected", "Reason": "the connection broke"}
            assert await site.said() == [(path, "PropertiesChanged", names.MESH_INTERFACE, changed, [])]
            site.objects.hide(record)
            site.objects.hide(record)
            removed = (names.MANAGER_PATH, "InterfacesRemoved", path, [names.MESH_INTERFACE])
            assert await site.said() == [removed]
            with pytest.raises(RaveError):
                await site.ask_mesh(MESH, "Start")
            site.objects.show(record)
            assert [said[1] for said in await site.said()] == ["InterfacesAdded"], "it may come back"

    run(body())


def test_a_mesh_that_is_not_listed_has_no_title(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            block = Block(mesh=MESH, reason=Reason.KICKED, since=0, until=None)
            site.objects.show(Record(MESH, block=block))
            site.objects.show(Record(OTHER, listed=dataclasses.replace(FILM, id=OTHER, server=None)))
            values = await site.properties(names.mesh_path(MESH), names.MESH_INTERFACE)
            assert (values["Title"], values["Server"], values["Users"], values["Invited"]) == ("", "", 0, False)
            assert (values["State"], values["Reason"]) == ("blocked", "the bot was kicked")
            values = await site.properties(names.mesh_path(OTHER), names.MESH_INTERFACE)
            assert (values["Server"], values["State"]) == ("", "stopped")

    run(body())


def test_the_methods_of_a_mesh(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.objects.show(Record(MESH))
            for member in ("Start", "Stop", "Reconnect"):
                assert await site.ask_mesh(MESH, member) == []
            assert site.fleet.asked == [("start", MESH), ("stop", MESH), ("reconnect", MESH)]
            operate = PolkitAction.OPERATE
            assert site.rights == [("Start", operate), ("Stop", operate), ("Reconnect", operate)]

    run(body())


def test_the_methods_of_the_manager(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            site.fleet.records = {OTHER: Record(OTHER), MESH: Record(MESH, listed=FILM)}
            assert await site.ask("ListMeshes") == [
                [
                    [MESH, "A film", "stopped", names.mesh_path(MESH)],
                    [OTHER, "", "stopped", names.mesh_path(OTHER)],
                ]
            ]
            assert await site.ask("GetMesh", "s", MESH) == [names.mesh_path(MESH)]
            await site.ask("StartMesh", "s", MESH)
            await site.ask("StopMesh", "s", OTHER)
            assert site.fleet.asked == [("start", MESH), ("stop", OTHER)]
            assert not site.discovery._asked.is_set()
            await site.ask("Discover")
            assert site.discovery._asked.is_set()
            read, operate = PolkitAction.READ, PolkitAction.OPERATE
            assert site.rights == [
                ("ListMeshes", read),
                ("GetMesh", read),
                ("StartMesh", operate),
                ("StopMesh", operate),
                ("Discover", operate),
            ]

    run(body())


@pytest.mark.parametrize(
    ("member", "mesh", "code"),
    [
        ("GetMesh", MESH, Code.NO_SUCH_MESH),
        ("GetMesh", "x", Code.INVALID_ARGUMENT),
        ("GetMesh", MESH.upper(), Code.INVALID_ARGUMENT),
        ("StartMesh", "", Code.INVALID_ARGUMENT),
        ("StartMesh", OTHER, Code.BLOCKED),
        ("StopMesh", f"{MESH}.service", Code.INVALID_ARGUMENT),
    ],
)
def test_what_the_manager_refuses(run: Run, bus_address: str, member: str, mesh: str, code: Code) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            with pytest.raises(RaveError) as e:
                await site.ask(member, "s", mesh)
            assert e.value.code is code
            assert e.value.attributes["error_name"] == f"org.ravesvc.Rave1.Error.{code}"

    run(body())


def test_the_properties_of_the_manager_and_the_end_of_a_round(run: Run, bus_address: str) -> None:
    async def body() -> None:
        async with site_on(bus_address) as site:
            values = await site.properties(names.MANAGER_PATH, names.MANAGER_INTERFACE)
            assert values == {
                "Version": __version__,
                "Status": "",
                "Meshes": 0,
                "Connected": 0,
                "DiscoveryError": "",
                "LastDiscoveryTimestamp": 0,
                "HeldBack": 0,
            }
            site.manager.discovery_finished()
            assert await site.said() == [(names.MANAGER_PATH, "DiscoveryFinished", 0, "")]
            await site.discovery._one_round()
            connected = Record(MESH, unit=UnitState(active="active"), worker=WorkerState(connected=True))
            site.fleet.records = {MESH: connected, OTHER: Record(OTHER)}
            site.manager.show("2 meshes")
            site.manager.discovery_finished()
            at = int(site.discovery.last_good * 1_000_000)
            changed = {"Status": "2 meshes", "Meshes": 2, "Connected": 1, "LastDiscoveryTimestamp": at}
            assert await site.said() == [
                (names.MANAGER_PATH, "PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                (names.MANAGER_PATH, "DiscoveryFinished", 1, ""),
            ]
            site.discovery.error = RaveError(Code.NETWORK, "no route", hint="wait")
            site.discovery.census.held_back = 3
            site.manager.show("2 meshes")
            await asyncio.sleep(0)
            site.manager.discovery_finished()
            changed = {"DiscoveryError": "no route (wait)", "HeldBack": 3}
            assert await site.said() == [
                (names.MANAGER_PATH, "PropertiesChanged", names.MANAGER_INTERFACE, changed, []),
                (names.MANAGER_PATH, "DiscoveryFinished", 1, "no route (wait)"),
            ]

    run(body())
