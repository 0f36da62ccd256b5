"""A blocklist of years: thousands of entries hold up neither a start nor who looks at the meshes."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_blocklist import blocklist, edit, entries

pytestmark = pytest.mark.alone

MESHES = 20_000
# Seconds, for what is done; a busy machine takes longer, so that the best of several counts.
LIMIT, TIMES = 1.0, 3
# Seconds of a processor that a start with so many may take more than one without. Who waits for the start waits as
# long on a machine that has nothing else to do; how long on one that is busy says nothing about the start.
MORE = 0.7


def _seconds(site: Site, command: str) -> float:
    """How long a command takes, at best."""
    taken = []
    for _ in range(TIMES):
        begun = time.monotonic()
        site.sh(command)
        taken.append(time.monotonic() - begun)
    return min(taken)


def _restart(site: Site) -> tuple[float, float]:
    """For how many seconds a restart is waited for, and how many of a processor the start takes, both at best."""
    waited, worked = [], []
    for _ in range(TIMES):
        begun = time.monotonic()
        site.sh("systemctl restart rave-orchestrator")
        waited.append(time.monotonic() - begun)
        worked.append(_worked(site))
    return min(waited), min(worked)


def _worked(site: Site) -> float:
    """For how many seconds of a processor the service has worked since its start."""
    return int(site.sh("systemctl show --value -p CPUUsageNSec rave-orchestrator")) / 1e9


def _total(site: Site) -> int:
    """How many entries have been told."""
    return int(json.loads(site.call_blocklist("GetStats"))["data"][0])


def test_twenty_thousand_blocked_meshes_hold_nothing_up(site: Site, figure: Figure) -> None:
    (mesh,) = site.run_fleet(1)
    empty = _restart(site)
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
    full = _restart(site)
    status = _seconds(site, "ravectl status")
    for number, what in enumerate(("restart", "processor time of the start")):
        figure(f"{what}: {empty[number]:.2f} s with an empty blocklist, {full[number]:.2f} s with {MESHES}")
    figure(f"the first start with {MESHES} that were typed: {first:.2f} s")
    figure(f"ravectl status: {status:.2f} s with {MESHES} blocked meshes (limit {LIMIT:g} s)")
    assert full[1] - empty[1] < MORE
    assert status < LIMIT
    # Nothing is lost.
    site.wait_state([mesh], "connected")
    assert len(entries(site)) == MESHES
    oldest, latest = blocked[0], blocked[-1]
    shown = site.sh("ravectl status")
    assert f"{MESHES} blocked" in shown
    assert "more on the blocklist: ravectl blocklist list" in shown
    assert latest in site.sh("ravectl list")
    for each in (oldest, latest):
        for command in (f"ravectl explain {each}", f"ravectl show {each}"):
            assert "blocked" in site.sh(command), command
    site.sh(f"ravectl blocklist remove {oldest}")
    assert len(entries(site)) == MESHES - 1
    assert "no mesh" in site.sh(f"ravectl explain {oldest}", check=False)
    # An editor takes all of them out of the file of the running service, and puts them in again.
    document = blocklist(site)
    for left in ({}, document["blockedMeshes"]):
        before = _worked(site)
        begun = time.monotonic()
        edit(site, blocklist(site) | {"blockedMeshes": left})
        eventually(lambda left=left: _total(site) == len(left), "the edit is taken over and told", 60)
        figure(
            f"an edit that leaves {len(left)} blocked meshes: {time.monotonic() - begun:.1f} s until all is told, "
            f"{_worked(site) - before:.1f} s of a processor"
        )
