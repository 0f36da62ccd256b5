"""From an invitation to a bot that answers."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import pytest
from testbed.machine import CommandFailed

from ravesvc import names
from tests.integration.conftest import DISCOVERY_INTERVAL, Figure, Site, eventually


def test_three_meshes(site: Site) -> None:
    meshes = site.run_fleet(3)
    assert all(site.answers(mesh) for mesh in meshes)
    assert sorted(site.bots()) == sorted(map(names.mesh_unit, meshes))
    tree = site.sh(f"busctl tree --list {names.BUS_NAME}").split()
    assert {names.mesh_path(mesh) for mesh in meshes} <= set(tree)
    assert site.manager("Connected") == 3
    assert "3 connected" in site.sh("systemctl status rave-orchestrator")
    status = f"systemctl status {names.mesh_unit(meshes[0])}"
    shown = r"Status: \"Connected to localhost.*users"
    eventually(lambda: re.search(shown, site.sh(status)) is not None, "its unit shows where it is")
    listing = site.call("ListMeshes")
    assert all(mesh in listing for mesh in meshes)
    assert names.mesh_path(meshes[1]) in site.call("GetMesh", "s", meshes[1])


def test_answers_soon_after_an_invitation(site: Site, figure: Figure) -> None:
    # As it is by default.
    site.set_options(typing_delay="1s")
    site.run_fleet(1)
    (mesh,) = site.control.create()
    invited = time.monotonic()
    site.control.invite(mesh)
    site.control.wait(connected=[mesh])
    assert site.answers(mesh)
    elapsed = time.monotonic() - invited
    figure(f"invitation to answer: {elapsed:.2f} s (limit {DISCOVERY_INTERVAL + 3:.1f} s)")
    assert elapsed < DISCOVERY_INTERVAL + 3


def test_a_bot_loads_nothing_that_it_never_uses(site: Site) -> None:
    loads = "import sys, ravesvc.mesh.__main__; print(*sys.modules)"
    loaded = site.machine.run(["python3", "-I", "-c", loads]).stdout.split()
    assert "ravesvc.mesh.worker" in loaded
    assert not {"ast", "email.header", "email.quoprimime", "locale", "textwrap", "tokenize"} & set(loaded)


def test_stop_and_start_by_hand(site: Site) -> None:
    first, second = site.run_fleet(2)
    site.call("StopMesh", "s", first)
    site.control.wait(disconnected=[first])
    site.wait_state([first], "held")
    assert site.mesh(first, "Reason") == "it was stopped by an operator"
    site.wait_rounds(2)
    assert site.bots() == [names.mesh_unit(second)], "a round of discovery must not undo it"
    site.call("StartMesh", "s", first)
    site.control.wait(connected=[first])
    site.wait_state([first], "connected")


def test_discover_at_once(site: Site) -> None:
    site.configure(interval="1h")
    site.run_fleet(1)
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    site.call("Discover")
    site.control.wait(connected=[mesh])


def test_the_objects_are_as_the_contract_says(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    nouns = ("Manager", "Account", "Permissions", "Store", "Blocklist", "Canary")
    described = [(names.MANAGER_PATH, f"{names.BUS_NAME}.{noun}") for noun in nouns]
    for path, name in (*described, (names.mesh_path(mesh), names.MESH_INTERFACE)):
        live = site.sh(f"busctl introspect --xml-interface {names.BUS_NAME} {path}")
        contract = site.sh(f"cat /usr/share/dbus-1/interfaces/{name}.xml")
        assert _members(live, name) == _members(contract, name)
        # As people read it.
        site.sh(f"busctl introspect {names.BUS_NAME} {path}")


def _members(xml: str, name: str) -> list[tuple[str, ...]]:
    """Every member of an interface with its arguments, as comparable words."""
    interface = ElementTree.fromstring(xml).find(f"interface[@name='{name}']")
    assert interface is not None
    members = [member for member in interface if member.tag != "annotation"]
    return sorted(
        (member.tag, *map(str, sorted(member.items())), *(str(sorted(arg.items())) for arg in member.iter("arg")))
        for member in members
    )


def test_bad_arguments_are_refused_in_words(site: Site) -> None:
    site.run_fleet(1)
    with pytest.raises(CommandFailed) as refused:
        site.call("GetMesh", "s", "nonsense")
    assert "'nonsense' is not a mesh id" in refused.value.stderr
    assert "Traceback" not in refused.value.stderr
    with pytest.raises(CommandFailed, match="there is no mesh"):
        site.call("GetMesh", "s", "11111111-2222-4333-8444-555555555555")
