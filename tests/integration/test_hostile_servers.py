"""A server that has turned hostile: it harms one room for a moment, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ravesvc import names
from ravesvc.simulator.fault_options import FLOOD_KINDS
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import entries

# The limits of a turn of an event loop, in seconds of the processor, and of growth in MB.
TURN_S = 0.05
GROWTH_MB = 40

# Ours, with a watch on how long each turn of its event loop takes; each new record is a line of its log.
_MEASURED = """
import asyncio, sys, time
run_once, worst = asyncio.BaseEventLoop._run_once, 0.02
def measured(loop):
    global worst
    begun = time.thread_time()
    run_once(loop)
    if (taken := time.thread_time() - begun) > worst:
        worst = taken * 1.2
        print(f"a turn took {taken:.3f} s", file=sys.stderr, flush=True)
from ravesvc.MODULE import main
asyncio.BaseEventLoop._run_once = measured
sys.exit(main())
"""
_PARENT = "rave-orchestrator.service"
_OVERRIDE = "/run/systemd/system/rave-orchestrator.service.d/measured.conf"

HOSTILE_ANSWERS = ("many-values", "deep", "negative-chunk", "no-end", "trickle", "huge")


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Iterator[Site]:
    """One service for all tests, which runs under a watch on its event loop."""
    site = shared_site
    program = _MEASURED.replace("MODULE", "orchestrator.app")
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", "/opt/measured.py"], input=program)
    override = "[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /opt/measured.py\n"
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", _OVERRIDE], input=override)
    site.sh("systemctl daemon-reload")
    yield site
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    site.sh(f"rm {_OVERRIDE}; systemctl daemon-reload")


@pytest.fixture(scope="module")
def meshes(site: Site) -> list[str]:
    """Two meshes for all tests in which they go on undisturbed."""
    return site.run_fleet(2)


def longest_turn(site: Site, unit: str) -> float:
    """The longest turn that a measured program has told of, in seconds of the processor; 0.02 if none was longer."""
    told = re.findall(r"a turn took ([0-9.]+) s", site.machine.journal("-u", unit, "-b"))
    return max(map(float, told), default=0.02)


def peak_mb(site: Site, pid: str) -> float:
    """The most memory that a process has had, in MB, since its start or since `forget_peak`."""
    return int(site.sh(f"awk '/^VmHWM/ {{ print $2 }}' /proc/{pid}/status")) / 1000


def forget_peak(site: Site, pid: str) -> None:
    """What a process has now is the most it has had."""
    site.sh(f"echo 5 > /proc/{pid}/clear_refs")


@pytest.mark.parametrize("kind", FLOOD_KINDS)
def test_a_server_that_floods_a_bot_is_left_with_words(site: Site, figure: Figure, kind: str) -> None:
    flooded, *others = meshes = site.run_fleet(3)
    site.break_program(flooded, _MEASURED.replace("MODULE", "mesh.main"))
    try:
        site.sh(f"systemctl restart {names.mesh_unit(flooded)}")
        site.control.wait(connected=meshes)
        site.wait_state(meshes, "connected")
        pids, connections = site.pids(meshes), site.control.connections()
        before = peak_mb(site, pids[flooded])
        site.control.flood(flooded, kind)
        site.control.wait(reconnected={flooded: connections[flooded]}, timeout=60)
        assert site.answers(flooded)
        grown, turn = peak_mb(site, pids[flooded]) - before, longest_turn(site, names.mesh_unit(flooded))
        figure(f"flood of {kind}: the bot grew by {grown:.1f} MB, its longest turn was {1000 * turn:.0f} ms")
        assert site.pids(meshes) == pids, "nobody was restarted"
        assert {mesh: site.control.connections()[mesh] for mesh in others} == {
            mesh: connections[mesh] for mesh in others
        }
        assert "the server sends" in site.machine.journal("-u", names.mesh_unit(flooded))
        assert entries(site) == {}
        assert grown < GROWTH_MB
        assert turn <= TURN_S
    finally:
        site.break_program(flooded, "")


@pytest.mark.parametrize("mode", HOSTILE_ANSWERS)
def test_an_answer_of_a_hostile_server_costs_one_round(
    site: Site, meshes: list[str], figure: Figure, mode: str
) -> None:
    pids, connections = site.pids(meshes), site.control.connections()
    parent = site.sh(f"systemctl show --value -p MainPID {_PARENT}").strip()
    forget_peak(site, parent)
    before = peak_mb(site, parent)
    site.control.fail("discovery", mode)
    eventually(lambda: site.manager("DiscoveryError") != "", "the failure is shown", timeout=90)
    error = site.manager("DiscoveryError")
    site.control.fail("discovery", "ok")
    eventually(lambda: site.manager("DiscoveryError") == "", "discovery works again", timeout=60)
    grown, turn = peak_mb(site, parent) - before, longest_turn(site, _PARENT)
    figure(f"{mode}: the parent grew by {grown:.1f} MB, its longest turn was {1000 * turn:.0f} ms; {error}")
    assert site.sh(f"systemctl show --value -p MainPID {_PARENT}").strip() == parent
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    assert "Traceback" not in site.machine.journal("-u", _PARENT)
    assert grown < GROWTH_MB
    assert turn <= TURN_S


@pytest.mark.parametrize("mode", HOSTILE_ANSWERS)
def test_a_bot_that_meets_a_hostile_answer_comes_in_later(site: Site, mode: str) -> None:
    # Others for each: the third failure in a short time would have the mesh blocked.
    victim, other = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    site.control.fail("mesh", mode, times=1)
    site.control.drop(victim)
    site.control.wait(reconnected={victim: connections[victim]}, timeout=60)
    assert site.answers(victim)
    assert site.pids(meshes) == pids
    assert site.control.connections()[other] == connections[other]
    assert "Traceback" not in site.machine.journal("-u", names.mesh_unit(victim))
