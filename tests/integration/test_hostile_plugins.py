"""Plugins that harm their own bot: each is named, what ends the process is off then, and no other room notices."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ravesvc import names
from tests.integration.conftest import Figure, Site, eventually
from tests.integration.test_admins import says
from tests.integration.test_plugins import drop, of, refresh

DIRECTORY = names.COMMANDS_DIRECTORY
# `process_restart_delay`, and what a start takes on a busy machine.
_BACK_AFTER_S = 5.0 + 6.0

_COMMAND = """
from ravesvc.commands import command

@command("{name}", "Does harm.", seconds=20)
async def harm(context):
{body}
"""


def harmful(name: str, body: str) -> str:
    return _COMMAND.format(name=name, body="\n".join(f"    {line}" for line in body.strip().splitlines()))


GREET = harmful("greet", 'await context.reply("Hello")')
# What ends the process. Nothing interrupts the second: it does not return to the interpreter.
DEADLY = {
    "crash": "import os; os.abort()",
    "spin": "sum(range(10**14))",
    "leak": "kept = []\nwhile True:\n    kept.append(bytearray(1 << 20))",
}
# What the bot outlives, and what is then said of it in its log.
BOUNDED = {
    "crowd": (
        "import asyncio\nfor _ in range(1000):\n    asyncio.create_task(rest())",
        "the command crowd failed: RuntimeError",
    ),
    "endless": ("while True:\n    pass", "the command endless took too long"),
    "print": (
        "for _ in range(1000):\n    print('x' * 10**6)\nraise RuntimeError('a gigabyte is printed')",
        "the command print ",
    ),
}
FULL = harmful("fill", "for key in range(100):\n    await context.store.set(str(key), 'x' * 10_000)")


@pytest.fixture(scope="module")
def rooms(shared_site: Site) -> list[str]:
    return shared_site.run_fleet(len(DEADLY) + len(BOUNDED) + 2)


@pytest.fixture(autouse=True)
def plugins(shared_site: Site, rooms: list[str]) -> Iterator[None]:
    drop(shared_site, "greet.py", GREET)
    yield
    shared_site.sh(f"rm -f {DIRECTORY}/*.py")
    refresh(shared_site)


def test_what_ends_a_bot_is_named_and_off_when_the_bot_is_back(
    shared_site: Site, rooms: list[str], figure: Figure
) -> None:
    site = shared_site
    for name, body in DEADLY.items():
        drop(site, f"{name}.py", harmful(name, body))
    refresh(site)
    hurt = dict(zip(DEADLY, rooms, strict=False))
    others = rooms[len(hurt) :]
    before = site.control.connections()
    for name, mesh in hurt.items():
        site.control.chat(mesh, f"?{name}", user="bob", wait=0.1)
    begun = time.monotonic()
    for name, mesh in hurt.items():
        # The watchdog ends the one that spins, after half a minute.
        site.control.wait(reconnected={mesh: before[mesh]}, timeout=60)
        took_s = time.monotonic() - begun
        assert name != "crash" or took_s < _BACK_AFTER_S
        figure(f"a bot that a plugin ended by {name} was back after {took_s:.1f} s at most")
        error = f"{DIRECTORY}/{name}.py: it is off, because the bot has ended while it ran"
        eventually(lambda mesh=mesh: says(site, mesh, "bob", "?greet") == "Hello", "it answers")
        assert site.control.chat(mesh, f"?{name}", user="bob", wait=1.0) == []
        eventually(lambda mesh=mesh, error=error: error in site.sh(f"ravectl explain {mesh}"), "it is named")
        assert f"while the plugin {DIRECTORY}/{name}.py ran: it is off" in of(site, mesh)
    listed = site.sh("ravectl plugin list", check=False)
    for name in DEADLY:
        (line,) = [line for line in listed.splitlines() if line.startswith(f"{DIRECTORY}/{name}.py ")]
        assert line.split()[2] == str(len(rooms) - 1), "all other rooms have it"
    after = site.control.connections()
    assert {mesh: after[mesh] for mesh in others} == {mesh: before[mesh] for mesh in others}
    # Until the operator has changed it.
    for name in DEADLY:
        drop(site, f"{name}.py", harmful(name, 'await context.reply("mended")'))
    refresh(site)
    for name, mesh in hurt.items():
        assert says(site, mesh, "bob", f"?{name}") == "mended"
    assert site.manager("CommandErrors") == []


def test_what_a_bot_outlives_is_named_and_bounded(shared_site: Site, rooms: list[str], figure: Figure) -> None:
    site, before = shared_site, shared_site.control.connections()
    for name, (body, _) in BOUNDED.items():
        rest = "\n\nasync def rest():\n    import asyncio\n    await asyncio.sleep(1000)\n"
        drop(site, f"{name}.py", harmful(name, body) + rest)
    drop(site, "fill.py", FULL)
    refresh(site)
    kept = int(site.sh("journalctl --disk-usage | grep -o '[0-9.]*M' | cut -d. -f1 | tr -d M"))
    for (name, (_, told)), mesh in zip(BOUNDED.items(), rooms, strict=False):
        site.control.chat(mesh, f"?{name}", user="bob", wait=20.0)
        eventually(lambda told=told: any(told in error for error in site.manager("CommandErrors")), "it is named")
        assert says(site, mesh, "bob", "?greet") == "Hello"
    mesh = rooms[len(BOUNDED)]
    assert "keeps at most 60 KiB in a room" in says(site, mesh, "bob", "?fill")
    assert f"command fill of {DIRECTORY}/fill.py failed" in of(site, mesh)
    assert says(site, mesh, "bob", "?greet") == "Hello"
    grown = int(site.sh("journalctl --disk-usage | grep -o '[0-9.]*M' | cut -d. -f1 | tr -d M")) - kept
    assert grown < 64
    figure(f"a plugin that prints a gigabyte made the journal {grown} MB larger")
    assert site.control.connections() == before
