"""The pictures of the README are what the program shows today.

`make pictures` (PICTURES=write) draws them anew; look at the diff before you commit it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import os
import re
import sys
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import drawing
import pytest
from drawing import ChatLine

from ravesvc import names
from ravesvc.bus import Bus
from ravesvc.config import rave_yaml
from ravesvc.ctl.commands import overview
from ravesvc.ctl.main import main as ravectl
from ravesvc.simulator import world
from ravesvc.simulator.account import YOUTUBE_KEY
from tests.unit.conftest import BusDaemon, until
from tests.unit.fake_service import Terminal
from tests.unit.parent_site import Site, call
from tests.unit.simulator_server import Served, in_thread
from tests.unit.single_site import SingleSite
from tests.unit.systemd_with_bots import SystemdWithBots, call_with_process_fd

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
ANN = 100_000_001
COLUMNS = 110
# What is another number in each run: since when a bot is connected, in seconds, and its memory, in bytes.
AGES_S = {"Film night": 97_000, "Slow Science": 26_000, "Cartoons": 1_500}
MEMORY = {"Film night": 24 << 20, "Slow Science": 25 << 20, "Cartoons": 23 << 20, "Late show": 22 << 20}
LAST_DISCOVERY_S = 12


def compare(name: str, picture: str) -> None:
    """Compare a picture with the one in the tree, or write that."""
    file = PICTURES / name
    if os.environ.get("PICTURES") == "write":
        file.write_text(picture)
    assert file.read_text() == picture, "`make pictures` draws it anew"


@pytest.fixture
def same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator makes the same meshes each time."""
    numbers = itertools.count(1)

    def uuid4() -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"https://example.test/{next(numbers)}")

    monkeypatch.setattr(world, "uuid", types.SimpleNamespace(uuid4=uuid4))


async def read_list(client: Bus) -> None:
    """Have the service read the list of meshes, which says how many users each has, and wait for the end."""
    finished: set[int] = set()
    rule = f"type='signal',interface='{names.MANAGER_INTERFACE}',member='DiscoveryFinished'"
    await client.match(rule, lambda signal: finished.add(signal.body[0]))
    (number,) = await call(client, "Discover")
    await until(lambda: number in finished)


def show_steady_figures(monkeypatch: pytest.MonkeyPatch, server: str, meshes: Mapping[str, str]) -> None:
    """Have ravectl get the same ages, memory and host name each time; `meshes` has ids by title."""
    real = overview._facts

    async def facts(service: Any) -> Any:
        seen = await real(service)
        now_us = seen.now * 1_000_000
        found = [
            mesh._replace(
                since=int(now_us - AGES_S.get(mesh.title, 0) * 1_000_000),
                reason=mesh.reason.replace(server, "localhost"),
            )
            for mesh in seen.meshes
        ]
        return dataclasses.replace(
            seen,
            status=seen.status | {"LastDiscoveryTimestamp": int(now_us - LAST_DISCOVERY_S * 1_000_000)},
            meshes=found,
            memory={meshes[title]: size for title, size in MEMORY.items()},
        )

    monkeypatch.setattr(overview, "_facts", facts)


@pytest.mark.usefixtures("as_root", "same_ids")
async def test_ravectl_status(
    site: Site, bus_daemon: BusDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = site.served.control
    meshes = {
        title: control.create(title=title)[0]
        for title in ("Film night", "Slow Science", "Cartoons", "Late show", "Karaoke", "Trailers")
    }
    control.invite(list(meshes.values()))
    control.join(meshes["Film night"], "bea", "cy")
    control.join(meshes["Slow Science"], *(f"guest{number}" for number in range(11)))
    control.refuse(meshes["Late show"], status=503)
    site.configure(max_connection_attempts="100", connection_failure_window="1h")
    loaded = rave_yaml.load(site.file)
    (tmp_path / "settings").write_text(loaded.mesh_settings().to_json())
    (tmp_path / "session").write_text(site.served.session.to_json())
    monkeypatch.setattr(Bus, "call", call_with_process_fd)
    terminal = Terminal()

    show_steady_figures(monkeypatch, site.served.server, meshes)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    running = site.running(bus_daemon.address, lambda bus: SystemdWithBots(bus, tmp_path))
    async with running as (systemd, client, _), contextlib.aclosing(systemd):
        await in_thread(control.wait, connected=[meshes[t] for t in meshes if t != "Late show"], timeout=30)
        await call(client, "StopMesh", "s", meshes["Trailers"])
        await in_thread(control.kick, meshes["Karaoke"])
        await site.manager.hears("1 disconnected, 3 connected, 1 held, 1 blocked")
        systemd.change(meshes["Cartoons"], NRestarts=1)
        await call(client, "AddAdmin", "t", ANN)
        await read_list(client)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", terminal)
            assert await in_thread(ravectl, ["status"]) == 0
    compare("status.svg", drawing.terminal(f"$ ravectl status\n{terminal.getvalue()}", COLUMNS))


# Who writes what, in a room whose admin is Ann.
CHAT = (
    ("ann", "?play https://youtu.be/sim-lantern"),
    ("bea", "?play https://youtu.be/sim-kittens"),
    ("cy", "?queue"),
    ("cy", "?setperm skip admin"),
    ("ann", "?setperm skip admin"),
)


async def plays(site: SingleSite) -> None:
    """Wait until a video plays: the bot hears of it before it hears of the next message."""
    while not (await in_thread(site.control.mesh, site.mesh))["plays"]:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("same_ids")
async def test_a_chat(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    served.control.option("playback", "none")
    site = SingleSite(tmp_path, served)
    (tmp_path / "config/ravesvc/youtube.key").write_text(YOUTUBE_KEY)
    served.control.join(site.mesh, "ann", "bea", "cy")
    lines: list[ChatLine] = []

    async with site.running() as manager:
        await manager.add_admin(ANN)
        await site.connected()
        for user, text in CHAT:
            (answer,) = await in_thread(site.control.chat, site.mesh, text, user=user, wait=10)
            # An incident id is another one each time.
            answer = re.sub(r"error [0-9a-f]{8}", "error 6bc804ec", answer)
            lines.extend([ChatLine(user.title(), text, is_bot=False), ChatLine("Botty", answer, is_bot=True)])
            if answer.startswith("Next:"):
                await plays(site)
    compare("chat.svg", drawing.chat(lines))
