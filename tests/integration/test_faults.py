"""The long runs in which things are made to break: `make test-faults`."""

from __future__ import annotations

import random
import time

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually

pytestmark = pytest.mark.faults

# WatchdogSec= of both units, and the time that a process gets to die and to be started again.
WATCHDOG = 30 + 2 + 5
SEED = 20261123


def test_a_server_that_is_away_is_no_fault_of_the_meshes(site: Site) -> None:
    meshes = site.run_fleet(2)
    for call in ("mesh", "discovery"):
        site.control.fail(call, "503")
    site.control.drop(meshes)
    eventually(lambda: site.children() == [], "the children have given up", timeout=60)
    assert site.sh("cat /var/lib/rave/blocklist.json 2>/dev/null || echo none").strip() == "none"
    for call in ("mesh", "discovery"):
        site.control.fail(call, "ok")
    site.control.wait(connected=meshes, timeout=40)
    assert all(site.answers(mesh) for mesh in meshes)


def test_a_hung_child_is_killed_and_started_again(site: Site) -> None:
    hung, other = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    site.sh(f"kill -STOP {pids[hung]}")
    eventually(lambda: site.unit(hung, "NRestarts") == "1", "the watchdog has ended it", timeout=WATCHDOG + 10)
    site.control.wait(connected=[hung])
    site.wait_state(meshes, "connected")
    assert site.answers(hung)
    assert site.pids([other])[other] == pids[other]
    assert site.control.connections()[other] == connections[other]
    assert "most recent call first" in site.machine.journal("-u", names.mesh_unit(hung)), (
        "where it hung is in the log"
    )


def test_a_hung_parent_is_killed_and_started_again(site: Site) -> None:
    meshes = site.run_fleet(3)
    kicked, *others = meshes
    pids, connections = site.pids(others), site.control.connections()
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    site.control.kick(kicked)
    restarts = "systemctl show --value -p NRestarts rave-orchestrator"
    eventually(lambda: site.sh(restarts).strip() == "1", "the watchdog has ended it", timeout=WATCHDOG + 20)
    site.wait_state(others, "connected")
    site.wait_state([kicked], "blocked")
    assert site.pids(others) == pids
    assert {mesh: site.control.connections()[mesh] for mesh in others} == {mesh: connections[mesh] for mesh in others}


def test_a_fleet_comes_through_a_rough_minute(site: Site) -> None:
    """Children and parent are killed, connections cut, discovery fails, systemd reloads: all at random, seeded."""
    dice = random.Random(SEED)
    meshes = site.run_fleet(20)

    # Each often enough, but not so often that it counts as a crash loop.
    victims = dice.sample(meshes * 3, 60)

    def kill_a_child() -> None:
        if victims:
            site.sh(f"systemctl kill --signal=KILL {names.mesh_unit(victims.pop())} || true")

    def drop_some() -> None:
        site.control.drop(dice.sample(meshes, 3))

    def fail_discovery() -> None:
        site.control.fail("discovery", dice.choice(["500", "empty", "half-page", "reset"]), times=2)

    def kill_the_parent() -> None:
        site.sh("systemctl kill --signal=KILL rave-orchestrator || true")

    def reload_systemd() -> None:
        site.sh("systemctl daemon-reload")

    actions = [kill_a_child] * 4 + [drop_some] * 2 + [fail_discovery, kill_the_parent, reload_systemd]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        dice.choice(actions)()
        # The faults come faster than the fleet can mend them, but not all at once.
        time.sleep(dice.uniform(0.2, 2.0))
    site.control.fail("discovery", "ok")
    site.control.wait(connected=meshes, timeout=90)
    site.wait_state(meshes, "connected", timeout=60)
    assert sorted(site.children()) == sorted(map(names.mesh_unit, meshes))
    journal = site.machine.journal("-u", "rave-orchestrator", "-u", "rave-mesh@*")
    assert "Traceback" not in journal
    assert "never retrieved" not in journal
