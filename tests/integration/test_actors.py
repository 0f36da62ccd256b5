"""What a bot that was taken over can do in the name of admins: a process of ours in its unit names them."""

from __future__ import annotations

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import says, user_id
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot

ADMIN = "ann"

# Names the first admin, learnt from GetAdmins, as the one who asks; prints what it is answered.
_SPEAKS_FOR_AN_ADMIN = """
import asyncio
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.systemd.notify import notify

async def main():
    bus = await Bus.connect()
    notify("READY=1")
    parent = names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE
    ((admin, *_),) = await bus.call(*parent, "GetAdmins")
    for call in (
        ("AddAdmin", "tt", admin, 666),
        ("RemoveAdmin", "tt", admin, admin),
        ("SetPermission", "tsbs", admin, "leave", False, ""),
        ("Refresh", "t", admin),
        ("Relogin", "t", admin),
    ):
        try:
            await bus.call(*parent, *call)
            print(call[0], "is granted", flush=True)
        except RaveError as e:
            print(call[0], "is refused:", e.code, flush=True)
    print("done", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_bot_that_was_taken_over_does_not_speak_for_admins_who_are_elsewhere(site: Site) -> None:
    site.configure(NO_ROUND)
    (mesh,) = site.run_fleet(1)
    ann = user_id(site, mesh, ADMIN)
    site.sh(f"ravectl admin add {ann}")
    with inside_a_bot(site, _SPEAKS_FOR_AN_ADMIN):
        unit = names.mesh_unit(STRANGER)
        eventually(lambda: "done" in site.machine.journal("-u", unit, "-o", "cat").splitlines(), "it has asked", 60)
        said = site.machine.journal("-u", unit, "-o", "cat")
    assert "is granted" not in said
    assert said.count("is refused: ") == 5
    assert str(ann) in site.sh("ravectl admin list")
    assert "666" not in site.sh("ravectl admin list")
    assert "for admins only now" in says(site, mesh, ADMIN, "?setperm ping admin"), "an admin who is there is heard"


def test_an_owner_is_removed_on_the_host_alone(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    ann, bob = user_id(site, mesh, ADMIN), user_id(site, mesh, "bob")
    site.sh(f"ravectl admin add {ann}")
    assert "Now an admin" in says(site, mesh, ADMIN, f"?admin {bob}")
    assert "an owner can't be removed from a room" in says(site, mesh, "bob", f"?admin {ann} remove").lower()
    site.sh(f"ravectl admin add {bob}; ravectl admin remove {ann}")
    assert "for admins only now" in says(site, mesh, "bob", "?setperm ping admin")
    assert str(ann) not in site.sh("ravectl admin list")


def test_a_room_changes_what_holds_in_all_ten_times_an_hour(site: Site) -> None:
    first, second = site.run_fleet(2)
    ann = user_id(site, first, ADMIN)
    site.control.join(second, ADMIN)
    site.sh(f"ravectl admin add {ann}")
    for number in range(10):
        assert "for " in says(site, first, ADMIN, f"?setperm ping {('admin', 'user')[number % 2]}")
    for command in ("?setperm ping admin", "?refresh", "?admin 5", "?relogin"):
        assert "as much from this room as they may" in says(site, first, ADMIN, command)
    assert "for admins only now" in says(site, second, ADMIN, "?setperm ping admin")
    found = site.machine.journal("RAVE_EVENT=changed-by-chat", f"RAVE_UNIT={names.mesh_unit(first)}", "-o", "cat")
    assert found.count(f"User {ann} in mesh {first} has set the command ping") == 10
    site.sh("ravectl perm set ping user")


def test_what_was_changed_from_a_room_is_undone_with_one_command(site: Site) -> None:
    """Also after a restart of the service, which gives the room no new allowance."""
    first, second = site.run_fleet(2)
    ann, bob = user_id(site, first, ADMIN), user_id(site, first, "bob")
    site.sh(f"ravectl admin add {ann}; ravectl perm set hello admin")
    before = site.sh("ravectl admin list; ravectl perm list; ravectl ignore list")
    site.control.join(second, ADMIN)
    assert "for " in says(site, second, ADMIN, "?setperm ping admin")
    for command in (
        f"?admin {bob}",
        "?setperm hello user",
        "?removeperm hello",
        f"?admin {bob} remove",
        "?ignore 777",
    ):
        says(site, first, ADMIN, command)
    listed = site.sh("ravectl admin undo")
    assert len(listed.splitlines()) == 1 + 1 + 5
    assert f"{first}  {ann}" in listed
    assert f"made user {bob} an admin" in listed
    site.sh("systemctl restart rave-orchestrator")
    eventually(lambda: site.answers(first), "the bots are adopted", 60)
    for number in range(5):
        says(site, first, ADMIN, f"?setperm meshinfo {('admin', 'user')[number % 2]}")
    assert "as much from this room as they may" in says(site, first, ADMIN, "?setperm meshinfo admin")
    undone = site.sh(f"ravectl admin undo --mesh {first}")
    assert undone.count(" is undone.") == 10
    assert "ping" in site.sh("ravectl perm list"), "what another room has changed stays"
    assert "is undone." in site.sh(f"ravectl admin undo --mesh {second} --since 1h")
    assert site.sh("ravectl admin list; ravectl perm list; ravectl ignore list") == before
    assert "not undone already" in site.sh(f"ravectl admin undo --mesh {first}")


def test_while_rave_does_not_say_who_is_there_nothing_is_changed(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    ann = user_id(site, mesh, ADMIN)
    site.sh(f"ravectl admin add {ann}")
    site.control.fail("mesh", "500")
    for command in ("setperm ping admin", "admin 5", "ignore 7", "refresh", "relogin"):
        refused = says(site, mesh, ADMIN, f"?{command}").lower()
        assert "it can't be checked who is in this room: rave" in refused, command
    assert "Nothing was changed" in site.sh("ravectl admin undo")
    site.control.fail("mesh", "ok")
    eventually(lambda: "for admins only now" in says(site, mesh, ADMIN, "?setperm ping admin"), "it can again", 30)
