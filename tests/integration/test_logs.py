"""What the journal has of the meshes, for those who search it."""

from __future__ import annotations

import json
from typing import Any

from ravesvc import names
from ravesvc.journal import MESSAGE_IDS, Event
from tests.integration.conftest import Figure, Site, eventually

# Taken over: forges entries, writes 240 MB of lines at every priority, and has the parent refuse 500 requests.
_FLOOD = r"""
import asyncio, contextlib, socket, sys
from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.notify import notify
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


def entries(site: Site, matches: str) -> list[dict[str, Any]]:
    found = site.sh(f"journalctl --quiet --output=json {matches}").splitlines()
    return [json.loads(line) for line in found]


def test_one_mesh_logs_more_until_its_next_start(site: Site) -> None:
    mesh, other = site.run_fleet(2)
    site.sh(f"ravectl debug {mesh} on")
    assert (site.mesh(mesh, "Debug"), site.mesh(other, "Debug")) == (True, False)
    assert "Debug:           yes" in site.sh(f"ravectl show {mesh}")
    # A call of Rave's API at the least.
    site.sh(f"ravectl reconnect {mesh}; ravectl reconnect {other}")

    def debugs(each: str) -> bool:
        return any(entry["PRIORITY"] == "7" for entry in entries(site, f"_SYSTEMD_UNIT={names.mesh_unit(each)}"))

    eventually(lambda: debugs(mesh), "it says more")
    site.sh(f"ravectl debug {mesh} off")
    assert site.mesh(mesh, "Debug") is False
    site.sh(f"ravectl debug {mesh} on; systemctl restart rave-orchestrator")
    eventually(lambda: site.mesh(mesh, "Debug") is True, "the next parent knows")
    site.sh(f"ravectl restart {mesh}")
    eventually(lambda: site.mesh(mesh, "Debug") is False, "another process logs as usual")
    assert not debugs(other)


def test_the_journal_finds_meshes_and_events(site: Site) -> None:
    kicked, other = site.run_fleet(2)
    site.control.kick(kicked)
    site.wait_state([kicked], "blocked")
    (blocked,) = entries(site, f"RAVE_MESH={kicked} RAVE_EVENT=blocked")
    assert blocked["MESSAGE"] == f"Mesh {kicked} is blocked by service: the bot was kicked"
    assert blocked["PRIORITY"] == "4"
    assert blocked["_SYSTEMD_UNIT"] == "rave-orchestrator.service"
    assert blocked["SYSLOG_IDENTIFIER"] == "rave-orchestrator"
    # The parent says so, and no bot can.
    connected = entries(site, f"RAVE_MESH={kicked} MESSAGE_ID={MESSAGE_IDS[Event.CONNECTED]}")
    assert {entry["_SYSTEMD_UNIT"] for entry in connected} == {"rave-orchestrator.service"}
    explained = site.sh(f"journalctl --quiet --catalog RAVE_MESH={kicked} RAVE_EVENT=blocked")
    assert f"Subject: Mesh {kicked} is blocked" in explained
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
    site.sh("systemctl stop rave-orchestrator")
    assert len(site.sh(f"ravectl logs -n 3 {other}").splitlines()) == 3


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
