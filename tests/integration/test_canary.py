"""A new version of a plugin is tried in a few rooms: it goes well, or fails, and the other rooms notice nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_admins import says
from tests.integration.test_plugins import drop, refresh

DIRECTORY = names.COMMANDS_DIRECTORY
_ROOMS = 20

FORMER = """
from ravesvc.commands import command

@command("greet", "Greets.")
async def greet(context):
    await context.reply("Hello")
"""
BETTER = FORMER.replace("Hello", "Good evening")
# It fails one call in ten.
WORSE = """
from ravesvc.commands import command

calls = 0

@command("greet", "Greets.")
async def greet(context):
    global calls
    calls += 1
    if calls % 10 == 0:
        raise LookupError("no name")
    await context.reply("Good evening")
"""
DEADLY = FORMER.replace('await context.reply("Hello")', "__import__('os').abort()")


@pytest.fixture(scope="module")
def rooms(shared_site: Site) -> list[str]:
    return shared_site.run_fleet(_ROOMS)


@pytest.fixture(autouse=True)
def former(shared_site: Site, rooms: list[str]) -> Iterator[None]:
    """All bots have the former version; afterwards there is no plugin."""
    shared_site.sh(f"mkdir -p {DIRECTORY}/canary")
    drop(shared_site, "greet.py", FORMER)
    refresh(shared_site)
    yield
    shared_site.sh(f"rm -rf {DIRECTORY}/*.py {DIRECTORY}/canary")
    shared_site.sh("ravectl plugin withdraw", check=False)
    refresh(shared_site)


def canary(site: Site) -> dict[str, Any]:
    words = ["busctl", "--json=short", "call", names.BUS_NAME, names.MANAGER_PATH]
    words += ["org.freedesktop.DBus.Properties", "GetAll", "s", names.CANARY_INTERFACE]
    (values,) = json.loads(site.machine.run(words).stdout)["data"]
    return {name: value["data"] for name, value in values.items()}


def begin(site: Site, version: str, *meshes: str) -> None:
    drop(site, "canary/greet.py", version)
    site.sh(f"ravectl refresh --no-block {' '.join(f'--canary {mesh}' for mesh in meshes)}")


def test_a_version_that_fails_one_call_in_ten_stays_in_its_rooms_and_is_gone_at_once(
    shared_site: Site, rooms: list[str], figure: Figure
) -> None:
    site, (first, second, other, *_) = shared_site, rooms
    begin(site, WORSE, first, second)
    connections = site.control.connections()
    assert "greet.py: tried in 2 meshes until" in site.sh("ravectl plugin list")
    assert says(site, second, "bob", "?greet") == "Good evening"
    assert says(site, other, "bob", "?greet") == "Hello"
    # One that is started meanwhile has what its room is to have.
    site.sh(f"systemctl restart {names.mesh_unit(other)}")
    site.control.wait(reconnected={other: connections[other]})
    eventually(lambda: says(site, other, "bob", "?ping") == "Pong!", "it answers")
    assert says(site, other, "bob", "?greet") == "Hello"
    connections = site.control.connections()
    # A user may not say that much at once, but ten may.
    for number in range(9):
        assert says(site, first, f"user{number}", "?greet") == "Good evening"
    assert "Something went wrong" in says(site, first, "ann", "?greet")
    failed = time.monotonic()
    eventually(lambda: canary(site)["State"] == "failed", "it is withdrawn")
    for mesh in rooms:
        assert says(site, mesh, "eve", "?greet") == "Hello"
    took_s = time.monotonic() - failed
    assert took_s < 60
    reason = f"{DIRECTORY}/greet.py: the command greet failed: LookupError, in mesh {first}"
    assert canary(site)["Reason"] == reason
    assert reason in site.sh("ravectl plugin list")
    assert f"The canary has failed, and greet.py is withdrawn: {reason}" in site.machine.journal()
    assert site.control.connections() == connections
    figure(f"a failing plugin was out of its two rooms of {_ROOMS}, and all had answered, after {took_s:.1f} s")


def test_a_version_that_goes_well_comes_to_all_rooms(shared_site: Site, rooms: list[str]) -> None:
    site, connections = shared_site, shared_site.control.connections()
    drop(site, "canary/greet.py", BETTER)
    said = site.sh(f"ravectl refresh --canary {rooms[0]} --for 10s")
    assert "Nothing has failed: all bots have the new versions." in said
    assert f"{DIRECTORY}/canary/greet.py is moved to {DIRECTORY}." in said
    assert canary(site)["State"] == "none"
    assert site.sh(f"cat {DIRECTORY}/greet.py; ls {DIRECTORY}/canary") == BETTER
    for mesh in rooms:
        assert says(site, mesh, "bob", "?greet") == "Good evening"
    assert site.control.connections() == connections


def test_a_version_that_ends_its_bot_is_gone_when_the_bot_is_back(shared_site: Site, rooms: list[str]) -> None:
    site, (first, *others) = shared_site, rooms
    begin(site, DEADLY, first)
    connections = site.control.connections()
    assert site.control.chat(first, "?greet", user="bob", wait=1.0) == []
    eventually(lambda: canary(site)["State"] == "failed", "it is withdrawn")
    assert "its bot has ended" in canary(site)["Reason"]
    site.control.wait(reconnected={first: connections[first]})
    eventually(lambda: says(site, first, "bob", "?ping") == "Pong!", "it answers")
    assert says(site, first, "bob", "?greet") == "Hello"
    after = site.control.connections()
    assert {mesh: after[mesh] for mesh in others} == {mesh: connections[mesh] for mesh in others}


def test_it_outlives_a_restart_of_the_service(shared_site: Site, rooms: list[str]) -> None:
    site, (first, other, *_) = shared_site, rooms
    begin(site, BETTER, first)
    site.kill_parent()
    assert canary(site)["State"] == "trying"
    site.wait_state(rooms, "connected")
    assert says(site, first, "bob", "?greet") == "Good evening"
    assert says(site, other, "bob", "?greet") == "Hello"
    site.sh("ravectl plugin withdraw")
    assert says(site, first, "bob", "?greet") == "Hello"


def test_a_file_that_does_not_load_is_told_at_once(shared_site: Site, rooms: list[str]) -> None:
    drop(shared_site, "canary/greet.py", "nonsense(\n")
    said = shared_site.machine.run(["ravectl", "refresh", "--canary", rooms[0]], check=False)
    assert said.returncode == 1
    assert f"{DIRECTORY}/canary/greet.py, line 1: SyntaxError: '(' was never closed" in said.stderr
    assert says(shared_site, rooms[0], "bob", "?greet") == "Hello"
