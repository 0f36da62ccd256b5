"""The files of a user who runs all bots in one process against the simulator, and such a manager."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ravesvc import BotManager
from tests.unit.simulator_server import Served, in_thread

GREET = (Path(__file__).parents[2] / "config/greet.py").read_text()


class SingleSite:
    """A home directory with rave.yaml and credentials, and a mesh with an invitation."""

    def __init__(self, directory: Path, served: Served) -> None:
        self.served = served
        self.control = served.control
        self.directory = directory
        self.file = directory / "config/ravesvc/rave.yaml"
        self.file.parent.mkdir(parents=True)
        self.state = directory / "state/ravesvc"
        self.state.mkdir(parents=True)
        self.credentials = self.state / "credentials.json"
        self.credentials.write_text(served.account.credentials())
        self.configure()
        (self.mesh,) = self.control.create(title="A film")
        self.control.invite(self.mesh)

    def configure(self, **options: Any) -> None:
        """Write rave.yaml."""
        options = {"typing_delay": 0, "process_restart_delay": "0.1s", "connection_failure_window": 0, **options}
        text = self.served.account.config(
            server=self.served.server, ca_file=str(self.served.state_dir.ca_file), discovery_interval="1s"
        )
        kept = [line for line in text.splitlines() if line.partition(":")[0] not in options]
        lines = kept + [f"{key}: {value}" for key, value in options.items()]
        self.file.write_text("\n".join(lines) + "\n")

    def own(self, name: str, text: str) -> None:
        """Write a file of plugins."""
        directory = self.file.with_name("commands.d")
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)

    def blocked(self) -> dict[str, Any]:
        """The entries of blocklist.json, by mesh."""
        file = self.state / "blocklist.json"
        return dict(json.loads(file.read_text())["blockedMeshes"]) if file.exists() else {}

    async def connected(self, *meshes: str) -> None:
        await in_thread(self.control.wait, connected=meshes or [self.mesh], timeout=10)

    async def say(self, text: str, *, mesh: str = "", user: str = "ann") -> list[str]:
        return list(await in_thread(self.control.chat, mesh or self.mesh, text, user=user, wait=5))

    async def last_close(self, mesh: str = "") -> dict[str, Any]:
        await in_thread(self.control.wait, disconnected=[mesh or self.mesh], timeout=10)
        return dict((await in_thread(self.control.mesh, mesh or self.mesh))["ended"][-1])

    @contextlib.asynccontextmanager
    async def running(self, manager: BotManager | None = None) -> AsyncIterator[BotManager]:
        """A manager that has started, and is stopped at the end."""
        manager = manager or BotManager.from_config(self.file)
        await manager.start()
        try:
            yield manager
        finally:
            await manager.stop()
