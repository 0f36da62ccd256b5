"""Settings of a room and moderation, in chat: kept by the parent, in force again after a bot was killed."""

from __future__ import annotations

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_admins import ADMIN, STRANGER, says, user_id

BOT = "botty"


@pytest.fixture
def meshes(site: Site) -> list[str]:
    """Two meshes; ann is an admin, bob is not."""
    meshes = site.run_fleet(2)
    for mesh in meshes:
        site.control.join(mesh, STRANGER)
    site.sh(f"ravectl admin add {user_id(site, meshes[0], ADMIN)}")
    return meshes


def test_settings_of_a_room_outlive_its_bot_and_hold_there_alone(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    assert "nly admins may" in says(site, first, STRANGER, "?settings games off")
    assert "Geändert:" in says(site, first, ADMIN, "?settings lang de")
    assert "Hallo" in says(site, first, STRANGER, "?hello")
    assert "Hello" in says(site, second, STRANGER, "?hello")
    says(site, first, ADMIN, "?settings games off")
    assert "ausgeschaltet" in says(site, first, STRANGER, "?truth")
    assert "truth" not in says(site, first, STRANGER, "?help")
    assert "switched off" not in says(site, second, STRANGER, "?truth")
    connection = site.control.connections()[first]
    site.sh(f"systemctl kill --signal=KILL {names.mesh_unit(first)}")
    site.control.wait(reconnected={first: connection})
    eventually(lambda: "Hallo" in says(site, first, STRANGER, "?hello"), "German again")
    assert "ausgeschaltet" in says(site, first, STRANGER, "?truth")


def test_a_bot_that_starts_without_a_parent_takes_its_settings_up_later(site: Site, meshes: list[str]) -> None:
    mesh, _ = meshes
    says(site, mesh, ADMIN, "?settings lang de")
    connections = site.control.connections()
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    try:
        site.sh(f"systemctl restart {names.mesh_unit(mesh)}")
        site.control.wait(reconnected={mesh: connections[mesh]})
        assert "does not answer yet" in says(site, mesh, STRANGER, "?hello")
    finally:
        site.sh("systemctl kill --signal=CONT rave-orchestrator")
    eventually(lambda: "Hallo" in says(site, mesh, STRANGER, "?hello"), "German again")


def test_what_admins_do_to_users_is_kept(site: Site, meshes: list[str]) -> None:
    mesh, _ = meshes
    ann, bob = user_id(site, mesh, ADMIN), user_id(site, mesh, STRANGER)
    assert "only the leader" in says(site, mesh, ADMIN, f"?mute {bob}")
    site.control.leader(mesh, BOT)
    assert "is an admin" in says(site, mesh, ADMIN, f"?kick {ann}")
    assert says(site, mesh, ADMIN, f"?mute {bob} sings").startswith("Muted: ")
    assert says(site, mesh, ADMIN, f"?kick {bob} again").startswith("Kicked: ")
    eventually(lambda: bob not in [user["user_id"] for user in site.control.mesh(mesh)["users"]], "bob is out")
    kicked, muted = says(site, mesh, ADMIN, "?modlog").splitlines()[1:]
    assert (kicked[-7:], muted[-7:]) == (": again", ": sings")
    assert "nly admins may" in says(site, mesh, "carl", "?modlog")
    assert says(site, mesh, ADMIN, f"?leader {ann}").startswith("The leader is now: ")
    assert "only the leader" in says(site, mesh, ADMIN, f"?kick {user_id(site, mesh, 'carl')}")
