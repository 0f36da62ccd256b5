"""What rooms remember, on the booted system: within limits, exported and imported, and without who wants that."""

from __future__ import annotations

import json

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import ADMIN, says, user_id
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot
from tests.integration.test_store import STATE

BOB, BOT = "bob", "botty"


@pytest.fixture
def meshes(site: Site) -> list[str]:
    """Two meshes; ann is an admin, and has muted bob in both."""
    meshes = site.run_fleet(2)
    site.sh(f"ravectl admin add {user_id(site, meshes[0], ADMIN)}")
    for mesh in meshes:
        bob = user_id(site, mesh, BOB)
        site.control.leader(mesh, BOT)
        assert f"({bob})" in says(site, mesh, ADMIN, f"?mute {bob} sings")
    return meshes


def dump(site: Site) -> str:
    """All that the service's files hold: the tables, what is beside them, and an export."""
    tables = f"import sqlite3; print('\\n'.join(sqlite3.connect('{STATE}').iterdump()))"
    files = site.sh(
        "cd /var/lib/rave; cat state.db* permissions.json changes.json | tr -d '\\0'; ravectl store export - | cat"
    )
    return site.machine.run(["python3", "-I", "-c", tables]).stdout + files


def test_a_user_who_wants_it_is_forgotten_in_all_rooms(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    bob = user_id(site, first, BOB)
    says(site, first, ADMIN, f"?admin {bob}")
    says(site, first, BOB, "?setperm ping user")
    assert "You are an admin, and can't be forgotten" in says(site, first, BOB, "?forgetme yes")
    says(site, first, ADMIN, f"?admin {bob} remove")
    assert str(bob) in dump(site)
    assert "write ?forgetme yes" in says(site, first, BOB, "?forgetme")
    # Both mutes, their entry as an admin, and whose the permission is.
    assert "Removed: 4 entries about you" in says(site, first, BOB, "?forgetme yes")
    assert str(bob) not in dump(site)
    for mesh in meshes:
        assert "Nothing is noted here" in says(site, mesh, ADMIN, "?modlog")
    assert "Pong" in says(site, second, BOB, "?ping")
    said = site.machine.journal("-u", names.ORCHESTRATOR_UNIT)
    assert f"A user in mesh {first} is forgotten: 4 entries" in said


def test_an_operator_has_a_user_forgotten(site: Site, meshes: list[str]) -> None:
    bob = user_id(site, meshes[0], BOB)
    assert f"Removed what was kept of user {bob}: 2 entries." in site.sh(f"ravectl forget {bob}")
    assert str(bob) not in dump(site)
    site.sh(f"ravectl ignore add {bob}")
    assert "is ignored by all bots" in site.sh(f"ravectl forget {bob} 2>&1 || true")


def test_what_rooms_remember_outlives_everybody_and_comes_back_by_an_import(site: Site, meshes: list[str]) -> None:
    mesh, _ = meshes
    site.sh("ravectl store export /root/rooms.json")
    kept = json.loads(site.sh("cat /root/rooms.json"))["room_documents"]
    assert {each["meshId"] for each in kept if each["kind"] == "history"} == set(meshes)
    connections = site.control.connections()
    site.sh(f"systemctl kill --signal=KILL rave-orchestrator; systemctl restart {names.mesh_unit(mesh)}")
    site.control.wait(reconnected={mesh: connections[mesh]})
    site.wait_state(meshes, "connected")
    eventually(lambda: ": sings" in says(site, mesh, ADMIN, "?modlog"), "it is still noted")
    site.sh(f"systemctl stop rave-orchestrator; rm {STATE}*; systemctl start rave-orchestrator")
    site.wait_state(meshes, "connected")
    site.sh("ravectl store import --yes /root/rooms.json")
    assert ": sings" in says(site, mesh, ADMIN, "?modlog")
    site.sh("ravectl store export /root/again.json")
    assert json.loads(site.sh("cat /root/again.json"))["room_documents"] == kept


def test_a_bot_that_was_taken_over_fills_neither_the_disk_nor_the_time_of_others(site: Site) -> None:
    site.configure(NO_ROUND)
    (mesh,) = site.run_fleet(1)
    site.sh(f"ravectl admin add {user_id(site, mesh, ADMIN)}")
    with inside_a_bot(site, _WRITE_WITHOUT_AN_END):
        unit = names.mesh_unit(STRANGER)
        eventually(lambda: "told to wait" in site.machine.journal("-u", unit), "it is refused")
        says(site, mesh, ADMIN, "?settings lang de")
        assert "Hallo" in says(site, mesh, ADMIN, "?hello")
        eventually(lambda: "told that it is full" in site.machine.journal("-u", unit), "it is refused", 60)
    assert int(site.sh("du -sb /var/lib/rave/state.db | cut -f 1")) < 1024 * 1024


_WRITE_WITHOUT_AN_END = """
import asyncio, json
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import Code, RaveError
from ravesvc.systemd.notify import notify

async def main():
    bus = await Bus.connect()
    notify("READY=1")
    said, text = set(), json.dumps(["x" * 50_000])
    words = {Code.RATE_LIMITED: "told to wait", Code.INVALID_ARGUMENT: "told that it is full"}
    number = 0
    while True:
        number += 1
        call = ("WriteDocument", "ss", f"document-{number}", text)
        try:
            await bus.call(names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE, *call)
        except RaveError as e:
            if e.code not in said:
                said.add(e.code)
                print(words[e.code], flush=True)

asyncio.run(main())
"""
