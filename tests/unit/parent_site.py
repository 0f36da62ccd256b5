"""A whole parent on a private bus: its files, how to run it, and how to call it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, Interface
from ravesvc.config import rave_yaml
from ravesvc.orchestrator import app as program
from ravesvc.orchestrator.dbus.account import AccountObject
from ravesvc.orchestrator.dbus.canary import CanaryObject
from ravesvc.orchestrator.dbus.manager import ManagerObject
from ravesvc.orchestrator.dbus.permissions import PermissionsObject
from ravesvc.orchestrator.dbus.store import StoreObject
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.fake_manager import FakeManager
from tests.unit.fake_systemd import FakeSystemd, systemd_on
from tests.unit.simulator_server import Served

OPERATORS: tuple[type[Interface], ...] = (
    ManagerObject,
    AccountObject,
    PermissionsObject,
    StoreObject,
    CanaryObject,
)
LOGIN_NEEDED = "a login is needed: run ravectl login"


class Site:
    """The files of a parent, and how to run it."""

    def __init__(self, directory: Path, served: Served, manager: FakeManager) -> None:
        self.served = served
        self.manager = manager
        self.file = directory / "rave.yaml"
        self.credentials = directory / "credentials.json"
        self.blocklist = directory / "blocklist.json"
        self.state = directory / "state.db"
        self.database = directory / "database.json"
        self.credentials.write_text(served.account.credentials())
        self._text = served.account.config(
            server=served.server, ca_file=str(served.state_dir.ca_file), discovery_interval="60s"
        )
        self.configure()

    def configure(self, **options: str) -> None:
        """Write rave.yaml for the simulator."""
        options = {
            "credentials_path": str(self.credentials),
            "blocklist_persist_path": str(self.blocklist),
            "state_path": str(self.state),
            "database_config_path": str(self.database),
            **options,
        }
        kept = [line for line in self._text.splitlines() if line.partition(":")[0] not in options]
        self.file.write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in options.items())]) + "\n")

    def without(self, key: str) -> None:
        """Leave an option of the client identity out."""
        self.file.write_text(re.sub(rf"  {key}: .*\n", "", self.file.read_text()))

    @contextlib.asynccontextmanager
    async def running(
        self, address: str, systemd_of: Callable[[Bus], FakeSystemd] = FakeSystemd
    ) -> AsyncIterator[tuple[FakeSystemd, Bus, asyncio.Task[int]]]:
        """A parent that has said READY, its systemd, a client's connection; stopped by SIGTERM at the end."""
        async with systemd_on(address, systemd_of) as systemd, connected(address) as (client,):
            parent = asyncio.create_task(program._run(rave_yaml.load(self.file)))
            try:
                await until(lambda: "READY=1" in self.manager.said or parent.done())
                yield systemd, client, parent
            finally:
                if not parent.done():
                    os.kill(os.getpid(), signal.SIGTERM)
                async with asyncio.timeout(10):
                    await asyncio.wait([parent])
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    asyncio.get_running_loop().remove_signal_handler(number)


async def call(client: Bus, member: str, signature: str = "", *args: Any) -> list[Any]:
    """Call a method of the main object, whichever interface has it."""
    (interface,) = [each.interface for each in OPERATORS if member in each.methods]
    return await client.call(names.BUS_NAME, names.MANAGER_PATH, interface, member, signature, *args, timeout=5)


async def get(client: Bus, name: str, interface: str | None = None) -> Any:
    """A property of the main object, whichever interface has it."""
    if interface is None:
        (interface,) = [each.interface for each in OPERATORS if name in each.properties]
    path, properties = names.MANAGER_PATH, "org.freedesktop.DBus.Properties"
    (value,) = await client.call(names.BUS_NAME, path, properties, "Get", "ss", interface, name)
    return value
