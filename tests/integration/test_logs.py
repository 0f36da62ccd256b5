"""What the journal has of the meshes, for those who search it."""

from __future__ import annotations

import json
from typing import Any

from ravesvc import names
from ravesvc.journal import MESSAGE_IDS, Event
from tests.integration.conftest import Site, eventually


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
    # The parent says so, and the child.
    connected = entries(site, f"RAVE_MESH={kicked} MESSAGE_ID={MESSAGE_IDS[Event.CONNECTED]}")
    assert {entry["_SYSTEMD_UNIT"] for entry in connected} == {
        "rave-orchestrator.service",
        f"rave-mesh@{kicked}.service",
    }
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
