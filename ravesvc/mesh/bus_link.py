"""The link of a worker to the service: over the message bus, and to systemd as the manager of its unit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravesvc import names
from ravesvc.bot.last_step import LastStep
from ravesvc.bot.plugins import Sources
from ravesvc.bus import Variant
from ravesvc.common.text import printable
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.mesh.bus_membership import BusMembership
from ravesvc.mesh.parent_client import ParentClient
from ravesvc.mesh.worker_object import WorkerObject
from ravesvc.systemd import logging
from ravesvc.systemd.notify import StatusSender, notify, notify_ready

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import WorkerControl


class BusLink:
    """Implements `ParentLink`. While the bus is away, questions fail and signals are lost."""

    advice = FOR_SERVICE

    def __init__(self, worker: WorkerControl, secrets: Mapping[str, str], last_step: LastStep) -> None:
        """`secrets` is what a drop-in of the unit hands over to plugins, by name; `last_step` is the process's."""
        self._worker = worker
        self.membership = BusMembership(worker.mesh, self._make_object, worker.on_new_peer)
        self.parent = ParentClient(lambda: self.membership.bus)
        libraries = Path(names.LIBRARIES_DIRECTORY)
        self.commands = Sources(
            Path(names.COMMANDS_DIRECTORY), secrets=secrets, libraries=libraries, last_step=last_step
        )
        self._sender = StatusSender(lambda status: notify(f"STATUS={status}"), asyncio.get_running_loop().call_later)

    async def join(self) -> None:
        """See `ParentLink`."""
        await self.membership.join()

    async def keep(self) -> None:
        """See `ParentLink`."""
        await self.membership.keep()

    async def leave(self) -> None:
        """See `ParentLink`."""
        await self.membership.leave()

    async def notify_ready(self) -> None:
        """See `ParentLink`."""
        await notify_ready()

    def emit(self, signal: str, *args: Any) -> None:
        """See `ParentLink`."""
        self.membership.emit(signal, *args)

    def show_status(self, status: str) -> None:
        """See `ParentLink`."""
        self._sender.show(status)

    def notify_stopping(self) -> None:
        """See `ParentLink`."""
        self._sender.close()
        notify("STOPPING=1", "STATUS=Ending")

    def _make_object(self) -> WorkerObject:
        return WorkerObject(self._status, self._worker)

    def _status(self) -> dict[str, Variant]:
        status = self._worker.status()
        return {
            "Connected": Variant("b", status.connected),
            "ConnectedUSec": Variant("t", int(status.lasted * 1_000_000)),
            "Title": Variant("s", printable(status.title, names.MAX_REPORT_CHARS)),
            "Server": Variant("s", printable(status.server, names.MAX_REPORT_CHARS)),
            "Users": Variant("u", status.users),
            "Reconnects": Variant("u", status.reconnects),
            "Attempts": Variant("u", status.attempts),
            "LastError": Variant("s", printable(status.last_error, names.MAX_REPORT_CHARS)),
            "Plugins": Variant("a(sss)", [list(plugin) for plugin in status.plugins]),
            "CommandErrors": Variant("as", list(status.command_errors)),
            "UnshownMessages": Variant("u", min(status.unshown, 2**32 - 1)),
            "ChatForm": Variant("s", status.chat_form),
            "Debug": Variant("b", logging.debug_enabled()),
        }
