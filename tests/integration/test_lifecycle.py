"""What survives what: crashes, kicks, restarts and the stop of the parent."""

from __future__ import annotations

import json
import time

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import entries

# RestartSec= of rave-mesh@.service as the default configuration sets it.
RESTART_DELAY = 5.0


def test_a_killed_bot_comes_back_and_the_others_notice_nothing(site: Site, figure: Figure) -> None:
    victim, *others = meshes = site.run_fleet(3)
    pids, connections = site.pids(meshes), site.control.connections()
    killed = time.monotonic()
    site.sh(f"kill -KILL {pids[victim]}")
    site.control.wait(reconnected={victim: connections[victim]})
    assert site.answers(victim)
    elapsed = time.monotonic() - killed
    figure(f"killed to answering again: {elapsed:.2f} s (limit {RESTART_DELAY + 3:.1f} s)")
    assert elapsed < RESTART_DELAY + 3
    now = site.control.connections()
    assert {mesh: now[mesh] for mesh in others} == {mesh: connections[mesh] for mesh in others}
    assert site.pids(others) == {mesh: pids[mesh] for mesh in others}
    eventually(lambda: site.mesh(victim, "Restarts") == 1, "the restart is counted")


@pytest.mark.parametrize("close", ["after", "before", "not"])
def test_a_kicked_bot_stays_out(site: Site, close: str) -> None:
    kicked, other = site.run_fleet(2)
    pid = site.pids([other])[other]
    site.control.kick(kicked, close=close)
    site.control.wait(disconnected=[kicked])
    site.wait_state([kicked], "blocked")
    eventually(lambda: site.bots() == [names.mesh_unit(other)], "the process is gone")
    blocked = json.loads(site.sh("cat /var/lib/rave/blocklist.json"))["blockedMeshes"][kicked]
    assert (blocked["reason"], blocked["blockedUntil"]) == ("kicked", None)
    site.control.invite(kicked)
    site.wait_rounds(2)
    assert site.bots() == [names.mesh_unit(other)], "an invitation must not bring it back"
    assert kicked not in site.control.connections()
    assert site.pids([other])[other] == pid


def test_a_kick_while_the_parent_is_away_is_learnt_later(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    site.control.kick(kicked)
    eventually(lambda: site.unit(kicked, "ActiveState") == "failed", "the bot has ended")
    assert site.unit(kicked, "ExecMainStatus") == str(int(names.ExitStatus.KICKED))
    site.sh("systemctl kill --signal=KILL rave-orchestrator")
    site.wait_state([kicked], "blocked")
    site.wait_state([other], "connected")
    assert "kicked" in site.mesh(kicked, "Reason")


@pytest.mark.parametrize("how", ["reset-failed", "boot"])
def test_a_kick_while_the_parent_is_away_outlives_systemds_memory(site: Site, how: str) -> None:
    kicked, other = site.run_fleet(2)
    notes = "ls /var/lib/rave/ended 2>/dev/null || true"
    site.sh("systemctl kill --signal=STOP rave-orchestrator")
    site.control.kick(kicked)
    eventually(lambda: site.unit(kicked, "ActiveState") == "failed", "the bot has ended")
    eventually(lambda: site.sh(notes).split() == [f"{kicked}.80"], "it is noted")
    assert site.sh("stat -c '%U %a' /var/lib/rave/ended").split() == ["rave", "700"]
    if how == "boot":
        # As far as it matters: no process, no unit, nothing under /run is left.
        site.sh("systemctl kill --signal=KILL rave-orchestrator; systemctl stop rave-orchestrator rave-meshes.target")
        site.sh("rm -rf /run/rave/* /run/systemd/system/rave-mesh@.service.d")
    site.sh("systemctl reset-failed; systemctl daemon-reexec")
    assert site.unit(kicked, "ActiveState") == "inactive"
    # What could not be deleted meanwhile.
    site.control.invite(kicked)
    site.sh("systemctl kill --signal=KILL rave-orchestrator || true; systemctl start rave-orchestrator")
    site.wait_state([other], "connected")
    site.wait_state([kicked], "blocked")
    assert "kicked" in site.mesh(kicked, "Reason")
    eventually(lambda: site.sh(notes) == "", "what is on disk needs no note")
    # And what is lifted afterwards stays lifted.
    site.sh(f"ravectl blocklist remove {kicked}")
    site.kill_parent()
    site.wait_state([other], "connected")
    assert kicked not in site.sh("ravectl blocklist list")


def test_a_bot_that_runs_and_stops_as_it_is_told_leaves_no_note(site: Site) -> None:
    meshes = site.run_fleet(2)
    kicked, other = meshes
    site.sh(f"systemctl restart {names.mesh_unit(other)}")
    site.wait_state(meshes, "connected")
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    # The block is shown at the signal, before the process has ended.
    note = f"journalctl -b -o cat UNIT={names.ended_unit(kicked)} | grep -c ^Finished || true"
    eventually(lambda: int(site.sh(note)) == 1, "the kick is noted")
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    assert site.sh(f"journalctl -b -o cat UNIT={names.ended_unit(other)}") == "", "nothing more is run for the others"
    assert site.sh("ls -A /var/lib/rave/ended") == ""


@pytest.mark.parametrize("killed", [False, True])
def test_bots_outlive_the_parent(site: Site, killed: bool) -> None:
    meshes = site.run_fleet(3)
    pids, connections = site.pids(meshes), site.control.connections()
    if killed:
        site.kill_parent()
    else:
        site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections
    assert all(site.answers(mesh) for mesh in meshes)


def test_stop_drains_the_fleet(site: Site) -> None:
    meshes = site.run_fleet(5)
    site.sh("systemctl stop rave-orchestrator rave-meshes.target")
    assert site.bots() == []
    state = site.control.wait(disconnected=meshes)
    assert [state["meshes"][mesh]["ended"][-1]["code"] for mesh in meshes] == [1000] * 5


def test_stop_of_the_parent_alone_drains_as_well(site: Site) -> None:
    meshes = site.run_fleet(3)
    site.sh("systemctl stop rave-orchestrator")
    state = site.control.wait(disconnected=meshes)
    assert [state["meshes"][mesh]["ended"][-1]["code"] for mesh in meshes] == [1000] * 3
    eventually(lambda: site.bots() == [], "no bot is left")


def test_a_dropped_connection_is_made_anew_by_the_same_process(site: Site) -> None:
    dropped, other = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    site.control.drop(dropped)
    site.control.wait(reconnected={dropped: connections[dropped]})
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.control.connections()[other] == connections[other]
    assert site.answers(dropped)


def test_a_mesh_that_lets_nobody_in_is_left_alone(site: Site) -> None:
    site.set_options(connection_failure_window=0)
    site.run_fleet(1)
    (closed,) = site.control.create()
    site.control.refuse(closed, status=403)
    site.control.invite(closed)
    site.wait_state([closed], "blocked", timeout=40)
    assert "turned the bot away" in site.mesh(closed, "Reason")
    until = json.loads(site.sh("cat /var/lib/rave/blocklist.json"))["blockedMeshes"][closed]["blockedUntil"]
    assert until > time.time() * 1000, "it is tried again later"


def test_one_wrong_404_is_made_good_by_the_next_round(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    site.control.fail("mesh", "404", times=1)
    site.control.drop(mesh)
    site.control.wait(disconnected=[mesh])
    site.control.wait(connected=[mesh])
    site.wait_state([mesh], "connected")


def test_slow_leaving_does_not_hold_up_discovery(site: Site) -> None:
    kicked, other, *_ = meshes = site.run_fleet(3)
    site.control.fail("leave", "timeout")
    site.control.fail("uninvite", "timeout")
    site.control.kick([kicked, other])
    site.wait_state([kicked, other], "blocked")
    (mesh,) = site.control.create()
    site.control.invite(mesh)
    site.control.wait(connected=[mesh], timeout=8)
    assert meshes[2] in site.control.connections()


def test_the_target_stopped_alone_comes_back(site: Site) -> None:
    """And a stop of the parent still reaches the meshes after that."""
    meshes = site.run_fleet(2)
    site.sh("systemctl stop rave-meshes.target")
    site.control.wait(connected=meshes)
    eventually(lambda: site.sh("systemctl is-active rave-meshes.target", check=False) == "active\n", "it is back")
    site.sh("systemctl stop rave-orchestrator")
    site.control.wait(disconnected=meshes)
    eventually(lambda: site.bots() == [], "no bot is left")


def test_a_bot_that_misses_its_adoption_is_found_later(site: Site) -> None:
    stuck, other = meshes = site.run_fleet(2)
    pids = site.pids(meshes)
    site.sh(f"kill -STOP {pids[stuck]}")
    site.sh("systemctl restart rave-orchestrator", timeout=60)
    site.wait_state([other], "connected")
    site.sh(f"kill -CONT {pids[stuck]}")
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids


def test_restarts_by_hand_are_no_crashes(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    for _ in range(8):
        site.sh(f"systemctl restart rave-mesh@{mesh}", check=False)
    site.control.wait(connected=[mesh])
    site.wait_state([mesh], "connected")
    assert entries(site) == {}


def test_lost_credentials_are_no_fault_of_the_meshes(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    # File and store, in the moment before systemd starts the parent again.
    killed = "systemctl kill --signal=KILL --kill-whom=main rave-orchestrator"
    site.sh(f"mkdir /root/lost; {killed}; mv /var/lib/rave/* /root/lost")
    try:
        words = "systemctl show --value -p StatusText rave-orchestrator"
        eventually(lambda: "login is needed" in site.sh(words), "it asks for a login")
        assert mesh in site.control.connections(), "what runs goes on"
        site.sh(f"kill -KILL {site.pids([mesh])[mesh]}")
        eventually(lambda: site.unit(mesh, "NRestarts") != "0", "it is tried again")
    finally:
        site.sh(f"{killed}; rm -r /var/lib/rave/*; mv /root/lost/* /var/lib/rave; rmdir /root/lost")
    site.control.wait(connected=[mesh], timeout=40)
    site.wait_state([mesh], "connected")


def test_bots_keep_their_rooms_when_the_bus_restarts(site: Site) -> None:
    meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    site.sh("systemctl restart dbus.service", timeout=60)
    eventually(
        lambda: site.sh("systemctl is-active rave-orchestrator", check=False) == "active\n", "the parent is up"
    )
    eventually(lambda: _connected(site, meshes), "both sides are back on the bus", timeout=30)
    assert site.pids(meshes) == pids
    assert site.control.connections() == connections


def _connected(site: Site, meshes: list[str]) -> bool:
    done = site.machine.run(
        ["busctl", "get-property", names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE, "Connected"],
        check=False,
    )
    return done.stdout.strip() == f"u {len(meshes)}"


def test_a_bot_that_is_alone_leaves_and_comes_back_with_company(site: Site) -> None:
    site.set_options(leave_when_alone="2s")
    empty, other = site.run_fleet(2)
    site.control.part(empty, "ann")
    site.control.wait(disconnected=[empty])
    eventually(lambda: site.bots() == [names.mesh_unit(other)], "its process is gone")
    eventually(lambda: "alone" in site.mesh(empty, "Reason"), "it says why")
    site.kill_parent()
    site.wait_state([other], "connected")
    site.wait_rounds(3)
    assert site.bots() == [names.mesh_unit(other)], "an empty room is not joined, by the next parent either"
    assert "comes back when there is company" in site.sh(f"ravectl explain {empty}")
    assert empty not in site.sh("ravectl blocklist list")
    assert site.control.mesh(empty)["invited"] != [], "it is still invited"
    site.control.join(empty, "ann")
    site.control.wait(connected=[empty])
    assert site.answers(empty)
