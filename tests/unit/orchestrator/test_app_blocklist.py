"""The blocklist of a whole parent: by hand, over the bus, at a reload, and when its file can't be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.bus import Bus
from ravesvc.config import rave_yaml
from ravesvc.core import service as core_service
from ravesvc.core.service import BotService
from ravesvc.orchestrator import app as program
from tests.unit.conftest import until
from tests.unit.fake_systemd import RUNNING
from tests.unit.parent_site import Site, call

pytestmark = pytest.mark.usefixtures("as_root")

Run = Callable[[Any], Any]


async def ask(client: Bus, member: str, signature: str = "", *args: Any) -> list[Any]:
    path, interface = names.MANAGER_PATH, names.BLOCKLIST_INTERFACE
    return await client.call(names.BUS_NAME, path, interface, member, signature, *args, timeout=5)


async def test_blocking_over_the_bus_stops_a_mesh_and_unblocking_starts_it(site: Site, bus_address: str) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        heard: list[tuple[str, list[Any]]] = []
        rule = f"type='signal',interface='{names.BLOCKLIST_INTERFACE}'"
        await client.match(rule, lambda signal: heard.append((signal.member, [*signal.body])))
        await ask(client, "Block", "sts", mesh, 3_600_000_000, "a noisy one")
        assert mesh in json.loads(site.blocklist.read_text())["blockedMeshes"]
        await site.manager.hears("1 mesh, 1 blocked")
        ((entry,),) = await ask(client, "ListEntries")
        assert (entry[0], entry[1], entry[4]) == (mesh, "operator", "a noisy one")
        assert entry[3] - entry[2] == 3_600_000_000
        assert await ask(client, "GetStats") == [1, 0, 1]
        await until(lambda: systemd.verbs[-1] == ("stop", mesh))
        assert await ask(client, "Unblock", "s", mesh) == [True]
        await until(lambda: systemd.verbs[-1] == ("start", mesh))
        assert [member for member, _ in heard] == ["Blocked", "Unblocked"]
        assert heard[0][1][:2] == [mesh, "operator"]
        lines, details = await call(client, "Explain", "s", mesh)
        assert "Discovery lists it as an invitation" in " ".join(lines)
        assert (details["Action"], details["BlockReason"]) == ("keep", "")
        await until(lambda: site.manager.status == "1 mesh, 1 disconnected")


@pytest.mark.parametrize("how", ["edit", "reload"])
async def test_an_edit_by_hand_is_taken_over(
    site: Site, bus_address: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)
    if how == "reload":

        async def blind(_: Any) -> None:
            return

        monkeypatch.setattr(program.FileWatch, "start", blind)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        entry = {"meshId": mesh, "reason": "kicked", "blockedAt": 1, "blockedUntil": None}
        site.blocklist.write_text(json.dumps({"blockedMeshes": {mesh: entry}}))
        if how == "reload":
            await call(client, "Reload", "s", rave_yaml.load(site.file).edition().digest)
        await site.manager.hears("1 mesh, 1 blocked")
        await until(lambda: systemd.verbs[-1] == ("stop", mesh))
        ((found,),) = await ask(client, "ListEntries")
        assert (found[1], found[3], found[5]) == ("kicked", 0, "blocklist.json")
        assert (await ask(client, "GetHistory", "s", mesh))[0][0][1:4] == ["blocked", "kicked", "blocklist.json"]


async def test_an_edit_that_comes_while_another_one_is_taken_over_is_not_missed(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = "11111111-2222-4333-8444-555555555555"
    reread, edited = Blocklist.reload, BotService.blocklist_edited
    rounds = events = 0

    def count(service: BotService) -> None:
        nonlocal events
        events += 1
        edited(service)

    async def slow(blocks: Blocklist) -> None:
        nonlocal rounds
        await reread(blocks)
        rounds += 1
        if rounds == 1:
            # It has been read, but that is not announced yet.
            before = events
            entry = {"reason": "kicked", "blockedAt": 1, "blockedUntil": None}
            site.blocklist.write_text(json.dumps({"blockedMeshes": {mesh: entry}}))
            await until(lambda: events > before)

    monkeypatch.setattr(BotService, "blocklist_edited", count)
    monkeypatch.setattr(Blocklist, "reload", slow)

    async with site.running(bus_address):
        site.blocklist.touch()
        site.blocklist.unlink()
        await site.manager.hears("1 mesh, 1 blocked")


async def test_a_file_that_cannot_be_used_keeps_everything_as_it_is_until_told(
    site: Site, bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, running = site.served.control.create(2)
    site.served.control.invite([mesh, running])
    site.blocklist.write_text('{"blockedMeshes": {\n oops')
    site.blocklist.with_name("blocklist.json.saved").write_text('{"blockedMeshes": {}}')

    async with site.running(bus_address) as (systemd, client, _):
        assert site.manager.status.startswith(f"No mesh is started: {site.blocklist} can't be used: ")
        assert "line 2" in site.manager.status
        assert site.served.control.state()["listings"]["begun"] == 0
        (kept,) = site.blocklist.parent.glob("blocklist.json.damaged-*")
        assert "oops" in kept.read_text()
        assert not site.blocklist.exists()
        systemd.load(running, **RUNNING)
        systemd.change(running, **RUNNING)
        assert await ask(client, "Restore") == [0]
        assert site.blocklist.exists()
        await until(lambda: ("start", mesh) in systemd.verbs)
        assert ("start", running) not in systemd.verbs
        assert "oops" in kept.read_text(), "nobody loses it"
    assert "No mesh is started" in caplog.text


async def test_a_file_that_is_mended_is_used(site: Site, bus_address: str) -> None:
    kicked, other = site.served.control.create(2)
    site.served.control.invite([kicked, other])
    site.blocklist.write_text("{")

    async with site.running(bus_address) as (systemd, _, _):
        entry = {"meshId": kicked, "reason": "kicked", "blockedAt": 1, "blockedUntil": None}
        site.blocklist.write_text(json.dumps({"blockedMeshes": {kicked: entry}}))
        await until(lambda: ("start", other) in systemd.verbs)
        assert systemd.verbs == [("start", other)]
        await until(lambda: site.manager.status == "2 meshes, 1 disconnected, 1 blocked")


async def test_a_disk_that_is_full_is_said_and_the_service_goes_on(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mesh,) = site.served.control.create()
    site.served.control.invite(mesh)

    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("1 mesh, 1 disconnected")
        with monkeypatch.context() as full:

            def write(*_: Any, **_check: Any) -> None:
                raise OSError(28, "No space left on device")

            full.setattr("ravesvc.blocklist.file.write_atomically", write)
            with pytest.raises(program.RaveError, match="could not be saved"):
                await call(client, "StopMesh", "s", mesh)
            await until(lambda: systemd.verbs[-1] == ("stop", mesh))
            await site.manager.hears("; the blocklist can't be saved: ")
            assert not site.blocklist.exists()
        await call(client, "StopMesh", "s", mesh)
        assert mesh in json.loads(site.blocklist.read_text())["blockedMeshes"]
        await until(lambda: site.manager.status == "1 mesh, 1 held")


async def test_a_parent_that_can_no_longer_save_ends(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mesh,) = site.served.control.create()

    def fail(_change: Any) -> str:
        raise LookupError("nobody has foreseen this")

    async with site.running(bus_address) as (_, client, parent):
        monkeypatch.setattr(core_service, "log_change", fail)
        await ask(client, "Block", "sts", mesh, 0, "")
        with pytest.raises(LookupError):
            await parent


async def test_many_changes_at_once_are_counted_once_per_turn(
    site: Site, bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0
    show = program.BlocklistObject.show

    def count(blocklist: program.BlocklistObject) -> None:
        nonlocal counted
        counted += 1
        show(blocklist)

    async with site.running(bus_address) as (_, client, _):
        monkeypatch.setattr(program.BlocklistObject, "show", count)
        entry = {"reason": "kicked", "blockedAt": 1, "blockedUntil": None}
        meshes = [f"{number:08x}-2222-4333-8444-555555555555" for number in range(500)]
        site.blocklist.write_text(json.dumps({"blockedMeshes": dict.fromkeys(meshes, entry)}))
        await site.manager.hears("500 meshes, 500 blocked")
        assert await ask(client, "GetStats") == [500, 500, 0]
        path, interface = names.MANAGER_PATH, "org.freedesktop.DBus.Properties"
        values = await client.call(names.BUS_NAME, path, interface, "GetAll", "s", names.BLOCKLIST_INTERFACE)
        assert values[0]["Total"] == 500
    assert counted < 50


async def test_outdated_bots_are_replaced_on_demand(site: Site, bus_address: str) -> None:
    async with site.running(bus_address) as (_, client, _):
        heard: list[tuple[str, list[Any]]] = []
        rule = f"type='signal',interface='{names.MANAGER_INTERFACE}'"
        await client.match(rule, lambda signal: heard.append((signal.member, [*signal.body])))
        assert await call(client, "Roll") == [0]
        await until(lambda: ("RollFinished", ["", ""]) in heard)
