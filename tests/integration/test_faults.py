"""Processes that hang, start slowly or live without answering, and a minute in which all goes wrong at once."""

from __future__ import annotations

import random
import time
from typing import Any

from ravesvc import names
from tests.integration.conftest import Site, eventually
from tests.integration.test_blocklist import blocklist, entries

# WatchdogSec= of both units, and the time that a process gets to die and to be started again.
WATCHDOG = 30 + 2 + 5
# After which a bot that does not answer is unhealthy, and a connection has held.
SILENCE = HELD = 60

# Our program, with a GetStatus that never answers.
_DEAF = """
import asyncio, sys
from ravesvc.mesh import worker_object
method = worker_object.WorkerObject.methods["GetStatus"]
async def hang(self, call):
    await asyncio.Event().wait()
import dataclasses
worker_object.WorkerObject.methods["GetStatus"] = dataclasses.replace(method, function=hang)
from ravesvc.mesh.main import main
sys.exit(main())
"""

# It has switched its watchdog off, or put it off for a year, and hangs.
_HUNG = """
import time
from ravesvc.systemd.notify import notify
notify("READY=1")
{}
time.sleep(3600)
"""
_UNWATCHED = _HUNG.format('notify("WATCHDOG_USEC=0")')
_RELOADING = _HUNG.format('notify("WATCHDOG_USEC=31536000000000", "EXTEND_TIMEOUT_USEC=600000000", "RELOADING=1")')

# Our program, which takes its time to start.
_SLOW = """
import sys, time
time.sleep(15)
from ravesvc.mesh.main import main
sys.exit(main())
"""
SEED = 20261123


def test_a_server_that_is_away_is_no_fault_of_the_meshes(site: Site) -> None:
    meshes = site.run_fleet(2)
    for call in ("mesh", "discovery"):
        site.control.fail(call, "503")
    site.control.drop(meshes)
    eventually(lambda: site.bots() == [], "the bots have given up", timeout=60)
    assert entries(site) == {}
    for call in ("mesh", "discovery"):
        site.control.fail(call, "ok")
    site.control.wait(connected=meshes, timeout=40)
    assert all(site.answers(mesh) for mesh in meshes)


def test_a_hung_bot_is_killed_and_started_again(site: Site) -> None:
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


def test_a_bot_that_lives_and_does_not_answer_is_restarted(site: Site) -> None:
    """It feeds the watchdog and stays in its mesh, but it has stopped to listen on the bus."""
    site.set_options(status_poll_interval="10s", process_restart_delay="100ms")
    deaf, other = meshes = site.run_fleet(2)
    pids, connections = site.pids([other]), site.control.connections()
    site.break_program(deaf, _DEAF)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(deaf)}")
    site.control.wait(reconnected={deaf: connections[deaf]})
    pid = site.pids([deaf])[deaf]
    site.break_program(deaf, "")
    begun = time.monotonic()
    eventually(lambda: site.pids([deaf])[deaf] not in ("0", pid), "systemd gives it another process", SILENCE + 30)
    assert time.monotonic() - begun > SILENCE - 10, "not before its time"
    assert "because its process does not answer" in site.machine.journal("-u", "rave-orchestrator")
    site.wait_state(meshes, "connected")
    assert site.manager("Unhealthy") == 0
    assert site.answers(deaf)
    assert site.pids([other]) == pids
    assert site.control.connections()[other] == connections[other]
    assert entries(site) == {}, "it was no crash"


def test_a_hung_bot_without_a_watchdog_is_restarted(site: Site) -> None:
    """One that was taken over says what it likes to systemd; but it is the service that asks how it is."""
    site.set_options(status_poll_interval="10s", process_restart_delay="100ms")
    *hung, other = site.run_fleet(3)
    for mesh, program in zip(hung, (_UNWATCHED, _RELOADING), strict=True):
        site.break_program(mesh, program)
        site.sh(f"systemctl kill -s KILL {names.mesh_unit(mesh)}")
    eventually(lambda: {site.unit(mesh, "ActiveState") for mesh in hung} == {"active", "reloading"}, "they hang")
    pids, well = site.pids(hung), site.pids([other])
    for mesh in hung:
        site.break_program(mesh, "")
    for mesh, pid in pids.items():
        eventually(lambda: site.pids([mesh])[mesh] not in ("0", pid), "another process", SILENCE + 40)  # noqa: B023
    site.wait_state([*hung, other], "connected", 60)
    assert site.pids([other]) == well


def test_a_connection_that_holds_makes_good_what_was_before(site: Site) -> None:
    site.set_options(process_restart_delay="100ms", max_process_restarts=2, blocklist_duration="3s")
    site.set_options(status_poll_interval="5s")
    victim, other = site.run_fleet(2)
    for held in (True, False):
        site.break_program(victim, "raise SystemExit(1)")
        site.sh(f"systemctl kill -s KILL {names.mesh_unit(victim)}")
        found: list[Any] = []
        eventually(lambda: bool(found.extend(entries(site).get(victim, [])) or found), "in quarantine")  # noqa: B023
        reason, since, until, _, _, count = found
        assert (reason, count, round((until - since) / 1_000_000)) == ("crashes", 1, 3), "it does not double"
        site.break_program(victim, "")
        site.control.wait(connected=[victim], timeout=40)
        if held:
            eventually(lambda: blocklist(site)["meshes"][victim]["quarantines"] == 0, "it has held", HELD + 20)
    assert other in site.control.connections()


def test_a_slow_start_is_not_unhealthy(site: Site) -> None:
    site.set_options(status_poll_interval="1s", process_restart_delay="100ms")
    slow, other = site.run_fleet(2)
    site.break_program(slow, _SLOW)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(slow)}")
    site.wait_state([slow], "starting")
    eventually(lambda: site.mesh(slow, "State") != "starting", "it is up in the end", 40)
    assert "does not answer" not in site.machine.journal("-u", "rave-orchestrator", "-n", "20")
    site.control.wait(connected=[slow, other])
    assert site.unit(slow, "NRestarts") == "1"


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
    """Bots and parent are killed, connections cut, discovery fails, systemd reloads: all at random, seeded."""
    dice = random.Random(SEED)
    meshes = site.run_fleet(20)

    # Each often enough, but not so often that it counts as a crash loop.
    victims = dice.sample(meshes * 3, 60)

    def kill_a_bot() -> None:
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

    actions = [kill_a_bot] * 4 + [drop_some] * 2 + [fail_discovery, kill_the_parent, reload_systemd]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        dice.choice(actions)()
        # The faults come faster than the fleet can mend them, but not all at once.
        time.sleep(dice.uniform(0.2, 2.0))
    site.control.fail("discovery", "ok")
    site.control.wait(connected=meshes, timeout=90)
    site.wait_state(meshes, "connected", timeout=60)
    assert sorted(site.bots()) == sorted(map(names.mesh_unit, meshes))
    journal = site.machine.journal("-u", "rave-orchestrator", "-u", "rave-mesh@*")
    assert "Traceback" not in journal
    assert "never retrieved" not in journal
