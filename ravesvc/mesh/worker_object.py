"""The worker on the bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from ravesvc import names
from ravesvc.bot.settings_keeper import Described
from ravesvc.bus import Call, Interface, Variant, allow_all, method
from ravesvc.names import Announcement
from ravesvc.systemd import logging as log

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import WorkerControl


class WorkerObject(Interface):
    """A bot, at /org/ravesvc/Rave1/worker/<escaped id> of org.ravesvc.Rave1.Worker.<escaped id>.

    For the user rave and root alone, by bus policy: operators speak to the manager.

    Properties:
        Version: The version of its program.
        SettingsDigest: What tells its settings from others.

    Signals:
        Ready: The bot has its settings and is about to connect.
        Connected: The mesh has let the bot in.
        Disconnected: The connection has ended; the bot will try again unless another signal says why not.
        Kicked: The bot was kicked; it ends.
        ConnectionFailed: An attempt has failed, the attempt-th in a row.
        RateLimited: A host that the bot asks has asked for a pause of so many seconds. No failure of the mesh.
        Error: Something went wrong that ends nothing.
        Left: The bot has left the mesh for good, or the mesh is gone; it ends.
        CommandErrors: What is wrong with plugins now, if that has changed: to load or while they run, a sentence
            for each file or package.
    """

    interface = names.WORKER_INTERFACE
    properties: ClassVar = {"Version": "s", "SettingsDigest": "s"}
    signals: ClassVar = {
        "Ready": {},
        "Connected": {},
        "Disconnected": {"reason": "s"},
        "Kicked": {},
        "ConnectionFailed": {"attempt": "u", "error": "s"},
        "RateLimited": {"host": "s", "seconds": "u"},
        "Error": {"message": "s"},
        "Left": {"reason": "s"},
        "CommandErrors": {"errors": "as"},
    }

    def __init__(self, status: Callable[[], dict[str, Variant]], worker: WorkerControl) -> None:
        super().__init__(allow_all)
        self.set(Version=worker.edition.version, SettingsDigest=worker.edition.digest)
        self._status = status
        self._worker = worker

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """Every property, and how the bot is.

        More keys may come. They are Connected (b), ConnectedUSec (t: for how long), Title (s), Server (s), Users (u),
        Reconnects (u), Attempts (u: failures in a row, those of earlier processes included), LastError (s), Plugins
        (a(sss): files and modules, with their versions and the names of their commands), CommandErrors (as: what is
        wrong with plugins), Debug (b), UnshownMessages (u: without an echo), ChatForm (s: request or notification, in
        which the server is known to show chat, or empty).
        """
        return {**self.values(), **self._status()}

    @method(returns={"users": "a(ts)", "total": "u"})
    async def list_users(self, call: Call) -> tuple[list[tuple[int, str]], int]:
        """Ids and display names of users who are in the mesh now, at most 200, and how many there are."""
        return await self._worker.users()

    @method(returns={"settings": "a(ssss)", "total": "u"})
    async def list_settings(self, call: Call) -> tuple[list[Described], int]:
        """Settings of the room, of the bot and of plugins, and how many there are.

        Each has its name, its value, at most 60 characters of it, what it is, and what may be written. They are the
        first 32 KiB.
        """
        return self._worker.settings.listed()

    @method(takes={"name": "s"}, returns={"setting": "(ssss)"})
    async def get_setting(self, call: Call, name: str) -> Described:
        """A setting as in ListSettings, with all of its value. Errors: InvalidArgument."""
        return self._worker.settings.described(self._worker.settings.find(name))

    @method(takes={"name": "s", "value": "s"}, returns={"setting": "(ssss)"})
    async def change_setting(self, call: Call, name: str, value: str) -> Described:
        """Change a setting, as an admin of the room writes it; answered when it is saved, with the setting.

        Errors: InvalidArgument, TooLarge, those of Backend.
        """
        return await self._worker.settings.change(name, value)

    @method()
    async def restart_connection(self, call: Call) -> None:
        """Close the connection to the mesh and open another."""
        self._worker.reconnect()

    @method(takes={"debug": "b"})
    async def set_debug(self, call: Call, debug: bool) -> None:  # noqa: FBT001
        """Turn debug logging on or off, until the process ends."""
        log.set_debug(debug)

    @method()
    async def refresh_admins(self, call: Call) -> None:
        """Ask Backend for the admins again; answered when they are in force. Errors: those of Backend."""
        await self._worker.refresh(Announcement.ADMINS)

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        """Ask Backend for the command permissions again; answered when they are in force.

        Errors: those of Backend.
        """
        await self._worker.refresh(Announcement.PERMISSIONS)

    @method()
    async def refresh_ignored(self, call: Call) -> None:
        """Ask Backend again whom not to listen to; answered when that is in force. Errors: those of Backend."""
        await self._worker.refresh(Announcement.IGNORED)

    @method()
    async def refresh_credentials(self, call: Call) -> None:
        """Ask Backend for the session again; answered when it is in use.

        The bot connects anew only if it is another identity.

        Errors: those of Backend.
        """
        await self._worker.refresh(Announcement.CREDENTIALS)

    @method()
    async def refresh_commands(self, call: Call) -> None:
        """Read plugins again, from /etc/rave/commands.d and GetEntryPoints of Backend.

        Answered when they are in force, after CommandErrors if that has changed.

        Errors: those of Backend.
        """
        await self._worker.refresh(Announcement.COMMANDS)

    @method(takes={"user": "t"})
    async def forget_user(self, call: Call, user: int) -> None:
        """Forget what the bot remembers of a user; nothing of them is written after the answer."""
        self._worker.forget_user(user)
