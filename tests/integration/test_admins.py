"""Admins and command permissions in chat, by an admin and by a stranger, in one mesh."""

from __future__ import annotations

import json
import re

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually

ADMIN, STRANGER = "ann", "bob"

INCIDENT = re.compile(r"\(error ([0-9a-f]{8})\)")


def says(site: Site, mesh: str, user: str, text: str, *mentions: str, answers: int = 1, wait: float = 15.0) -> str:
    """What the bot answers to a user."""
    said = site.control.chat(mesh, text, user=user, mentions=mentions, wait=wait, answers=answers)
    assert said, f"no answer to {text}"
    return "\n".join(said)


def user_id(site: Site, mesh: str, handle: str) -> int:
    """The id of a user, who comes in if need be."""
    site.control.join(mesh, handle)
    (found,) = [user["user_id"] for user in site.control.mesh(mesh)["users"] if user["handle"] == handle]
    return int(found)


@pytest.fixture
def meshes(site: Site) -> list[str]:
    """Two meshes; ann is the first admin, by ravectl."""
    meshes = site.run_fleet(2)
    for mesh in meshes:
        site.control.join(mesh, STRANGER)
    site.sh(f"ravectl admin add {user_id(site, meshes[0], ADMIN)}")
    return meshes


COMMANDS = [
    "?admin @bob",
    "?admin 100000002",
    "?admin 100000002 remove",
    "?refresh",
    "?setperm ping admin",
    "?removeperm ping",
    "?listperms",
    "?relogin",
    "?leave",
]


def test_the_first_admin_is_made_by_a_code(site: Site) -> None:
    first, second = site.run_fleet(2)
    for mesh in first, second:
        site.control.join(mesh, STRANGER)
    bob = user_id(site, first, STRANGER)
    refused = says(site, first, STRANGER, "?setperm ping admin")
    assert "no admin yet: ravectl admin claim" in refused
    assert "ravectl admin claim" in says(site, first, STRANGER, "?claim"), "there is no code yet"
    assert f"id is {bob}, and you are not an admin" in says(site, first, STRANGER, "?whoami")

    shown = site.sh("ravectl admin claim")
    (command,) = re.findall(r"^ +(\?claim \S+)$", shown, re.MULTILINE)
    assert "not the code" in says(site, second, STRANGER, "?claim AAAA-AAAA")
    assert "admin now" in says(site, first, STRANGER, command.lower())
    assert f"id is {bob}, and you are an admin" in says(site, second, STRANGER, "?whoami")
    assert "can't be changed" in says(site, second, STRANGER, "?setperm claim admin")
    assert "ravectl admin claim" in says(site, second, ADMIN, command), "it works once"

    assert re.search(rf"^{bob} +Bob +admin$", site.sh(f"ravectl users {second}"), re.MULTILINE)
    code = command.split()[1]
    everything = site.machine.journal()
    assert code not in everything
    assert code.replace("-", "") not in everything

    (void,) = re.findall(r"\?claim \S+", site.sh("ravectl admin claim"))
    site.sh("systemctl restart rave-orchestrator")
    assert "ravectl admin claim" in says(site, first, ADMIN, void), "a restart voids it"
    assert site.permissions("Admins") == 1
    assert "may not do that" in site.sh("ravectl admin claim", user="nobody", check=False)


def test_a_stranger_may_run_none_of_them(site: Site, meshes: list[str]) -> None:
    for command in COMMANDS:
        refused = says(site, meshes[0], STRANGER, command, STRANGER)
        assert "nly admins may" in refused, refused
        (incident,) = INCIDENT.findall(refused)
        assert incident in site.machine.journal("-u", names.mesh_unit(meshes[0])), refused
    assert "nly admins" not in says(site, meshes[0], STRANGER, "?ping")
    assert site.permissions("Admins") == 1
    assert site.permissions("Permissions") == 0
    assert len(site.bots()) == 2, "no bot has left"


def test_admins_come_and_go_in_all_meshes(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    bob = user_id(site, first, STRANGER)
    assert "Bob" in says(site, first, ADMIN, "?admin @bob", STRANGER)
    assert "2 admins" in says(site, second, STRANGER, "?listperms")
    says(site, second, STRANGER, "?admin @bob remove", STRANGER)
    assert "nly admins may" in says(site, first, STRANGER, "?listperms")
    says(site, first, ADMIN, f"?admin {bob}")
    assert "2 admins" in says(site, second, STRANGER, "?listperms")
    says(site, second, ADMIN, f"?admin {bob} remove")
    assert "nly admins may" in says(site, first, STRANGER, "?listperms")
    listed = json.loads(site.call("ListAdmins"))["data"][0]
    assert [admin[0] for admin in listed] == [user_id(site, first, ADMIN)]


def test_the_last_admin_stays(site: Site, meshes: list[str]) -> None:
    ann, bob = user_id(site, meshes[0], ADMIN), user_id(site, meshes[0], "bob")
    assert "last admin" in site.sh(f"ravectl admin remove {ann}", check=False)
    says(site, meshes[0], ADMIN, f"?admin {bob}")
    site.sh(f"ravectl admin remove {ann}")
    assert "last admin" in says(site, meshes[0], "bob", f"?admin {bob} remove")
    assert site.permissions("Admins") == 1
    site.sh(f"ravectl admin add {ann}; ravectl admin remove {bob}")


def test_permissions_of_commands(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    says(site, first, ADMIN, "?setperm ping admin")
    assert "nly admins may" in says(site, second, STRANGER, "?ping")
    assert "Pong" in says(site, second, ADMIN, "?ping")
    assert "ping" in says(site, second, ADMIN, "?listperms")
    says(site, second, ADMIN, "?removeperm ping")
    assert "Pong" in says(site, first, STRANGER, "?ping")
    says(site, first, ADMIN, "?setperm search admin")
    assert "nly admins may" in says(site, second, STRANGER, "?search rooster")
    says(site, second, ADMIN, "?removeperm search")
    assert "Searching" in says(site, first, STRANGER, "?search rooster")
    says(site, first, ADMIN, "?setperm leave user")
    assert "leave" in says(site, second, STRANGER, "?help")
    says(site, first, ADMIN, "?removeperm leave")
    assert "leave" not in says(site, second, STRANGER, "?help")
    for fixed in ("admin", "refresh", "setperm", "removeperm", "listperms", "relogin"):
        assert "can't be changed" in says(site, first, ADMIN, f"?setperm {fixed} user")
    assert "nosuchcommand" in says(site, first, ADMIN, "?setperm nosuchcommand admin")
    assert site.permissions("Permissions") == 0


def test_a_bot_that_starts_without_a_parent_opens_nothing(site: Site, meshes: list[str]) -> None:
    mesh, _ = meshes
    site.sh("ravectl perm set ping admin")
    connections = site.control.connections()
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    try:
        site.sh(f"systemctl restart {names.mesh_unit(mesh)}")
        site.control.wait(reconnected={mesh: connections[mesh]})
        refused = says(site, mesh, STRANGER, "?ping")
    finally:
        site.sh("systemctl kill --signal=CONT rave-orchestrator")
    assert "does not answer yet" in refused
    (incident,) = INCIDENT.findall(refused)
    assert incident in site.machine.journal("-u", names.mesh_unit(mesh))
    eventually(lambda: "nly admins may" in says(site, mesh, STRANGER, "?ping"), "it has asked")
    assert "Pong" in says(site, mesh, ADMIN, "?ping")


def test_leave(site: Site, meshes: list[str]) -> None:
    left, other = meshes
    says(site, left, ADMIN, "?leave")
    site.control.wait(disconnected=[left])
    eventually(lambda: site.bots() == [names.mesh_unit(other)], "its process is gone")
    ended = site.control.mesh(left)["ended"][-1]
    assert (ended["code"], ended["by"]) == (1000, "client")
    site.wait_rounds(2)
    assert site.bots() == [names.mesh_unit(other)], "it does not come back by itself"
    assert site.control.mesh(left)["invited"] == [], "the invitation is gone too"
    # Invited again it comes again, with no block to be waited for.
    site.control.invite(left)
    site.control.wait(connected=[left])


def test_a_leave_that_is_open_to_all(site: Site, meshes: list[str]) -> None:
    left, other = meshes
    says(site, other, ADMIN, "?setperm leave user")
    assert "Goodbye" in says(site, left, STRANGER, "?leave")
    site.control.wait(disconnected=[left])
    eventually(lambda: site.bots() == [names.mesh_unit(other)], "its process is gone")
    bob = user_id(site, left, STRANGER)
    assert f"User {bob} sends the bot away from mesh {left}" in site.machine.journal("-u", "rave-orchestrator")


def test_refresh_counts_and_renews_the_file(site: Site, meshes: list[str]) -> None:
    says(site, meshes[0], ADMIN, "?setperm ping admin")
    before = site.sh("cat /var/lib/rave/credentials.json")
    site.sh("rm /var/lib/rave/credentials.json")
    answer = says(site, meshes[0], ADMIN, "?refresh")
    assert "1 admin" in answer
    assert "1 command permission" in answer
    assert json.loads(site.sh("cat /var/lib/rave/credentials.json")) == json.loads(before)
    assert site.sh("stat -c '%a %U' /var/lib/rave/credentials.json").strip() == "600 rave"


def test_relogin(site: Site, meshes: list[str]) -> None:
    first, second = meshes
    connections, pids = site.control.connections(), site.pids(meshes)
    token = json.loads(site.sh("cat /var/lib/rave/credentials.json"))["authToken"]
    site.control.option("confirm", "2")
    said = says(site, first, ADMIN, "?relogin", answers=2)
    assert "mail" in said
    assert "ogged in" in said
    assert json.loads(site.sh("cat /var/lib/rave/credentials.json"))["authToken"] != token
    assert (site.control.connections(), site.pids(meshes)) == (connections, pids), "nobody had to reconnect"
    # A bot that comes back later comes with the new one.
    site.control.drop(second)
    site.control.wait(reconnected={second: connections[second]})
    assert site.answers(second)
