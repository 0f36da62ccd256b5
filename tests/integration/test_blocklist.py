"""The blocklist on a booted system: what fills it, who edits it, and what no fault makes it forget."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually

FILE = "/var/lib/rave/blocklist.json"
# Seconds from an edit by hand to its effect.
PICKED_UP = 2.0


def blocklist(site: Site) -> dict[str, Any]:
    empty = '{"blockedMeshes": {}}'
    return dict(json.loads(site.sh(f"cat {FILE} 2>/dev/null || echo '{empty}'")))


def entries(site: Site) -> dict[str, list[Any]]:
    """The entries by mesh: reason, since, until, detail, actor, count."""
    return {row[0]: row[1:] for row in json.loads(site.call_blocklist("ListEntries"))["data"][0]}


def edit(site: Site, document: dict[str, Any]) -> None:
    """Save the file as an editor does: another file takes its place."""
    new = f"{FILE}.new"
    site.machine.run(
        ["install", "-o", "rave", "-g", "rave", "-m", "600", "/dev/stdin", new], input=json.dumps(document)
    )
    site.sh(f"mv {new} {FILE}")


@pytest.mark.parametrize("notice", ["notification", "state"])
def test_a_kick_is_one_however_it_is_told(site: Site, notice: str) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked, notice=notice, close="not")
    site.wait_state([kicked], "blocked")
    assert blocklist(site)["blockedMeshes"][kicked]["reason"] == "kicked"
    eventually(lambda: site.control.mesh(kicked)["invited"] == [], "the invitation is deleted, and the mesh left")
    assert site.answers(other)


def test_three_refused_connections_with_a_restart_of_everybody_in_between(site: Site) -> None:
    """Attempts outlive the processes on both sides, and the mesh is tried again when its time is over."""
    site.set_options(blocklist_duration="20s", connection_failure_window=0)
    (other,) = site.run_fleet(1)
    (closed,) = site.control.create()
    site.control.refuse(closed, status=503)
    site.control.invite(closed)
    seen = 0
    while closed not in blocklist(site)["blockedMeshes"]:
        eventually(lambda: failures(site, closed) > seen or closed in entries(site), "an attempt is counted", 40)  # noqa: B023
        site.sh(f"systemctl kill -s KILL {names.mesh_unit(closed)} || true; systemctl restart rave-orchestrator")
        seen = failures(site, closed)
    site.wait_state([closed], "blocked")
    tried = site.machine.journal("-u", names.mesh_unit(closed), "--output=json", "--grep=No connection")
    processes = [json.loads(line)["_PID"] for line in tried.splitlines()]
    assert len(processes) == 3, "three attempts in all"
    assert len(set(processes)) >= 2, "by more than one process"
    entry = blocklist(site)["blockedMeshes"][closed]
    assert (entry["reason"], entry["count"]) == ("connection_failures", 1)
    assert entry["blockedUntil"] - entry["blockedAt"] == 20_000
    assert "503" in entry["detail"]
    assert other in site.control.connections()
    # Released by itself, tried again, and counted.
    eventually(lambda: entry_count(site, closed) == 2, "again", 60)
    site.control.accept(closed)
    site.control.wait(connected=[closed], timeout=60)


def failures(site: Site, mesh: str) -> int:
    """How many attempts the parent has saved."""
    return int(blocklist(site).get("meshes", {}).get(mesh, {}).get("failures", 0))


def entry_count(site: Site, mesh: str) -> int:
    return int(blocklist(site)["blockedMeshes"].get(mesh, {}).get("count", 0))


def test_list_stats_block_and_unblock_over_the_bus(site: Site) -> None:
    noisy, other = site.run_fleet(2)
    with site.listening(names.BLOCKLIST_INTERFACE) as heard:
        site.sh(f"ravectl blocklist add {noisy[:13]} --for 1h --why 'a noisy one'")
        site.control.wait(disconnected=[noisy])
        reason, since, until, detail, actor, count = entries(site)[noisy]
        assert (reason, until - since, detail, actor, count) == ("operator", 3_600_000_000, "a noisy one", "root", 1)
        assert json.loads(site.call_blocklist("GetStats"))["data"] == [1, 0, 1]
        assert site.sh("ravectl blocklist stats") == "Blocked: 1 (0 permanent, 1 temporary)\n"
        assert "a noisy one" in site.sh("ravectl blocklist list")
        assert "blocked by an operator" in site.sh(f"ravectl explain {noisy}")
        site.sh(f"ravectl blocklist remove {noisy}")
        site.control.wait(connected=[noisy])
        eventually(lambda: len(heard()) == 2, "each change was announced")
    assert heard() == [
        ["Blocked", [noisy, "operator", until, "a noisy one", "root"]],
        ["Unblocked", [noisy, "operator", "root"]],
    ]
    history = site.sh(f"ravectl blocklist history {noisy}")
    assert history.index("blocked") < history.index("unblocked")
    assert other in site.control.connections()


def test_who_may_look_may_not_touch(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    user = site.watcher()
    site.call_blocklist("ListEntries", user=user)
    for member, *arguments in (("Block", "sts", mesh, "0", ""), ("Unblock", "s", mesh), ("Restore",)):
        refused = site.machine.run(site.blocklist_call(member, *arguments), user=user, check=False)
        assert refused.returncode != 0
        assert "enied" in refused.stderr or "uthentication" in refused.stderr, refused.stderr
    assert entries(site) == {}


def test_an_edit_is_picked_up_and_a_stale_one_forgets_no_kick(site: Site, figure: Figure) -> None:
    kicked, unwanted, other = site.run_fleet(3)
    # By hand, from nothing.
    entry = {"meshId": unwanted, "reason": "connection_failures", "blockedAt": 1, "blockedUntil": None}
    begun = time.monotonic()
    edit(site, {"blockedMeshes": {unwanted: entry}})
    eventually(lambda: unwanted in entries(site), "the edit holds")
    elapsed = time.monotonic() - begun
    figure(f"an edit of blocklist.json held after {elapsed:.1f} s (limit {PICKED_UP:g} s)")
    assert elapsed < PICKED_UP
    site.control.wait(disconnected=[unwanted])
    eventually(lambda: "revision" in blocklist(site), "it is written as ours")
    # An operator opens it in an editor; then the bot is kicked; then they save, having taken the other entry out.
    opened = blocklist(site)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    del opened["blockedMeshes"][unwanted]
    edit(site, opened)
    eventually(lambda: unwanted not in entries(site), "what they meant to do is done")
    assert entries(site)[kicked][0] == "kicked"
    eventually(lambda: kicked in blocklist(site)["blockedMeshes"], "and it is in the file again")
    assert "is newer than the text that was edited" in site.machine.journal("-u", "rave-orchestrator")
    site.control.wait(connected=[unwanted])
    assert kicked not in site.control.connections()
    # Who has seen the kick may take it out.
    opened = blocklist(site)
    del opened["blockedMeshes"][kicked]
    edit(site, opened)
    eventually(lambda: kicked not in entries(site), "so they know what they do")
    assert other in site.control.connections()


def test_a_stale_save_while_nobody_runs_forgets_no_kick_either(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.sh(f"ravectl blocklist add {other}")
    opened = blocklist(site)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    opened["blockedMeshes"] = {}
    edit(site, opened)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[other])
    assert {mesh: entry[0] for mesh, entry in entries(site).items()} == {kicked: "kicked"}


def test_a_reload_reads_it_too(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    pid = site.sh("systemctl show --value -p MainPID rave-orchestrator")
    entry = {"meshId": mesh, "reason": "kicked", "blockedAt": 1, "blockedUntil": None}
    edit(site, {"blockedMeshes": {mesh: entry}})
    site.sh("systemctl reload rave-orchestrator")
    assert entries(site)[mesh][0] == "kicked", "when the reload is done"
    assert site.sh("systemctl show --value -p MainPID rave-orchestrator") == pid


def test_a_broken_edit_changes_nothing_and_is_kept(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    site.sh(f'sed -i \'s/"reason"/"reason/\' {FILE}')
    eventually(lambda: '"reason"' in site.sh(f"cat {FILE} 2>/dev/null || true"), "what it said is written again")
    assert '"reason:' in site.sh(f"cat {FILE}.damaged-*").replace(" ", "") or site.sh(f"ls {FILE}.damaged-*")
    said = site.machine.journal("-u", "rave-orchestrator")
    assert "An edit of the blocklist is not taken over" in said
    assert "line " in said
    assert entries(site)[kicked][0] == "kicked"
    assert other in site.control.connections()


@pytest.fixture
def _damaged(site: Site) -> Iterator[None]:
    yield
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target; rm -f /var/lib/rave/blocklist.json*")


@pytest.mark.usefixtures("_damaged")
@pytest.mark.parametrize("how", ["nonsense", "empty", "unreadable"])
def test_an_unusable_file_joins_nothing_until_told(site: Site, how: str) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    site.control.invite(kicked)
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    if how == "unreadable":
        site.sh(f"chown root:root {FILE}; chmod 600 {FILE}")
    else:
        site.machine.run(["tee", FILE], input="no list\n" if how == "nonsense" else "")
    for _ in range(2):  # a restart forgets nothing of that
        site.sh("systemctl restart rave-orchestrator")
        status = site.sh("systemctl show --value -p StatusText rave-orchestrator")
        assert f"No mesh is started: {FILE}" in status
        assert "ravectl blocklist restore" in status
        kept = site.sh(f"ls {FILE}.damaged-*").split()
        assert len(kept) == 1
    assert site.bots() == []
    assert FILE in site.sh("ravectl discover", check=False)
    site.sh("ravectl blocklist restore")
    site.control.wait(connected=[other])
    assert entries(site)[kicked][0] == "kicked", "what was saved last is known"
    assert kicked not in site.control.connections()
    assert site.sh(f"ls {FILE}.damaged-*").split() == kept, "the bad file stays"


@pytest.mark.usefixtures("_damaged")
def test_a_file_that_is_mended_and_put_back_is_used(site: Site) -> None:
    (mesh,) = site.run_fleet(1)
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    site.machine.run(["tee", FILE], input="{")
    site.sh("systemctl start rave-orchestrator")
    assert site.bots() == []
    edit(site, {"blockedMeshes": {}})
    site.control.wait(connected=[mesh])


def test_a_file_of_the_reference_implementation(site: Site) -> None:
    meshes = site.control.create(3)
    kicked, expired, free = meshes
    now = int(time.time() * 1000)
    times = {kicked: ("kicked", now - 1000, None), expired: ("connection_failures", now - 9999, now - 1)}
    document = {
        mesh: {"meshId": mesh, "reason": reason, "blockedAt": since, "blockedUntil": until}
        for mesh, (reason, since, until) in times.items()
    }
    edit(site, {"blockedMeshes": document})
    site.control.invite(meshes)
    site.sh("systemctl start rave-orchestrator")
    site.control.wait(connected=[expired, free])
    assert {mesh: entry[0] for mesh, entry in entries(site).items()} == {kicked: "kicked"}
