"""Faults that are no mesh's own: of a server, of the account, of the machine. No mesh is blocked for them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Site, eventually
from tests.integration.test_blocklist import entries


def test_a_server_that_restarts_in_eight_seconds_blocks_no_mesh(site: Site) -> None:
    """Refused upgrades of one mesh's server; the other mesh, on the same one, shows that it is up."""
    away, other = site.run_fleet(2)
    connections = site.control.connections()
    site.control.refuse(away, status=502)
    site.control.drop(away)
    # The restart itself is what takes the time here.
    time.sleep(8)
    assert "502" in site.mesh(away, "Reason")
    site.control.accept(away)
    site.control.wait(reconnected={away: connections[away]}, timeout=40)
    assert entries(site) == {}
    assert site.control.connections()[other] == connections[other]


@pytest.mark.parametrize("how", ["500", "404", "403", "half-page", "timeout"])
def test_a_question_about_the_account_that_fails_keeps_no_bot_away(site: Site, how: str) -> None:
    site.control.fail("self", how)
    (mesh,) = site.run_fleet(1)
    assert "could not be checked" in site.machine.journal("-u", "rave-orchestrator", "--since=-1min")
    site.control.fail("self", "ok")
    assert site.answers(mesh)


def test_a_session_that_rave_refuses_does(site: Site) -> None:
    site.control.fail("self", "401")
    site.control.invite(site.control.create())
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: "login is needed" in site.manager("Status"), "the status says so")
    assert site.bots() == []
    site.control.fail("self", "ok")


def test_a_pause_that_rave_asks_for_is_kept_by_all_bots(site: Site) -> None:
    """429 with Retry-After for what bots ask: each is told once, keeps its process, and no other bot is started."""
    pause = 12
    meshes = site.run_fleet(3)
    pids = site.pids(meshes)
    site.control.fail("mesh", "429", retry_after=pause)
    begun = time.monotonic()
    site.control.drop(meshes)
    eventually(lambda: all("asks for a pause" in site.mesh(mesh, "Reason") for mesh in meshes), "all were told")
    (new,) = site.control.create()
    site.control.invite(new)
    eventually(lambda: "asks for a pause until" in site.sh(f"ravectl explain {new} || true"), "it is not started")
    status = site.manager("Status")
    assert "localhost asks for a pause until" in status, status
    assert "lets no bot in" not in status, status
    site.control.fail("mesh", "ok")
    site.control.wait(connected=[*meshes, new], timeout=60)
    assert time.monotonic() - begun >= pause
    told = site.machine.journal("-u", "rave-mesh@*", "--since=-1min", "--grep=HTTP 429")
    assert 1 <= len(told.splitlines()) <= 3, "each at most once; what one was told the others may know already"
    assert site.pids(meshes) == pids
    assert entries(site) == {}


def test_a_server_that_turns_all_bots_away_blocks_no_mesh(site: Site) -> None:
    """403 for every socket, longer than any bot goes on trying; also for a mesh that alone is refused later."""
    site.set_options(connection_failure_window="2s")
    meshes = site.run_fleet(4)
    site.control.refuse("all", status=403)
    site.control.drop(meshes)
    eventually(lambda: "all meshes" in site.manager("Status"), "the status says what", 60)
    status = site.manager("Status")
    assert "403" in status, status
    assert "trying again with back-off" in status, status
    eventually(lambda: site.bots() == [], "all bots have given up", 60)
    assert entries(site) == {}
    # At first its last run is being examined.
    explain = f"ravectl explain {meshes[0]}"
    eventually(lambda: "it is tried again on" in site.sh(explain), "the next try is told")
    site.control.accept("all")
    # As an operator does who does not want to wait for the end of the back-off.
    for mesh in meshes:
        site.sh(f"ravectl start {mesh}")
    site.control.wait(connected=meshes, timeout=60)
    eventually(lambda: "can't be reached" not in site.manager("Status"), "it is over")
    site.control.refuse(meshes[0], status=403)
    site.control.drop(meshes[0])
    site.wait_state([meshes[0]], "blocked", timeout=40)
    assert entries(site).keys() == {meshes[0]}, "one that is refused alone is its own fault"


@pytest.mark.parametrize("status", ["404", "403"])
def test_a_gateway_that_refuses_everything_blocks_no_mesh(site: Site, status: str) -> None:
    """As if all meshes were gone, or forbidden; all is well again by itself."""
    site.set_options(connection_failure_window="2s")
    meshes = site.run_fleet(3)
    calls = ("mesh", "discovery", "self", "users")
    for call in calls:
        site.control.fail(call, status)
    site.control.drop(meshes)
    eventually(lambda: "all meshes can't be reached" in site.manager("Status"), "the status says what", 60)
    assert entries(site) == {}
    critical = site.sh("ravectl status --check || true")
    assert critical.startswith("RAVE CRITICAL - all meshes can't be reached"), critical
    for call in calls:
        site.control.fail(call, "ok")
    site.control.wait(connected=meshes, timeout=90)
    assert entries(site) == {}


def test_a_program_that_can_not_run_on_this_machine_quarantines_no_mesh(site: Site) -> None:
    site.set_options(process_restart_delay="100ms", max_process_restarts=1)
    meshes = site.run_fleet(3)
    for mesh in meshes:
        site.break_program(mesh, "raise SystemExit(1)")
    site.sh("systemctl kill -s KILL 'rave-mesh@*.service'")
    eventually(lambda: "the processes of all meshes fail" in site.manager("Status"), "the status says what", 60)
    eventually(lambda: site.bots() == [], "they have given up", 40)
    assert entries(site) == {}
    for mesh in meshes:
        site.break_program(mesh, "")
        site.sh(f"ravectl start {mesh}")
    site.control.wait(connected=meshes, timeout=60)


def test_kicks_from_everywhere_are_said_and_undone_at_once(site: Site) -> None:
    meshes = site.run_fleet(4)
    site.control.kick(meshes)
    site.wait_state(meshes, "blocked")
    site.wait_rounds(2)
    status = site.manager("Status")
    assert "kicked from 4 meshes at once" in status, status
    assert "not believed" not in status, status
    site.sh(f"ravectl blocklist remove {meshes[0]} {meshes[1]}")
    assert entries(site).keys() == set(meshes[2:])
    site.sh("ravectl blocklist remove --reason kicked --since 10min")
    assert entries(site) == {}
    eventually(lambda: "kicked" not in site.manager("Status"), "there is nothing to say any more")


def test_a_second_place_of_the_account_blocks_no_mesh_and_is_told_why(site: Site) -> None:
    """All bots in one process, on the same machine as the service; then the other way round."""
    (mesh,) = site.run_fleet(1)
    # It goes on trying until the service has gone.
    site.set_options(connection_failure_window="1min")
    site.sh(
        "mkdir -p /root/.config/ravesvc /root/.local/state/ravesvc; cp /etc/rave/rave.yaml /root/.config/ravesvc/;"
        "rave-simulator credentials | install -m 600 /dev/stdin /root/.local/state/ravesvc/credentials.json"
    )
    run = ["sh", "-c", "exec env HOME=/root python3 -m ravesvc.single > /tmp/single.log 2>&1"]
    with _running(site, run):
        # There is no such file before the shell has started.
        said = "cat /tmp/single.log"
        eventually(lambda: "same account" in site.sh(said, check=False), "the one process is told", 30)
        assert "is blocked" not in site.sh(said)
        assert site.answers(mesh)
        site.set_options(connection_failure_window=0)
        site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
        site.control.wait(connected=[mesh], timeout=60)
        site.sh("systemctl start rave-orchestrator")
        # The service may still be at its first round, in which it knows no mesh.
        explain = f"ravectl explain {mesh}"
        eventually(lambda: "same account" in site.sh(explain, check=False), "so is the service", 60)
        eventually(lambda: site.unit(mesh, "ActiveState") != "active", "its bot has ended", 40)
        assert entries(site) == {}
    site.sh("rm -r /root/.config/ravesvc /root/.local/state/ravesvc")


@contextlib.contextmanager
def _running(site: Site, words: list[str]) -> Iterator[None]:
    """A program in the machine, killed at the end."""
    program = site.machine.spawn(words)
    try:
        yield
    finally:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
