"""The link of a child of the service: to the message bus, and to the service manager."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ravesvc import names
from ravesvc.bot.plugins import Sources
from ravesvc.bus import Variant
from ravesvc.common.text import printable
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.mesh.dbus_object import DBusHost, WorkerObject
from ravesvc.mesh.host import WorkerControl
from ravesvc.mesh.parent_client import ParentClient
from ravesvc.systemd import logging
from ravesvc.systemd.notify import StatusSender, notify, notify_ready


class BusLink:
    """Implements `Link`. The bus may go away: then nobody is asked or told until it is back."""

    advice = FOR_SERVICE

    def __init__(self, face: WorkerControl) -> None:
        self._face = face
        self.presence = DBusHost(face.mesh, self._make_object, face.met)
        self.parent = ParentClient(lambda: self.presence.bus)
        self.commands = Sources(Path(names.COMMANDS_DIRECTORY))
        self._sender = StatusSender(lambda status: notify(f"STATUS={status}"), asyncio.get_running_loop().call_later)

    async def join(self) -> None:
        """See `Link`."""
        await self.presence.join()

    async def keep(self) -> None:
        """See `Link`."""
        await self.presence.keep()

    async def leave(self) -> None:
        """See `Link`."""
        await self.presence.leave()

    async def ready(self) -> None:
        """See `Link`."""
        await notify_ready()

    def emit(self, signal: str, *args: Any) -> None:
        """See `Link`."""
        self.presence.emit(signal, *args)

    def tell(self, status: str) -> None:
        """See `Link`."""
        self._sender.show(status)

    def ending(self) -> None:
        """See `Link`."""
        self._sender.close()
        notify("STOPPING=1", "STATUS=Ending")

    def _make_object(self) -> WorkerObject:
        return WorkerObject(
            self._status,
            self._face.users,
            self._face.reconnect,
            self._face.refresh,
            self._face.forget_user,
            self._face.edition,
        )

    def _status(self) -> dict[str, Variant]:
        status = self._face.status()
        return {
            "Connected": Variant("b", status.connected),
            "ConnectedUSec": Variant("t", int(status.lasted * 1_000_000)),
            "Title": Variant("s", printable(status.title, names.MAX_REPORT_CHARS)),
            "Server": Variant("s", printable(status.server, names.MAX_REPORT_CHARS)),
            "Users": Variant("u", status.users),
            "Reconnects": Variant("u", status.reconnects),
            "Attempts": Variant("u", status.attempts),
            "LastError": Variant("s", printable(status.last_error, names.MAX_REPORT_CHARS)),
            "CommandErrors": Variant("as", list(status.command_errors)),
            "UnshownMessages": Variant("u", min(status.unshown, 2**32 - 1)),
            "ChatForm": Variant("s", status.chat_form),
            "Debug": Variant("b", logging.debug_enabled()),
        }
