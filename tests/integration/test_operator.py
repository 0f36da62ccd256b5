"""What an operator wants: holds, plans, explanations, limits, and processes that are up to date."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import entries


def explain(site: Site, mesh: str) -> dict[str, Any]:
    """The details."""
    _, details = json.loads(site.call("Explain", "s", mesh))["data"]
    return {name: value["data"] for name, value in details.items()}


def test_a_stop_by_hand_is_a_hold_until_somebody_starts_it(site: Site) -> None:
    held, other = meshes = site.run_fleet(2)
    connections = site.control.connections()
    site.sh(f"systemctl stop rave-mesh@{held}")
    site.wait_state([held], "held")
    assert entries(site)[held][0] == "held"
    assert entries(site)[held][4] == "systemctl"
    site.wait_rounds(3)
    assert site.bots() == [names.mesh_unit(other)]
    said = site.sh(f"ravectl explain {held}")
    assert f"Mesh {held} " in said
    assert " is held: it was stopped by an operator" in said
    assert f"until it is started: ravectl start {held}" in said
    told = site.sh(f"journalctl --quiet --catalog RAVE_MESH={held} RAVE_EVENT=held")
    assert f"Subject: Mesh {held} is held" in told
    assert "was stopped by systemctl" in told
    for again in (lambda: site.sh("systemctl restart rave-orchestrator"), site.kill_parent):
        again()
        site.wait_state([other], "connected")
        site.wait_rounds(2)
        assert site.bots() == [names.mesh_unit(other)]
    # By systemctl as well as by us.
    site.sh(f"systemctl start rave-mesh@{held}")
    site.control.wait(connected=[held])
    site.wait_state(meshes, "connected")
    assert entries(site) == {}
    site.wait_rounds(2)
    assert held in site.control.connections(), "nobody stops it again"
    site.sh(f"ravectl stop {held}")
    assert (site.mesh(held, "State"), site.unit(held, "MainPID")) == ("held", "0"), "it was waited for"
    assert entries(site)[held][4] == "root"
    site.sh(f"ravectl start {held[:18]}")
    assert site.mesh(held, "State") == "connected", "it was waited for"
    assert site.control.connections()[other] == connections[other]


def test_a_stop_by_hand_between_two_processes_is_a_hold_as_well(site: Site) -> None:
    site.set_options(process_restart_delay="15s")
    (mesh,) = site.run_fleet(1)
    site.sh(f"systemctl kill -s KILL rave-mesh@{mesh}")
    site.wait_state([mesh], "restarting")
    site.sh(f"systemctl stop rave-mesh@{mesh}")
    site.wait_state([mesh], "held")
    assert entries(site)[mesh][0] == "held"
    site.wait_rounds(2)
    assert site.bots() == []
    site.sh(f"ravectl start {mesh}")
    site.control.wait(connected=[mesh])


def test_a_start_whose_bot_is_not_let_in_fails_with_the_reason(site: Site) -> None:
    site.set_options(connection_failure_window="2s")
    mesh, _ = site.run_fleet(2)
    site.sh(f"ravectl stop {mesh}")
    site.control.refuse(mesh, status=403)
    said = site.sh(f"ravectl start {mesh} || echo status $?", check=False)
    assert "is not connected: it is blocked: " in said
    assert "status 1\n" in said
    site.control.accept(mesh)
    for verb in ("start", "restart"):
        pid = site.unit(mesh, "MainPID")
        site.sh(f"ravectl {verb} {mesh}")
        assert site.mesh(mesh, "State") == "connected"
        assert site.unit(mesh, "MainPID") not in ("0", pid)
    pid = site.unit(mesh, "MainPID")
    assert "is being restarted" in site.sh(f"ravectl restart --no-block {mesh}")
    site.wait_state([mesh], "connected")
    eventually(lambda: site.unit(mesh, "MainPID") not in ("0", pid), "the restart goes on without ravectl")


def test_restarts_and_stops_that_are_no_holds(site: Site) -> None:
    first, second = meshes = site.run_fleet(2)
    connections = site.control.connections()
    site.sh(f"systemctl restart rave-mesh@{first}")
    site.control.wait(reconnected={first: connections[first]})
    connections = site.control.connections()
    site.sh("systemctl stop rave-meshes.target")
    site.control.wait(reconnected={mesh: connections[mesh] for mesh in meshes})
    site.sh("systemctl stop rave-orchestrator rave-meshes.target")
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=meshes)
    site.sh(f"systemctl kill -s TERM rave-mesh@{second}")
    site.control.wait(disconnected=[second])
    site.control.wait(connected=meshes)
    assert entries(site) == {}


def test_plan_and_explain(site: Site) -> None:
    site.set_options(connection_failure_window=0)
    running, kicked = meshes = site.run_fleet(2)
    (refused,) = site.control.create()
    site.control.refuse(refused, status=403)
    site.control.kick(kicked)
    site.control.invite(refused)
    site.wait_state([kicked, refused], "blocked", timeout=40)
    decided = {row[0]: row[1:] for row in json.loads(site.call("Plan"))["data"][0]}
    assert decided[running][0] == "keep"
    assert decided[refused][0] == "skip"
    assert "turned the bot away" in decided[refused][1]
    assert refused in site.sh("ravectl plan")
    told = explain(site, kicked)
    assert (told["State"], told["BlockReason"], told["NextRetryTimestamp"]) == ("blocked", "kicked", 0)
    assert told["LastExit"] == f"exit status {int(names.ExitStatus.KICKED)} (kicked)"
    told = explain(site, refused)
    assert (told["BlockReason"], told["Blocks"], told["Listed"]) == ("rejected", 1, True)
    assert 3500 < told["NextRetryTimestamp"] / 1_000_000 - time.time() < 3600
    assert "403" in told["BlockDetail"]
    told = explain(site, running)
    assert (told["State"], told["ActiveState"], told["Action"]) == ("connected", "active", "keep")
    said = site.sh(f"ravectl explain {refused}")
    for words in ("Discovery lists it as an invitation", "on the blocklist", "is tried again on"):
        assert words in said
    assert "no mesh" in site.sh("ravectl explain 00000000-0000-4000-8000-000000000000", check=False)
    assert meshes
    # The list goes by the zone of the machine too, whatever the caller's is.
    site.sh(f"ravectl blocklist add {running}")
    listed, explained = (
        site.sh(f"TZ=IST-5:30 ravectl {words}") for words in ("blocklist list", f"explain {running}")
    )
    since = re.search(r"operator +(\S+) (\S+)", listed)
    assert since
    assert f"{since[1]} at {since[2]}" in explained, (listed, explained)


def test_at_most_so_many_processes_invited_meshes_first(site: Site) -> None:
    site.set_options(max_processes=2, mesh_mode="all")
    public = site.control.create(2, kinds=["public"])
    invited = site.control.create(2)
    site.control.invite(invited[:1])
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: len(site.control.connections()) == 2, "two are connected", 40)
    assert invited[0] in site.control.connections()
    site.wait_rounds(2)
    (left_out,) = set(public) - set(site.control.connections())
    assert site.mesh(left_out, "Reason") == "max_processes (2) is reached"
    assert "max_processes (2) is reached" in site.sh("ravectl plan")
    # Another invitation takes the place of a mesh without one; never are there three.
    site.control.invite(invited[1:])
    site.control.wait(connected=invited)
    assert sorted(site.control.connections()) == sorted(invited)
    # A place that becomes free is taken.
    site.sh(f"ravectl stop {invited[0]}")
    eventually(lambda: len(site.control.connections()) == 2 and invited[0] not in site.control.connections(), "taken")
    assert most_at_once(site) == 2


def test_so_many_meshes_of_one_user_get_a_bot_and_any_number_of_an_admin(site: Site) -> None:
    site.set_options(max_meshes_per_user=2)
    meshes = site.control.create(4)
    site.control.invite(meshes)
    site.sh("systemctl start rave-orchestrator")
    eventually(lambda: len(site.control.connections()) == 2, "two are connected", 40)
    site.wait_rounds(2)
    left_out = set(meshes) - set(site.control.connections())
    assert len(left_out) == 2
    for mesh in left_out:
        reason = site.mesh(mesh, "Reason")
        assert re.fullmatch(r"max_meshes_per_user \(2\) is reached by user \d+, who has made it", reason)
        assert reason in site.sh(f"ravectl explain {mesh}")
    (user,) = re.findall(r"user (\d+)", reason)
    site.sh(f"ravectl admin add {user}")
    site.control.wait(connected=meshes)


def most_at_once(site: Site) -> int:
    """How many sockets there have been at the same time; only the bot has any."""
    sockets: set[int] = set()
    most = 0
    for event in site.control.events():
        if event["type"] == "opened":
            sockets.add(event["connection"])
        elif event["type"] == "gone":
            sockets.discard(event["connection"])
        most = max(most, len(sockets))
    return most


def test_options_that_systemd_carries_out_take_effect(site: Site) -> None:
    site.set_options(
        process_restart_delay="1500ms", max_process_restarts=3, shutdown_timeout="7s", watchdog="20s"
    )  # fmt: skip
    victim, other = site.run_fleet(2)
    shown = dict(
        line.split("=", 1)
        for line in site.sh(
            f"systemctl show -p RestartUSec,TimeoutStopUSec,WatchdogUSec,StartLimitBurst {names.mesh_unit(victim)}"
        ).splitlines()
    )
    assert shown == {
        "RestartUSec": "1.500000s",
        "TimeoutStopUSec": "7s",
        "WatchdogUSec": "20s",
        "StartLimitBurst": "4",
    }
    connections = site.control.connections()
    begun = time.monotonic()
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(victim)}")
    site.control.wait(reconnected={victim: connections[victim]})
    assert 1.5 < time.monotonic() - begun < 5
    assert site.control.connections()[other] == connections[other]


def test_a_crash_loop_ends_in_a_quarantine_that_doubles(site: Site) -> None:
    site.set_options(process_restart_delay="100ms", max_process_restarts=2, blocklist_duration="3s")
    victim, other = site.run_fleet(2)
    connections = site.control.connections()
    site.break_program(victim, "raise SystemExit(1)")
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(victim)}")
    found: list[Any] = []

    def quarantined(number: int) -> bool:
        found[:] = entries(site).get(victim, [])
        return bool(found) and found[5] == number

    for number, seconds in ((1, 3), (2, 6), (3, 12)):
        eventually(lambda: quarantined(number), "in quarantine", 40)  # noqa: B023
        reason, since, until, detail, _, _ = found
        assert reason == "crashes"
        assert "2 restarts" in detail
        assert round((until - since) / 1_000_000) == seconds
        if number == 2:  # also if the parent has gone meanwhile
            site.kill_parent()
            site.wait_state([other], "connected")
    assert site.control.connections()[other] == connections[other]
    site.break_program(victim, "")
    site.control.wait(connected=[victim], timeout=40)


def test_outdated_processes_are_shown_and_replaced_one_after_another(site: Site, figure: Figure) -> None:
    meshes = site.run_fleet(4)
    pids, connections = site.pids(meshes), site.control.connections()
    assert site.manager("Outdated") == 0
    assert site.sh("ravectl roll") == "Nothing is outdated.\n"
    site.set_options(lang="de")
    site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")
    eventually(lambda: site.manager("Outdated") == 4, "all run with the old settings")
    assert site.pids(meshes) == pids
    assert site.mesh(meshes[0], "Outdated") is True
    assert "ravectl roll" in site.sh(f"ravectl explain {meshes[0]}")
    with site.listening(names.MANAGER_INTERFACE) as heard:
        begun = time.monotonic()
        said = site.sh("ravectl roll")
        figure(f"4 outdated processes were replaced in {time.monotonic() - begun:.1f} s")
    assert "4 outdated processes replaced" in said
    order = [signal[1] for signal in heard() if signal[0] == "RollProgress"]
    assert [entry[0] for entry in order] == [0, 1, 2, 3, 4]
    site.wait_state(meshes, "connected")
    assert site.manager("Outdated") == 0
    assert not set(site.pids(meshes).values()) & set(pids.values())
    assert not set(site.control.connections().values()) & set(connections.values())


def test_a_roll_stops_at_the_first_mesh_that_does_not_come_back(site: Site) -> None:
    meshes = site.run_fleet(3)
    pids = site.pids(meshes)
    site.set_options(max_connection_attempts=1, connection_failure_window=0)
    site.sh("systemctl restart rave-orchestrator")
    eventually(lambda: site.manager("Outdated") == 3, "all run with the old settings")
    for mesh in meshes:
        site.control.refuse(mesh, status=403)
    done = site.sh("ravectl roll || echo status $?", check=False)
    assert "status 1" in done
    assert "is not connected again" in done
    now = site.pids(meshes)
    assert sum(now[mesh] == pids[mesh] for mesh in meshes) == 2, "the others were not touched"


def test_a_reload_takes_over_what_needs_no_restart_and_says_what_does(site: Site) -> None:
    meshes = site.run_fleet(2)
    parent, pids = site.sh("systemctl show --value -p MainPID rave-orchestrator"), site.pids(meshes)
    site.set_options(command_prefix="'%'", limit=7, watchdog="31s")
    changed = "/etc/rave/rave.yaml has changed (command_prefix, watchdog, limit): systemctl restart rave-orchestrator"
    note = f"{changed} applies it, a reload command_prefix, limit alone"
    eventually(lambda: note in site.sh("ravectl status"), "the status names an edit by itself")
    said = site.sh("ravectl roll 2>&1")
    assert said == f"{note}\nNothing is outdated.\n"

    site.sh("systemctl reload rave-orchestrator")
    # It is done when the command returns.
    assert site.manager("ReloadedOptions") == ["command_prefix", "limit"]
    assert site.manager("Outdated") == 2
    assert site.pids(meshes) == pids, "no process was touched"
    assert site.sh("systemctl show --value -p MainPID rave-orchestrator") == parent
    journal = site.machine.journal("-u", "rave-orchestrator")
    assert "Applied from /etc/rave/rave.yaml: command_prefix, limit" in journal
    waiting = "/etc/rave/rave.yaml has changed (watchdog): systemctl restart rave-orchestrator applies it"
    assert waiting in journal
    shown = site.sh("ravectl status")
    assert waiting in shown
    assert "applied by the last reload: command_prefix, limit" in shown
    assert "outdated processes: 2 (ravectl roll)" in shown

    # The next process has the new values: one that is started anew, and those that a roll replaces.
    site.sh(f"systemctl restart rave-mesh@{meshes[0]}")
    site.control.wait(connected=meshes)
    eventually(lambda: site.manager("Outdated") == 1, "the new process is up to date")
    said = site.sh("ravectl roll 2>&1")
    assert waiting in said
    assert "1 outdated process replaced; all are up to date." in said
    assert site.manager("Outdated") == 0
    for mesh in meshes:
        site.control.wait(connected=[mesh])
        (answer,) = site.control.chat(mesh, "%ping", user="ann", wait=5)
        assert answer.startswith("Pong")
    assert "WatchdogSec=30000ms" in site.sh("systemctl cat rave-mesh@.service"), "the rest waits"
    site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")
    assert site.manager("ConfigNote") == ""
    assert "WatchdogSec=31000ms" in site.sh("systemctl cat rave-mesh@.service")


def test_a_reload_with_a_mistake_fails_in_words_and_changes_nothing(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    pids = site.pids([mesh])
    site.set_options(command_prefix="'%'", lang=5)
    said = site.sh("systemctl reload rave-orchestrator || echo status $?", check=False)
    assert "status 1" in said
    mistake = "lang must be the code of a language, such as en, de or pt-BR"
    assert mistake in site.machine.journal("-u", "rave-orchestrator")
    eventually(lambda: mistake in site.sh("ravectl status"), "so does the status")
    assert site.sh("systemctl is-active rave-orchestrator") == "active\n"
    assert site.manager("ReloadedOptions") == []
    assert site.manager("Outdated") == 0
    site.sh(f"systemctl restart rave-mesh@{mesh}")
    site.wait_state([mesh], "connected")
    assert site.pids([mesh]) != pids
    assert site.manager("Outdated") == 0, "new processes have the values from before"


@pytest.mark.parametrize("what", ["stats", "mesh"])
def test_health_over_the_bus(site: Site, what: str) -> None:
    stopped, lost, fine = site.run_fleet(3)
    site.sh(f"ravectl stop {stopped}")
    site.wait_state([stopped], "held")
    site.control.refuse(lost, status=503, times=1)
    site.control.fail("mesh", "timeout")
    site.control.drop(lost)
    site.wait_state([lost], "disconnected")
    if what == "stats":
        total, healthy, unhealthy, connected, disconnected, out = json.loads(site.call("GetHealthStats"))["data"]
        assert (total, healthy, unhealthy, connected, disconnected, out) == (3, 2, 0, 1, 1, 1)
    else:
        for mesh, state in ((lost, "disconnected"), (fine, "connected")):
            found, silence, healthy = json.loads(site.call("GetHealth", "s", mesh))["data"]
            assert (found, healthy) == (state, True), "alive but not connected is not unhealthy"
            assert silence < 60_000_000
    site.control.fail("mesh", "ok")
