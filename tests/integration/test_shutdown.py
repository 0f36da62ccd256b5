"""Stops, at every unfortunate moment: what is left is nothing, and nothing that was learnt is lost."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from testbed.machine import Machine, installed_root

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import blocklist, entries

# Ready, alive, and deaf to SIGTERM.
_STUBBORN = """
import asyncio, signal
from ravesvc.systemd.notify import feed_watchdog, notify_ready
signal.signal(signal.SIGTERM, signal.SIG_IGN)
async def main():
    await notify_ready()
    await feed_watchdog()
asyncio.run(main())
"""

# Taken over: it is deaf to SIGTERM, wants no watchdog, and asks for ten minutes more again and again.
CLINGING = """
import signal, time
from ravesvc.systemd.notify import notify
signal.signal(signal.SIGTERM, signal.SIG_IGN)
notify("READY=1")
while True:
    notify("STATUS=clings", "WATCHDOG_USEC=0", "EXTEND_TIMEOUT_USEC=600000000")
    time.sleep(0.2)
"""
# The same, from one that has told systemd that it stops, or reloads, for which ExecStop= is left out; and from one
# that starts for ever.
_CLINGING = {
    "deaf": CLINGING,
    "stopping": CLINGING.replace('notify("STATUS', 'notify("STOPPING=1", "STATUS'),
    "reloading": CLINGING.replace('notify("READY=1")', 'notify("READY=1"); notify("RELOADING=1")'),
    "starting": CLINGING.replace('notify("READY=1")', ""),
}

STOP = "systemctl stop rave-orchestrator.service rave-meshes.target"


def nothing_runs(site: Site) -> None:
    """No process of the service is left, nor a socket."""
    assert site.bots() == []
    # How a bot has ended that was killed is still being noted then.
    eventually(lambda: site.sh("pgrep -u rave,rave-mesh || true") == "", "all processes have ended", 5)
    assert site.control.connections() == {}


@pytest.mark.parametrize("stop", [STOP, "systemctl stop rave-orchestrator"], ids=["both", "parent"])
@pytest.mark.parametrize("moment", [0.2, 0.6, 1.2])
def test_in_the_middle_of_starting(site: Site, stop: str, moment: float) -> None:
    # So many that at the latest moment some are still starting.
    meshes = site.control.create(9)
    site.control.invite(meshes)
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: len(site.bots()) > 0, "the first has begun")
    time.sleep(moment)  # whichever moment that is: there is none at which something may be left
    site.sh(stop, timeout=90)
    eventually(lambda: site.bots() == [], "all are gone", 40)
    nothing_runs(site)
    state = site.control.state()["meshes"]
    codes = {ended["code"] for mesh in meshes for ended in state[mesh]["ended"] if ended["joined"]}
    assert codes <= {1000}, "whoever was in said goodbye"
    assert blocklist(site)["blockedMeshes"] == {}, "a stop is no fault of a mesh, and no hold"
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes, timeout=90)


def test_what_waits_for_bots_that_stop_leaves_one_that_has_just_begun(site: Site) -> None:
    """On a busy machine a new service may have started a bot before the stop of the old one gets to this."""
    (mesh,) = site.run_fleet(1)
    pids = site.pids([mesh])
    unit = site.sh("systemctl cat rave-meshes-stop.service").replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStop=-/bin/sh -c '(.*)'$", unit, re.M)
    site.sh(f"export WAIT=5s; {command.replace('$$', '$')}")
    assert site.pids([mesh]) == pids
    assert site.answers(mesh)


def test_in_the_middle_of_a_restart_wait(site: Site) -> None:
    site.set_options(process_restart_delay="60s")
    waiting, other = site.run_fleet(2)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(waiting)}")
    site.wait_state([waiting], "restarting")
    begun = time.monotonic()
    site.sh(STOP)
    assert time.monotonic() - begun < 15
    nothing_runs(site)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[waiting, other])
    assert entries(site) == {}


def test_in_the_middle_of_a_login(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    credentials = site.sh("cat /var/lib/rave/credentials.json")
    with site.machine.spawn(["ravectl", "login", "bot@example.test"]) as login:
        site.control.wait(mail=True, polls=1)
        site.sh(STOP)
        said, complained = login.communicate(timeout=20)
    assert login.returncode != 0
    assert "cancelled" in complained
    assert said
    nothing_runs(site)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[mesh])
    assert site.sh("cat /var/lib/rave/credentials.json") == credentials


def test_in_the_middle_of_a_roll(site: Site) -> None:
    meshes = site.run_fleet(4)
    site.set_options(lang="de")
    site.sh("systemctl restart rave-orchestrator")
    eventually(lambda: site.manager("Outdated") == 4, "all run with the old settings")
    with site.machine.spawn(["ravectl", "roll"]) as roll:
        assert roll.stdout
        roll.stdout.readline()
        site.sh(STOP)
        roll.communicate(timeout=20)
    nothing_runs(site)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes, timeout=60)
    assert entries(site) == {}


def test_a_bot_that_does_not_stop_is_killed_after_the_time_out(site: Site) -> None:
    site.set_options(shutdown_timeout="2s", process_restart_delay="100ms")
    stubborn, other = site.run_fleet(2)
    site.break_program(stubborn, _STUBBORN)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(stubborn)}")
    eventually(lambda: site.unit(stubborn, "NRestarts") == "1", "it is another program")
    eventually(lambda: site.unit(stubborn, "ActiveState") == "active", "which says that it is ready")
    begun = time.monotonic()
    site.sh(STOP)
    elapsed = time.monotonic() - begun
    assert 2 <= elapsed < 10
    assert site.bots() == []
    assert site.control.mesh(other)["ended"][-1]["code"] == 1000, "the others did not have to wait for it"
    site.break_program(stubborn, "")
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[stubborn, other])
    assert entries(site) == {}, "it was no crash"


def cling(site: Site, program: str) -> tuple[str, str]:
    """Two bots, of which the first is one that clings."""
    site.set_options(shutdown_timeout="2s", process_restart_delay="100ms")
    clinging, other = site.run_fleet(2)
    eventually(lambda: site.unit(clinging, "TimeoutStopUSec") == "2s", "the limit is in force")
    let_cling(site, clinging, program)
    return clinging, other


def let_cling(site: Site, mesh: str, program: str = CLINGING) -> None:
    """Put one that clings in the place of a bot."""
    site.break_program(mesh, program)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(mesh)}")
    eventually(lambda: site.unit(mesh, "StatusText") == "clings", "it clings")


@pytest.mark.parametrize(
    ("how", "stop"),
    [
        ("deaf", "systemctl stop rave-mesh@{}"),
        ("stopping", "systemctl stop rave-mesh@{}"),
        ("reloading", "systemctl stop rave-mesh@{}"),
        ("starting", "systemctl stop rave-mesh@{}"),
        ("deaf", "ravectl stop {}"),
        ("starting", "ravectl stop {}"),
    ],
)
def test_a_bot_that_asks_for_more_time_does_not_hold_up_its_stop(
    site: Site, figure: Figure, how: str, stop: str
) -> None:
    clinging, other = cling(site, _CLINGING[how])
    pid = site.unit(other, "MainPID")
    begun = time.monotonic()
    site.sh(stop.format(clinging), timeout=30)
    eventually(lambda: site.unit(clinging, "MainPID") == "0", "it is gone", 30)
    elapsed = time.monotonic() - begun
    figure(f"{stop.split()[0]} stop: a bot that clings ({how}) is gone after {elapsed:.1f} s, with a limit of 2 s")
    assert elapsed < 12
    site.wait_state([clinging], "held")
    assert site.unit(other, "MainPID") == pid
    assert "does not stop" in site.sh("journalctl -b -o cat -u rave-orchestrator")


@pytest.mark.parametrize("stop", [STOP, "systemctl restart rave-orchestrator; " + STOP], ids=["stop", "restart"])
def test_a_bot_that_asks_for_more_time_does_not_hold_up_the_drain(site: Site, figure: Figure, stop: str) -> None:
    clinging, other = cling(site, CLINGING)
    assert site.unit(clinging, "NRestarts") == "1"
    begun = time.monotonic()
    site.sh(stop, timeout=30)
    elapsed = time.monotonic() - begun
    figure(f"with a bot that asks for more time the drain takes {elapsed:.1f} s, with a limit of 2 s")
    assert elapsed < 15
    nothing_runs(site)
    assert site.control.mesh(other)["ended"][-1]["code"] == 1000, "the others did not have to wait for it"
    site.break_program(clinging, "")
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[clinging, other])
    assert entries(site) == {}, "it was killed at its stop, which is no crash"


def test_a_bot_that_asks_for_more_time_does_not_hold_up_the_end_of_the_machine(
    packages: list[Path], figure: Figure
) -> None:
    with Machine(installed_root(packages)) as booted:
        site = Site(booted)
        site.set_up()
        cling(site, CLINGING)
        begun = time.monotonic()
        booted.run(["systemctl", "--no-block", "poweroff"])
        eventually(lambda: not Path(f"/proc/{booted.leader}/exe").exists(), "the machine has ended", 40)
        figure(f"with a bot that asks for more time the machine is off after {time.monotonic() - begun:.1f} s")


def test_all_are_closed_at_the_same_time(site: Site) -> None:
    meshes = site.run_fleet(10)
    site.sh(STOP)
    state = site.control.wait(disconnected=meshes)
    ends = [state["meshes"][mesh]["ended"][-1] for mesh in meshes]
    assert {end["code"] for end in ends} == {1000}
    nothing_runs(site)


def test_a_kick_at_the_moment_of_a_restart_is_not_lost(site: Site) -> None:
    meshes = site.run_fleet(4)
    for kicked in meshes[:3]:
        kicking = threading.Thread(target=site.control.kick, args=(kicked,))
        kicking.start()
        site.sh("systemctl restart rave-orchestrator")
        kicking.join()
        site.wait_state([kicked], "blocked")
    assert {entry[0] for entry in entries(site).values()} == {"kicked"}
    assert len(entries(site)) == 3
    assert list(site.control.connections()) == meshes[3:]
