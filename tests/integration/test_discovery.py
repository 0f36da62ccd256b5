"""Discovery fails static: whatever goes wrong with the list of meshes, nothing stops."""

from __future__ import annotations

import pytest

from ravesvc import names
from tests.integration.conftest import Site, eventually


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


def test_a_mesh_that_is_gone_ends_its_child(site: Site) -> None:
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
    # Until somebody says that it is true.
    site.sh("ravectl discover --confirm-losses")
    site.control.wait(disconnected=meshes)
    eventually(lambda: site.children() == [], "all have stopped")
    site.control.fail("discovery", "ok")
    site.control.wait(connected=meshes)


def test_a_kick_that_is_lifted_is_no_invitation(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    eventually(lambda: site.children() == [names.mesh_unit(other)], "the process is gone")
    assert "Discovery does not list it." in site.sh(f"ravectl explain {kicked}")
    site.sh(f"ravectl blocklist remove {kicked}")
    site.wait_rounds(4)
    assert site.children() == [names.mesh_unit(other)]
    assert "rejected" not in site.sh("ravectl blocklist list")
    site.control.invite(kicked)
    site.control.wait(connected=[kicked])
