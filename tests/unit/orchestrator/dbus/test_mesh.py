from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ravesvc import names
from ravesvc.api.models import Mesh
from ravesvc.blocklist.model import Block, Reason
from ravesvc.bus import Bus, SignalMessage
from ravesvc.core.mesh_state import MeshState, WorkerState
from ravesvc.core.run_state import RunPhase, RunState
from ravesvc.errors import RaveError
from ravesvc.orchestrator.dbus.mesh import MeshObject, MeshObjects
from tests.unit.bus_fakes import connected
from tests.unit.fake_access import FakeAccessCheck
from tests.unit.fake_systemd import MESH, OTHER, settle

FILM = Mesh(MESH, "server.example:443", "A film", True, (1, 2))


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
        self.access = FakeAccessCheck()
        self.heard: list[SignalMessage] = []
        self.objects = MeshObjects(bus, self._make)
        bus.object_manager(names.MANAGER_PATH)

    def _make(self, mesh: str) -> MeshObject:
        return MeshObject(self.access, self.roll, mesh)  # type: ignore[arg-type]

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


async def test_a_mesh_is_announced_with_its_values_changes_with_signals_and_is_withdrawn(bus_address: str) -> None:
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


async def test_a_mesh_that_is_not_listed_has_no_title(bus_address: str) -> None:
    async with site_on(bus_address) as site:
        block = Block(mesh=MESH, reason=Reason.KICKED, since=0, until=None)
        site.objects.show(MeshState(MESH, block=block))
        site.objects.show(MeshState(OTHER, listed=dataclasses.replace(FILM, id=OTHER, server=None)))
        values = await site.properties(names.mesh_path(MESH), names.MESH_INTERFACE)
        assert (values["Title"], values["Server"], values["Users"], values["Invited"]) == ("", "", 0, False)
        assert (values["State"], values["Reason"]) == ("blocked", "the bot was kicked")
        values = await site.properties(names.mesh_path(OTHER), names.MESH_INTERFACE)
        assert (values["Server"], values["State"]) == ("", "stopped")
