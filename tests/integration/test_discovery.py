"""Discovery fails static: whatever goes wrong with the list of meshes, nothing stops."""

from __future__ import annotations

import time

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually


@pytest.mark.parametrize("mode", ["500", "refused", "half-page", "later-page", "reset"])
def test_a_failing_discovery_stops_nothing(site: Site, mode: str) -> None:
    site.control.option("page_size", 2)
    meshes = site.run_fleet(3)
    pids, connections = site.pids(meshes), site.control.connections()
    site.control.fail("discovery", mode)
    eventually(lambda: site.manager("DiscoveryError") != "", "the failure is shown", timeout=40)
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections
    assert "discovery fails" in site.sh("systemctl status rave-orchestrator")
    site.control.fail("discovery", "ok")
    eventually(lambda: site.manager("DiscoveryError") == "", "discovery works again", timeout=40)
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections


def test_an_empty_answer_is_not_believed(site: Site) -> None:
    meshes = site.run_fleet(3)
    pids = site.pids(meshes)
    site.control.fail("discovery", "empty")
    site.wait_rounds(5)
    eventually(lambda: site.manager("HeldBack") == 3, "the loss is reported")
    assert "the loss of 3 is not believed, stale since" in site.manager("Status")
    assert 0 < site.manager("StaleSinceTimestamp") < site.manager("LastDiscoveryTimestamp")
    assert site.pids(meshes) == pids


def test_a_mesh_is_given_up_after_several_rounds_without_it(site: Site) -> None:
    lost, *kept = meshes = site.run_fleet(3)
    pids = site.pids(meshes)
    site.control.hide(lost, times=2)
    site.wait_rounds(4)
    assert site.pids(meshes) == pids, "two rounds without it are not enough"
    site.control.uninvite(lost)
    site.control.wait(disconnected=[lost])
    assert site.pids(kept) == {mesh: pids[mesh] for mesh in kept}


def test_a_mesh_that_is_gone_ends_its_bot(site: Site) -> None:
    gone, other = site.run_fleet(2)
    site.control.remove(gone)
    site.wait_state([gone], "blocked")
    assert "gone" in site.mesh(gone, "Reason")
    assert site.answers(other)


def test_an_empty_answer_to_a_new_parent_is_not_believed_either(site: Site) -> None:
    meshes = site.run_fleet(3)
    pids = site.pids(meshes)
    site.control.fail("discovery", "empty")
    site.sh("systemctl restart rave-orchestrator")
    site.wait_rounds(5)
    eventually(lambda: site.manager("HeldBack") == 3, "the loss is reported")
    assert site.pids(meshes) == pids
    assert "is not believed" in site.manager("Status")
    # Until an operator confirms it.
    site.sh("ravectl discover --confirm-losses")
    site.control.wait(disconnected=meshes)
    eventually(lambda: site.bots() == [], "all have stopped")
    site.control.fail("discovery", "ok")
    site.control.wait(connected=meshes)


def test_a_kick_that_is_lifted_is_no_invitation(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    eventually(lambda: site.bots() == [names.mesh_unit(other)], "the process is gone")
    assert "Discovery does not list it." in site.sh(f"ravectl explain {kicked}")
    site.sh(f"ravectl blocklist remove {kicked}")
    site.wait_rounds(4)
    assert site.bots() == [names.mesh_unit(other)]
    assert "rejected" not in site.sh("ravectl blocklist list")
    site.control.invite(kicked)
    site.control.wait(connected=[kicked])


def test_what_was_read_before_a_page_failed_is_joined(site: Site) -> None:
    site.control.option("page_size", 3)
    meshes = site.run_fleet(2)
    pids = site.pids(meshes)
    site.control.fail("discovery", "later-page")
    first, second = new = site.control.create(2)
    site.control.invite(new)
    site.control.wait(connected=[first])
    assert "discovery fails" in site.manager("Status")
    assert site.pids(meshes) == pids
    assert second not in site.control.connections()


def test_another_mesh_mode_is_no_loss(site: Site) -> None:
    invited = site.run_fleet(3)
    public = site.control.create(2, kinds=["public"])
    site.wait_rounds(2)
    site.set_options(mesh_mode="public")
    site.sh("systemctl restart rave-orchestrator")
    site.control.wait(connected=public, disconnected=invited)
    assert site.manager("HeldBack") == 0
    eventually(lambda: len(site.bots()) == len(public), "the former ones are gone")
    # What is missing from the new kind of list is doubted as ever.
    site.control.fail("discovery", "empty")
    eventually(lambda: site.manager("HeldBack") == len(public), "the loss is reported")
    assert len(site.bots()) == len(public)


def test_of_thousands_of_rooms_no_more_are_read_than_are_wanted(site: Site, figure: Figure) -> None:
    site.set_options(mesh_mode="public", max_processes=3)
    for _ in range(2):
        site.control.create(1050, kinds=["public"])
    begun = time.monotonic()
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: len(site.control.connections()) == 3, "three bots run")
    figure(f"three bots of 2100 public rooms run after {time.monotonic() - begun:.1f} s")
    running = site.control.connections()
    rounds = site.sh("journalctl -u rave-orchestrator -o cat")
    assert "page" not in rounds, rounds
    site.sh("ravectl discover")
    assert site.control.connections() == running
    assert site.manager("DiscoveryError") == ""
