"""What the journal has of the meshes, for those who search it."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from ravesvc import names
from ravesvc.common.log_fields import MESSAGE_IDS, LogEvent
from tests.integration.conftest import Figure, Site, eventually

# Taken over: forges entries, writes 240 MB of lines at every priority, and has the parent refuse 500 requests.
_FLOOD = r"""
import asyncio, contextlib, socket, sys
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.systemd.notify import notify
notify("READY=1")
for path in ("/run/systemd/journal/socket", "/run/systemd/journal/dev-log", "/dev/log"):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(b"MESSAGE=forged\nRAVE_EVENT=blocked\n", path)
for number in range(5000):
    sys.stderr.write(f"<{number % 8}>{'x' * 48000}\n")
async def main():
    parent = names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE
    bus = await Bus.connect()
    for user in range(500):
        with contextlib.suppress(RaveError):
            await bus.call(*parent, "AddAdmin", "tt", user + 1, 7)
    notify("STATUS=said it all")
    await asyncio.Event().wait()
asyncio.run(main())
"""


# Six intervals of the limit, which are an hour in ten minutes each, and lines of a tenth of the longest.
_HOUR = r"""
import sys, time
from ravesvc.systemd.notify import notify
notify("READY=1")
end = time.monotonic() + 12
while time.monotonic() < end:
    for priority in range(8):
        sys.stderr.write(f"<{priority}>{'x' * 4800}\n" * 20)
    sys.stderr.flush()
    time.sleep(0.02)
notify("STATUS=said it all")
time.sleep(3600)
"""
_SCALED = "/run/systemd/system/rave-mesh@.service.d/99-scaled.conf"


def entries(site: Site, matches: str) -> list[dict[str, Any]]:
    found = site.sh(f"journalctl --quiet --output=json {matches}").splitlines()
    return [json.loads(line) for line in found]


def test_one_mesh_logs_more_until_its_next_start(site: Site) -> None:
    mesh, other = site.run_fleet(2)
    site.sh(f"ravectl debug {mesh} on")
    assert (site.mesh(mesh, "Debug"), site.mesh(other, "Debug")) == (True, False)
    assert "Debug logging:      yes" in site.sh(f"ravectl show {mesh}")
    # A call of Rave's API at the least.
    site.sh(f"ravectl reconnect {mesh}; ravectl reconnect {other}")

    def debug_enabled(each: str) -> bool:
        return any(entry["PRIORITY"] == "7" for entry in entries(site, f"_SYSTEMD_UNIT={names.mesh_unit(each)}"))

    eventually(lambda: debug_enabled(mesh), "it says more")
    site.sh(f"ravectl debug {mesh} off")
    assert site.mesh(mesh, "Debug") is False
    site.sh(f"ravectl debug {mesh} on; systemctl restart rave-orchestrator")
    eventually(lambda: site.mesh(mesh, "Debug") is True, "the next parent knows")
    site.sh(f"ravectl restart {mesh}")
    eventually(lambda: site.mesh(mesh, "Debug") is False, "another process logs as usual")
    assert not debug_enabled(other)


def test_the_journal_finds_meshes_and_events(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    (blocked,) = entries(site, f"RAVE_MESH={kicked} RAVE_EVENT=blocked")
    title = site.mesh(kicked, "Title")
    assert blocked["MESSAGE"] == f"Mesh {kicked} is blocked by service: the bot was kicked [{title}]"
    assert blocked["RAVE_TITLE"] == title
    assert blocked["PRIORITY"] == "4"
    assert blocked["_SYSTEMD_UNIT"] == "rave-orchestrator.service"
    assert blocked["SYSLOG_IDENTIFIER"] == "rave-orchestrator"
    # The parent says so, and no bot can.
    connected = entries(site, f"RAVE_MESH={kicked} MESSAGE_ID={MESSAGE_IDS[LogEvent.CONNECTED]}")
    assert {entry["_SYSTEMD_UNIT"] for entry in connected} == {"rave-orchestrator.service"}
    explained = site.sh(f"journalctl --quiet --catalog RAVE_MESH={kicked} RAVE_EVENT=blocked")
    assert f"Subject: The bot was kicked from mesh {kicked}" in explained
    assert "ravectl blocklist remove" in explained

    def told() -> bool:
        # systemd may write of the end a little later.
        said = site.sh(f"ravectl logs {kicked[:20]}")
        wanted = (
            "Connected to",
            "Starting rave-mesh@",
            "Failed with result",
            "is blocked by service",
            "Ended: kicked",
        )
        return all(text in said for text in wanted) and other not in said

    eventually(told, "ravectl logs has all of it")
    shown, others = site.sh("ravectl logs -n 200"), site.mesh(other, "Title")
    for source in "bot", "service":
        assert f" [{other[:8]} {others}] {source}: " in shown
    assert f" [{kicked[:8]} {title}] bot: " in shown
    assert " UTC service: " in shown, "what is about no mesh"
    site.sh("systemctl stop rave-orchestrator")
    assert len(site.sh(f"ravectl logs -n 3 {other}").splitlines()) == 3
    assert f" [{other[:8]} {others}] service: " in site.sh("ravectl logs -n 200")


# Taken over: what it says of itself would clear the screen of an operator who looks, and is nothing that a bot says.
_FORGED = """
import time
import os, socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect(os.environ["NOTIFY_SOCKET"])
    manager.send(b"READY=1\\nSTATUS=" + {})
time.sleep(3600)
"""


@pytest.mark.parametrize("status", [b"\033[2J\033]0;root\007", b"x" * 2000], ids=["controls", "long"])
def test_a_bot_with_a_status_that_none_of_ours_sends_is_killed(site: Site, figure: Figure, status: bytes) -> None:
    site.set_options(process_restart_delay="100ms")
    forging, other = site.run_fleet(2)
    pid = site.unit(other, "MainPID")
    site.break_program(forging, _FORGED.format(status))
    begun = time.monotonic()
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(forging)}")
    # It ends as one that crashes, again and again.
    site.wait_state([forging], "blocked", 60)
    figure(f"a bot that forges its status was killed until it was blocked, {time.monotonic() - begun:.1f} s in all")
    eventually(lambda: site.unit(forging, "StatusText") == "", "systemd has forgotten what it said")
    events = entries(site, f"-u rave-orchestrator RAVE_EVENT=taken-over RAVE_MESH={forging}")
    assert 1 <= len(events) <= 10
    assert site.unit(other, "MainPID") == pid
    site.break_program(forging, "")


# Taken over: it tells systemd something all the time, of which the service hears. (As quickly as it can would have
# systemd itself answer no call any more, not even the one that would kill it.)
_NOISY = """
import os, socket, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect(os.environ["NOTIFY_SOCKET"])
    manager.send(b"READY=1")
    for number in range(10**9):
        manager.send(b"STATUS=%d " % number + b"x" * 580)
        time.sleep(0.005)
"""


def test_a_bot_that_tells_systemd_something_all_the_time_is_killed(site: Site, figure: Figure) -> None:
    site.set_options(process_restart_delay="100ms")
    noisy, other = site.run_fleet(2)
    pid = site.unit(other, "MainPID")
    site.break_program(noisy, _NOISY)
    begun = time.monotonic()
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(noisy)}")
    waits = []
    while site.unit(noisy, "ActiveState") != "failed" and site.mesh(noisy, "State") != "blocked":
        asked = time.monotonic()
        site.sh("ravectl status >/dev/null")
        waits.append(time.monotonic() - asked)
        assert time.monotonic() - begun < 60, "it is blocked"
    site.wait_state([noisy], "blocked")
    figure(
        f"a bot that floods systemd was killed until it was blocked, {time.monotonic() - begun:.1f} s in all;"
        f" root waited {max(waits):.1f} s at most for ravectl status"
    )
    assert entries(site, f"-u rave-orchestrator RAVE_EVENT=taken-over RAVE_MESH={noisy}")
    assert site.unit(other, "MainPID") == pid
    site.break_program(noisy, "")


def test_a_bot_in_a_busy_room_is_not_taken_for_one_that_tells_systemd_too_much(site: Site, figure: Figure) -> None:
    busy, _ = meshes = site.run_fleet(2)
    pids, connections = site.pids(meshes), site.control.connections()
    begun = time.monotonic()
    for _ in range(200):
        site.control.join(busy, "bob", "carl")
        site.control.part(busy, "bob", "carl")
    figure(f"400 times in {time.monotonic() - begun:.1f} s users came to a room or left it")
    site.control.join(busy, "bob", "carl", "dora")
    eventually(lambda: "5 users" in site.unit(busy, "StatusText"), "the last status is sent")
    assert site.answers(busy)
    assert (site.pids(meshes), site.control.connections()) == (pids, connections)
    assert not entries(site, f"-u rave-orchestrator RAVE_EVENT=taken-over RAVE_MESH={busy}")


def test_a_bot_drowns_nobody_in_the_journal(site: Site, figure: Figure) -> None:
    flooding, _ = site.run_fleet(2)
    site.sh("for n in $(seq 100); do echo foreign $n; done | systemd-cat -t foreign; journalctl --sync")
    site.break_program(flooding, _FLOOD)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(flooding)}")
    eventually(lambda: site.unit(flooding, "StatusText") == "said it all", "it has said it all", 120)
    site.sh("journalctl --sync")
    unit = f"_SYSTEMD_UNIT={names.mesh_unit(flooding)}"
    taken = int(site.sh(f"journalctl --quiet --output=cat --all {unit} | wc -c"))
    words = int(site.sh(f"journalctl --quiet --output=cat -u rave-orchestrator | grep -c {flooding}"))
    figure(
        f"of 240 MB that a bot writes the journal takes {taken / 1e6:.1f} MB; the parent has {words} entries about it"
    )
    assert taken < 5 * 20 * 6 * 49152, "five kinds, and six times the limit where a disk is large"
    assert 50 < words < 150, "some, and not 500"
    assert site.sh("journalctl --quiet --output=cat -t foreign").count("foreign") == 100, "nothing of others is lost"
    forged = site.sh("journalctl --quiet --output=cat RAVE_EVENT=blocked _SYSTEMD_UNIT=rave-orchestrator.service")
    assert "forged" not in forged
    assert not entries(site, f"RAVE_EVENT=blocked {unit}")
    site.break_program(flooding, "")


def test_an_hour_in_which_a_bot_says_all_it_can_is_bounded(site: Site, figure: Figure) -> None:
    flooding, _ = site.run_fleet(2)
    site.sh("for n in $(seq 100); do echo foreign $n; done | systemd-cat -t hourly; journalctl --sync")
    site.machine.run(["tee", _SCALED], input="[Service]\nLogRateLimitIntervalSec=2s\n")
    site.break_program(flooding, _HOUR)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(flooding)}")
    eventually(lambda: site.unit(flooding, "StatusText") == "said it all", "it has said it all", 120)
    site.sh("journalctl --sync")
    unit = f"_SYSTEMD_UNIT={names.mesh_unit(flooding)}"
    lines = int(site.sh(f"journalctl --quiet --output=cat --all {unit} | grep -c xxx"))
    figure(f"an hour of a bot that writes all it can is {lines} lines in the journal, {lines * 49152 / 1e6:.0f} MB")
    # In seven intervals, the first and the last of which are parts; with the factor of the largest disk.
    assert 6 * 5 * 20 < lines <= 7 * 5 * 20 * 6
    assert site.sh("journalctl --quiet --output=cat -t hourly").count("foreign") == 100, "nothing of others is lost"
    site.sh(f"rm {_SCALED}")
    site.break_program(flooding, "")


# Taken over: it writes what controls terminals, and would show a forged line above its own.
_CONTROLLING = r"""
import sys, time
from ravesvc.systemd.notify import notify
notify("READY=1")
for each in ("title \x1b]0;root\x07", "red \x1b[31mtext", "clear \x1b[2J", "back \x08", "line \rforged", "C1 \x9b2J"):
    print("<4>" + each)
print("<4>harmless", flush=True)
time.sleep(3600)
"""
_ON_A_TERMINAL = ["python3", "-I", "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]
# What journalctl itself writes: colours, and links to our manual pages (Documentation= of our catalogue).
_OF_JOURNALCTL = re.compile(r"\x1b\[[0-9;:]*m|\x1b\]8;;[^\x1b\x07]*\x1b\\")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_logs_on_a_terminal_have_no_controls_of_a_bot(site: Site) -> None:
    """ravectl prints question marks. journalctl leaves colours and titles out, and of other lines tells the size."""
    (mesh,) = site.run_fleet(1)
    site.break_program(mesh, _CONTROLLING)
    site.sh(f"systemctl kill -s KILL {names.mesh_unit(mesh)}")
    eventually(lambda: "harmless" in site.sh(f"ravectl logs {mesh}"), "it has said it all")

    def shown(*words: str) -> str:
        setting = ["env", "TERM=xterm-256color", "SYSTEMD_PAGER="]
        return site.machine.run([*setting, *_ON_A_TERMINAL, *words]).stdout.replace("\r\n", "\n")

    logs = "journalctl", "--quiet", "-u", names.mesh_unit(mesh)
    for log, red, clear in (
        (shown("ravectl", "logs", mesh), "red ?[31mtext", "clear ?[2J"),
        (shown(*logs), "red text", "blob data]"),
    ):
        assert all(each in log for each in ("harmless", "title ", red, clear))
        assert "\x1b[31m" not in log
        assert [line for line in log.splitlines() if _CONTROL.search(_OF_JOURNALCTL.sub("", line))] == []
    # SECURITY.md says so.
    for option in "--all", "--output=cat":
        assert "\x1b]0;root\x07" in shown(*logs, option)
    site.break_program(mesh, "")
