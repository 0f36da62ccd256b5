"""A bot and the operator's plugins: they come and go while its connection stays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ravesvc import names
from ravesvc.common import plugin_files
from ravesvc.mesh import parent_sync
from ravesvc.names import Announcement
from tests.unit.bot_under_test import BotUnderTest, ask, bot_of
from tests.unit.conftest import until
from tests.unit.fake_parent import FakeParent, parent_on
from tests.unit.simulator_server import Served, in_thread

GREET = (Path(__file__).parents[3] / "config/greet.py").read_text()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus_address: str) -> Iterator[Path]:
    """Where plugins are."""
    monkeypatch.setattr(plugin_files, "ROOT_UID", os.getuid())
    monkeypatch.setattr(parent_sync, "_SPREAD_S", 0.02)
    monkeypatch.setattr(names, "COMMANDS_DIRECTORY", str(tmp_path / "commands.d"))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    made = tmp_path / "commands.d"
    made.mkdir(mode=0o755)
    yield made
    for name in [name for name in sys.modules if name.startswith("rave_commands_")]:
        del sys.modules[name]


@pytest.fixture
def mesh(served: Served) -> str:
    (made,) = served.control.create(title="A film")
    served.control.invite(made)
    return made


def write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)


async def loaded(bot: BotUnderTest, bus: Any) -> list[str]:
    (status,) = await ask(bus, bot.mesh, "GetStatus")
    return [source for source, _, _ in status["Plugins"]]


async def errors(bot: BotUnderTest, bus: Any) -> list[str]:
    (status,) = await ask(bus, bot.mesh, "GetStatus")
    return list(status["CommandErrors"])


async def test_a_refresh_brings_changes_and_removes_while_the_connection_stays(
    served: Served, mesh: str, bus_address: str, directory: Path
) -> None:
    greet = directory / "greet.py"

    parent = FakeParent(served.session)
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, bus):
        number = await bot.connects()
        await until(lambda: bot.worker._bot.permissions)
        write(greet, GREET)
        await parent.announce(mesh, Announcement.COMMANDS)
        assert await bot.answer("?greet", user="ann") == ["Hello, Ann!"]
        assert "greet" in (await bot.answer("?help", user="ann"))[0]
        assert await loaded(bot, bus) == [str(greet)]

        write(greet, GREET + "1 / 0\n")
        await parent.announce(mesh, Announcement.COMMANDS)
        told = [f"{greet}, line 6: ZeroDivisionError: division by zero"]
        await bot.says("CommandErrors", told)
        assert await errors(bot, bus) == told
        assert await loaded(bot, bus) == [str(greet)], "the version before is in force"
        assert await bot.answer("?greet", user="ann") == ["Hello, Ann!"]

        write(greet, GREET.replace("await context.reply", "raise LookupError"))
        await parent.announce(mesh, Announcement.COMMANDS)
        await bot.says("CommandErrors", [])
        assert "Something went wrong" in (await bot.answer("?greet", user="ann"))[0]
        told = [f"{greet}: the command greet failed: LookupError"]
        await bot.says("CommandErrors", told)
        assert await errors(bot, bus) == told

        greet.unlink()
        await parent.announce(mesh, Announcement.COMMANDS)
        assert await errors(bot, bus) == await loaded(bot, bus) == []
        assert "greet" not in (await bot.answer("?help", user="ann"))[0]
        assert await in_thread(bot.control.connections) == {mesh: number}


async def test_without_a_parent_the_files_are_read_all_the_same(served: Served, mesh: str, directory: Path) -> None:
    write(directory / "greet.py", GREET)
    (directory / "other.py").write_text(GREET)
    (directory / "other.py").chmod(0o666)

    async with bot_of(served, mesh) as (bot, bus):
        await bot.connects()
        assert bot.worker._bot._registry.get("greet")
        (told,) = await errors(bot, bus)
        assert told == f"{directory}/other.py: others than root may write it (chmod go-w)"


async def test_modules_of_packages_are_the_parents_to_know(
    served: Served, mesh: str, bus_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rave_commands_packaged.py").write_text(GREET)
    monkeypatch.syspath_prepend(str(tmp_path))

    parent = FakeParent(served.session)
    parent.entry_points = [["greet", "rave_commands_packaged", "1.0"]]
    async with parent_on(bus_address, parent), bot_of(served, mesh) as (bot, _):
        await bot.connects()
        await until(lambda: bot.worker._bot.permissions)
        assert await bot.answer("?greet", user="ann") == ["Hello, Ann!"]
