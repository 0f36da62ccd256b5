"""A blocklist of years: thousands of entries hold up neither a start nor who looks at the meshes."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import blocklist, edit, entries

pytestmark = [pytest.mark.faults, pytest.mark.alone]

MESHES = 20_000
# Seconds, for what is done; a busy machine takes longer, so that the best of several counts.
LIMIT, TIMES = 1.0, 3


def _seconds(site: Site, command: str) -> float:
    """How long a command takes, at best."""
    taken = []
    for _ in range(TIMES):
        begun = time.monotonic()
        site.sh(command)
        taken.append(time.monotonic() - begun)
    return min(taken)


def test_twenty_thousand_blocked_meshes_hold_nothing_up(site: Site, figure: Figure) -> None:
    (mesh,) = site.run_fleet(1)
    restart = "systemctl restart rave-orchestrator"
    empty = _seconds(site, restart)
    site.sh("systemctl stop rave-orchestrator.service rave-meshes.target")
    now = int(time.time() * 1000)
    blocked = [str(uuid.UUID(int=number + (4 << 76) + (2 << 62))) for number in range(MESHES)]
    reasons = ("kicked", "connection_failures")
    edit(
        site,
        {
            "blockedMeshes": {
                each: {
                    "meshId": each,
                    "reason": reasons[number % 2],
                    "blockedAt": now - (MESHES - number) * 1000,
                    "blockedUntil": None if number % 2 == 0 else now + 86_400_000,
                }
                for number, each in enumerate(blocked)
            }
        },
    )
    begun = time.monotonic()
    site.sh("systemctl start rave-orchestrator")
    first = time.monotonic() - begun
    eventually(lambda: len(blocklist(site).get("meshes", {})) == MESHES, "it is saved as ours", 30)
    full = _seconds(site, restart)
    status = _seconds(site, "ravectl status")
    figure(f"restart: {empty:.2f} s with an empty blocklist, {full:.2f} s with {MESHES} (the first {first:.2f} s)")
    figure(f"ravectl status: {status:.2f} s with {MESHES} blocked meshes (limit {LIMIT:g} s)")
    assert full - empty < LIMIT
    assert status < LIMIT
    # Nothing is lost.
    site.wait_state([mesh], "connected")
    assert len(entries(site)) == MESHES
    oldest, latest = blocked[0], blocked[-1]
    shown = site.sh("ravectl status")
    assert f"{MESHES} blocked" in shown
    assert "more that are blocked: ravectl blocklist list" in shown
    assert latest in site.sh("ravectl list")
    for each in (oldest, latest):
        for command in (f"ravectl explain {each}", f"ravectl show {each}"):
            assert "blocked" in site.sh(command), command
    site.sh(f"ravectl blocklist remove {oldest}")
    assert len(entries(site)) == MESHES - 1
    assert "no mesh" in site.sh(f"ravectl explain {oldest}", check=False)
