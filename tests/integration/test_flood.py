"""A program that asks, or speaks, without an end keeps no other waiting, and no bot pays for it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from ravesvc import names
from tests.integration.conftest import CHECKOUT, Figure, Site
from tests.integration.test_logs import entries
from tests.integration.test_rights import NO_ROUND, STRANGER, inside_a_bot

pytestmark = pytest.mark.alone

FLEET = 36
# Longer than the time-outs of the service, for the flood that once had healthy bots restarted; the bus lets no other
# user send one to the service.
SECONDS = {("large", "watcher"): 25.0}
SECONDS_OF_OTHERS = 10.0
# How long root may wait for an answer, in seconds.
LONGEST = 0.5
# No mesh has this id. Its bot is killed here, and may get blocked.
KILLED = "44444444-2222-4333-8444-555555555555"
FLOOD = (CHECKOUT / "tests" / "integration" / "flood.py").read_text()

# Runs in the machine, as root: asks again and again, each time on a connection of its own, as ravectl does. Prints
# how long each answer took, and how long the bus itself took for one.
_ASKS = """
import asyncio, json, sys, time
from ravesvc import names
from ravesvc.bus import Bus

async def timed(*call):
    bus = await Bus.connect()
    begun = time.perf_counter()
    await bus.call(*call, timeout=120)
    taken = time.perf_counter() - begun
    await bus.close()
    return taken

async def main():
    ours, daemons = [], []
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:
        ours.append(await timed(names.BUS_NAME, names.MANAGER_PATH, names.MANAGER_INTERFACE, "ListMeshes"))
        daemons.append(await timed("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId"))
        await asyncio.sleep(0.05)
    print(json.dumps([sorted(ours), sorted(daemons)]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def site(wired: Site) -> Iterator[Site]:
    """As elsewhere, but for all floods one after another: to start the fleet takes longer than most of them."""
    wired.reset()
    wired.configure(NO_ROUND)
    wired.watcher()
    yield wired
    assert wired.control.violations() == []


@pytest.fixture(scope="module")
def meshes(site: Site) -> list[str]:
    """A fleet."""
    return site.run_fleet(FLEET)


@pytest.fixture
def pids(site: Site, meshes: list[str]) -> dict[str, str]:
    """The processes of the fleet when a test begins."""
    return site.pids(meshes)


def _root_waits(site: Site, figure: Figure, kind: str, user: str) -> tuple[float, float]:
    """The longest that root waits during a flood, in seconds: for the service and for the bus itself, noted."""
    seconds = SECONDS.get((kind, user), SECONDS_OF_OTHERS)
    command = ["python3", "-I", "-c", _ASKS, str(seconds)]
    ours, daemons = json.loads(site.machine.run(command, timeout=seconds + 240).stdout)
    waited = f"root waited {_times(ours)}, limit {LONGEST} s; for the bus itself {_times(daemons)}"
    figure(f"flood of {kind} by {user}, {seconds:g} s: {waited}")
    return ours[-1], daemons[-1]


def _times(taken: list[float]) -> str:
    return f"{taken[-1]:.2f} s at most, {taken[len(taken) // 2] * 1000:.0f} ms in the median of {len(taken)}"


@pytest.mark.parametrize(
    ("user", "kinds"),
    [("nobody", ["large", "small"]), ("watcher", ["large", "small", "objects"]), ("watcher", ["reconnects"])],
)
def test_a_user_who_floods_keeps_nobody_waiting(
    site: Site, meshes: list[str], pids: dict[str, str], figure: Figure, user: str, kinds: list[str]
) -> None:
    """20 connections: messages of 60 kB, small ones that want no answer, the dearest question there is.

    Or ever new ones, each with one message, small or large.
    """
    waits = {}
    for kind in kinds:
        with site.machine.spawn(["python3", "-I", "-c", FLOOD, kind], user=user) as flood:
            try:
                assert flood.stdout
                assert flood.stdout.readline() == "begun\n"
                waited, bus = _root_waits(site, figure, kind, user)
                assert flood.poll() is None
            finally:
                os.killpg(flood.pid, signal.SIGKILL)
        # A question passes the bus twice. Small messages and new connections keep the bus itself busy.
        waits[kind] = waited - 2 * bus if kind in ("small", "reconnects") else waited
    _nobody_was_restarted(site, meshes, pids)
    assert max(waits.values()) < LONGEST, waits


def test_a_bot_that_floods_keeps_nobody_waiting(
    site: Site, meshes: list[str], pids: dict[str, str], figure: Figure
) -> None:
    """A bot that was taken over sends its own signals without end."""
    with inside_a_bot(site, FLOOD, "signals", names.worker_path(STRANGER)):
        waited, _ = _root_waits(site, figure, "signals", "a bot")
        assert site.unit(STRANGER, "ActiveState") == "active"
    _nobody_was_restarted(site, meshes, pids)
    assert waited < LONGEST


def test_a_bot_that_sends_larger_messages_than_any_of_ours_is_killed(
    site: Site, meshes: list[str], pids: dict[str, str], figure: Figure
) -> None:
    """Of megabytes, and what is none of its signals: the bus keeps them for us, and refuses others meanwhile."""
    with inside_a_bot(site, FLOOD, "nonsense", names.worker_path(KILLED), mesh=KILLED):
        waited, _ = _root_waits(site, figure, "nonsense", "a bot")
        killed = entries(site, f"-u rave-orchestrator RAVE_EVENT=taken-over RAVE_MESH={KILLED}")
        ended = site.unit(KILLED, "NRestarts"), site.unit(KILLED, "ActiveState")
    figure(f"a bot that sent messages of 1 MB was killed {len(killed)} times in that time")
    assert killed
    assert "has sent a message of more than 64 kB" in killed[0]["MESSAGE"]
    assert ended != ("0", "active")
    _nobody_was_restarted(site, meshes, pids)
    assert waited < LONGEST


def _nobody_was_restarted(site: Site, meshes: list[str], pids: dict[str, str]) -> None:
    site.wait_state(meshes, "connected")
    assert site.pids(meshes) == pids
    assert site.manager("Unhealthy") == 0
