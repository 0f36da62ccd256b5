"""A bot with more connections to the bus than its own: they take nothing over, and cost the service little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_admins import says
from tests.integration.test_blocklist import entries
from tests.integration.test_plugins import DIRECTORY, drop, refresh

# As many connections as the bot gets, and then one after another that it closes at once. On each it claims names,
# calls the service, and speaks as itself and as the other bot; it answers nothing there.
_CROWD = """
import contextlib
from types import SimpleNamespace

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.commands import command
from ravesvc.errors import RaveError
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.config.worker_settings import Edition

PARENT = names.BUS_NAME, names.BACKEND_PATH, names.BACKEND_INTERFACE
kept = []

async def act(bus, meshes):
    for mesh in meshes:
        liar = WorkerObject(None, SimpleNamespace(edition=Edition("", "")))
        bus.export(names.worker_path(mesh), liar)
        for member, *values in [("Ready",), ("Disconnected", "forged"), ("Left", "forged"), ("Kicked",)]:
            liar.emit(member, *values)
        bus.unexport(names.worker_path(mesh))
        with contextlib.suppress(RaveError):
            await bus.queue_for_name(names.worker_name(mesh))
    for member in ("GetCredentials", "GetPermissions"):
        with contextlib.suppress(RaveError):
            await bus.call(*PARENT, member)

@command("crowd", "Opens connections.", seconds=120)
async def crowd(context):
    meshes = context.args
    with contextlib.suppress(RaveError, OSError):
        while len(kept) < 100:
            kept.append(await Bus.connect())
    # The bot itself needs some.
    for bus in (kept.pop() for _ in range(5)):
        await bus.close()
    for bus in kept:
        await act(bus, meshes)
    for _ in range(300):
        bus = await Bus.connect()
        await act(bus, meshes)
        await bus.close()
    await context.reply(f"{len(kept)} and 300")
"""


@pytest.fixture
def meshes(site: Site) -> Iterator[list[str]]:
    """Two meshes; afterwards there are no plugins."""
    yield site.run_fleet(2)
    site.sh(f"rm -rf {DIRECTORY}/*.py")


def memory(site: Site) -> int:
    """The memory of the parent in KiB."""
    return int(site.sh("grep VmRSS /proc/$(systemctl show --value -p MainPID rave-orchestrator)/status").split()[1])


def test_a_crowd_of_connections_takes_nothing_over(site: Site, meshes: list[str], figure: Figure) -> None:
    first, other = meshes
    drop(site, "crowd.py", _CROWD)
    refresh(site)
    pids, before = site.pids(meshes), memory(site)
    said = says(site, first, "ann", f"?crowd {first} {other}", wait=100)
    kept, _, once = said.partition(" and ")
    assert (int(kept) > 30, once) == (True, "300"), said
    grown = memory(site) - before
    log = site.machine.journal("-u", "rave-orchestrator", f"RAVE_MESH={first}")
    figure(f"after {said} connections of a bot the service has {grown} KiB more, and {len(log.splitlines())} entries")
    assert "A second connection" in log
    assert len(log.splitlines()) < 150
    assert grown < 4096
    # Calls of the bots, which those connections would not answer.
    for mesh in meshes:
        site.sh(f"ravectl debug {mesh} on")
        assert (site.mesh(mesh, "Debug"), site.mesh(mesh, "State")) == (True, "connected")
    assert site.pids(meshes) == pids
    assert entries(site) == {}, "nobody was kicked"
    # It waits for the other's name as well, and has it now; the other does without.
    site.sh(f"ravectl restart {other}")
    site.wait_state([other], "connected")
    bus = "org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus"
    owner = site.sh(f"busctl call {bus} GetConnectionUnixProcessID s {names.worker_name(other)}")
    assert owner.split() == ["u", pids[first]]
    site.sh("systemctl restart rave-orchestrator")
    site.wait_state(meshes, "connected")

    def answers() -> bool:
        return "yes" in site.sh(f"ravectl debug {other} on && echo yes", check=False)

    eventually(answers, "it is the bot that is called")
    assert site.pids([first])[first] == pids[first]


# The service, which waits for an answer of a bot for half a second instead of ten.
_HASTY = """
import sys
from ravesvc.orchestrator import worker_client
from ravesvc.orchestrator.app import main
worker_client._CALL_TIMEOUT_S = 0.5
sys.exit(main())
"""
_OVERRIDE = "/run/systemd/system/rave-orchestrator.service.d/hasty.conf"

_HUSH = """
import asyncio, dataclasses, gc
from ravesvc.commands import command
from ravesvc.mesh.worker_object import WorkerObject

signalling = []

async def hang(self, call):
    await asyncio.Event().wait()

async def signal(own):
    while True:
        own.emit("Ready")
        await asyncio.sleep(0.1)

@command("hush", "Answers nothing from now on, and signals all the time.")
async def hush(context):
    methods = WorkerObject.methods
    methods["GetStatus"] = dataclasses.replace(methods["GetStatus"], function=hang)
    (own,) = (each for each in gc.get_objects() if isinstance(each, WorkerObject))
    signalling.append(asyncio.create_task(signal(own)))
    await context.reply("hushed")
"""


@pytest.fixture
def hasty(site: Site) -> Iterator[Site]:
    """The parent gives up a call to a bot soon."""
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", "/opt/hasty.py"], input=_HASTY)
    override = "[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /opt/hasty.py\n"
    site.machine.run(["install", "-D", "-m", "644", "/dev/stdin", _OVERRIDE], input=override)
    site.sh("systemctl daemon-reload")
    yield site
    site.sh(f"systemctl stop rave-orchestrator.service rave-meshes.target; rm {_OVERRIDE}; systemctl daemon-reload")


def test_a_bot_that_signals_and_answers_nothing_is_restarted(hasty: Site, meshes: list[str]) -> None:
    """Else the bus, which counts calls without an answer, would refuse those to all other bots."""
    first, other = meshes
    drop(hasty, "hush.py", _HUSH)
    refresh(hasty)
    pids = hasty.pids(meshes)
    assert says(hasty, first, "ann", "?hush") == "hushed"
    eventually(lambda: hasty.pids(meshes)[first] not in ("0", pids[first]), "it is another process", timeout=60)
    log = hasty.machine.journal("-u", "rave-orchestrator", f"RAVE_MESH={first}", "RAVE_EVENT=unhealthy")
    assert "has left 16 calls unanswered" in log
    hasty.wait_state(meshes, "connected")
    assert hasty.pids([other])[other] == pids[other]
