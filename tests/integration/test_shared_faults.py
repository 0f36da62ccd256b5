"""Faults that are no mesh's own: of a server, of the account, of the machine. No mesh is blocked for them."""

from __future__ import annotations

import time

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


@pytest.mark.parametrize("how", ["500", "404", "403", "reset", "half-page", "timeout"])
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
    eventually(lambda: "login needed" in site.manager("Status"), "the status says so")
    assert site.children() == []
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
    assert "lets nobody in" not in status, status
    site.control.fail("mesh", "ok")
    site.control.wait(connected=[*meshes, new], timeout=60)
    assert time.monotonic() - begun >= pause
    told = site.machine.journal("-u", "rave-mesh@*", "--since=-1min", "--grep=HTTP 429")
    assert len(told.splitlines()) == 3, told
    assert site.pids(meshes) == pids
    assert entries(site) == {}
