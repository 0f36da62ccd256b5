"""rave.yaml while a whole parent runs: edits, and reloads as root asks for them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ravesvc.bus import Bus
from ravesvc.config import rave_yaml
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until
from tests.unit.parent_site import Site, call, get

pytestmark = pytest.mark.usefixtures("as_root")


def digest(file: Path) -> str:
    """That of the settings which the privileged step leaves for bots."""
    return rave_yaml.load(file).edition().digest


async def reload(site: Site, client: Bus) -> list[list[str]]:
    return await call(client, "Reload", "s", digest(site.file))


async def test_an_edit_is_noticed_and_said_until_it_is_taken_back(site: Site, bus_address: str) -> None:
    async with site.running(bus_address) as (_, client, _):
        await site.manager.hears("STATUS=0 meshes")
        site.configure(max_processes="2")
        note = f"{site.file} has changed (max_processes): systemctl reload rave-orchestrator applies it"
        await until(lambda: site.manager.status == f"0 meshes; {note}")
        assert await get(client, "ConfigNote") == note
        site.configure(max_proceses="2")
        await until(lambda: "max_proceses is not an option" in site.manager.status)
        site.configure()
        await until(lambda: site.manager.status == "0 meshes")


async def test_a_reload_puts_options_into_force_at_once(site: Site, bus_address: str) -> None:
    meshes = site.served.control.create(3)
    for mesh in meshes:
        site.served.control.invite(mesh)
    async with site.running(bus_address) as (systemd, client, _):
        await site.manager.hears("3 meshes, 3 disconnected")
        site.configure(max_processes="1", command_prefix="'%'", watchdog="7s")
        assert await reload_with(site, client, watchdog="30s") == [["command_prefix", "max_processes"], ["watchdog"]]
        assert await get(client, "ReloadedOptions") == ["command_prefix", "max_processes"]
        await until(lambda: sum(verb == "stop" for verb, _ in systemd.verbs) == 2)
        command, _ = await call(client, "IssueClaim")
        assert command.startswith("%claim ")
        # The rest waits.
        assert "systemctl restart rave-orchestrator" in await get(client, "ConfigNote")


async def reload_with(site: Site, client: Bus, **options: str) -> list[list[str]]:
    """Reload, with settings of bots that have these values still."""
    text = site.file.read_text()
    for name, value in options.items():
        text = "".join(
            f"{name}: {value}\n" if line.startswith(f"{name}:") else line for line in text.splitlines(keepends=True)
        )
    found, problems = rave_yaml.read(text, str(site.file))
    assert found, problems
    return await call(client, "Reload", "s", found.edition().digest)


async def test_a_reload_with_a_mistake_fails_and_changes_nothing(site: Site, bus_address: str) -> None:
    async with site.running(bus_address) as (_, client, _):
        before = digest(site.file)
        site.configure(limit="7", lang="5")
        with pytest.raises(RaveError, match="lang must be the code of a language") as e:
            await call(client, "Reload", "s", before)
        assert e.value.code is Code.CONFIG
        assert await get(client, "ReloadedOptions") == []


async def test_a_hangup_ends_nothing(site: Site, bus_address: str) -> None:
    async with site.running(bus_address) as (_, client, parent):
        os.kill(os.getpid(), signal.SIGHUP)
        assert await reload(site, client) == [[], []]
        assert not parent.done()
