"""The worker on the bus."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from ravesvc import names
from ravesvc.bus import Bus, Call, Interface, SignalMessage, Variant, allow_all, method
from ravesvc.bus.matching import name_changes
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import Edition
from ravesvc.errors import RaveError
from ravesvc.names import Announcement
from ravesvc.systemd import logging as log

_log = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 15.0


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
        CommandErrors: What is wrong with own commands now, if that has changed: to load or while they run, a sentence
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

    def __init__(
        self,
        status: Callable[[], dict[str, Variant]],
        users: Callable[[], Awaitable[tuple[list[tuple[int, str]], int]]],
        reconnect: Callable[[], None],
        refresh: Callable[[Announcement], Awaitable[None]],
        forget_user: Callable[[int], None],
        edition: Edition,
    ) -> None:
        super().__init__(allow_all)
        self.set(Version=edition.version, SettingsDigest=edition.digest)
        self._status = status
        self._users = users
        self._reconnect = reconnect
        self._refresh = refresh
        self._forget_user = forget_user

    @method(returns={"status": "a{sv}"})
    async def get_status(self, call: Call) -> dict[str, Variant]:
        """Every property, and how the bot is.

        More keys may come. They are Connected (b), ConnectedUSec (t: for how long), Title (s), Server (s), Users (u),
        Reconnects (u), Attempts (u: failures in a row, those of earlier processes included), LastError (s),
        CommandErrors (as: what is wrong with own commands), Debug (b), UnshownMessages (u: without an echo), ChatForm
        (s: request or notification, in which the server is known to show chat, or empty).
        """
        return {**self.values(), **self._status()}

    @method(returns={"users": "a(ts)", "total": "u"})
    async def list_users(self, call: Call) -> tuple[list[tuple[int, str]], int]:
        """Ids and display names of users who are in the mesh now, at most 200, and how many there are."""
        return await self._users()

    @method()
    async def restart_connection(self, call: Call) -> None:
        """Close the connection to the mesh and open another."""
        self._reconnect()

    @method(takes={"debug": "b"})
    async def set_debug(self, call: Call, debug: bool) -> None:  # noqa: FBT001
        """Turn debug logging on or off, until the process ends."""
        log.set_debug(debug)

    @method()
    async def refresh_admins(self, call: Call) -> None:
        """Ask Backend for the admins again; answered when they are in force. Errors: those of Backend."""
        await self._refresh(Announcement.ADMINS)

    @method()
    async def refresh_permissions(self, call: Call) -> None:
        """Ask Backend for the command permissions again; answered when they are in force.

        Errors: those of Backend.
        """
        await self._refresh(Announcement.PERMISSIONS)

    @method()
    async def refresh_ignored(self, call: Call) -> None:
        """Ask Backend again whom not to listen to; answered when that is in force. Errors: those of Backend."""
        await self._refresh(Announcement.IGNORED)

    @method()
    async def refresh_credentials(self, call: Call) -> None:
        """Ask Backend for the session again; answered when it is in use.

        The bot connects anew only if it is another identity.

        Errors: those of Backend.
        """
        await self._refresh(Announcement.CREDENTIALS)

    @method()
    async def refresh_commands(self, call: Call) -> None:
        """Read own commands again, from /etc/rave/commands.d and GetEntryPoints of Backend.

        Answered when they are in force, after CommandErrors if that has changed.

        Errors: those of Backend.
        """
        await self._refresh(Announcement.COMMANDS)

    @method(takes={"user": "t"})
    async def forget_user(self, call: Call, user: int) -> None:
        """Forget what the bot remembers of a user; nothing of them is written after the answer."""
        self._forget_user(user)


class DBusHost:
    """Keeps the child on the bus: when the bus goes away, it comes back to it, and the mesh notices nothing.

    It calls `met` for each bus and each parent that it meets, none of which has heard of the child.

    Attributes:
        bus: the connection; None while there is none.
    """

    def __init__(self, mesh: str, make: Callable[[], WorkerObject], met: Callable[[], None]) -> None:
        self._mesh = mesh
        self._make = make
        self._met = met
        self.bus: Bus | None = None
        self._object: WorkerObject | None = None

    def emit(self, signal: str, *args: Any) -> None:
        """Send a signal; without a bus it is lost, and `met` is the cue to say what matters once there is one.

        A text among the arguments is cut to what the parent keeps of it.
        """
        if self._object:
            self._object.emit(signal, *map(_cut, args))

    async def join(self) -> None:
        """Get on the bus; raises `RaveError` (Bus)."""
        bus = await Bus.connect()
        try:
            made = self._make()
            bus.export(names.worker_path(self._mesh), made)
            await bus.match(name_changes(names.BUS_NAME), self._owner_changed)
            try:
                # All children are one user, so another one may have it. What we say counts without it: the parent
                # goes by the sender's unit. And the bus lets the parent call whoever waits for such a name.
                if not await bus.queue_for_name(names.worker_name(self._mesh)):
                    _log.warning("Another process has this bot's name on the message bus")
            except RaveError as e:
                _log.warning("%s", e)
        except BaseException:
            await bus.close()
            raise
        self.bus, self._object = bus, made
        self._met()

    async def keep(self) -> None:
        """Stay on the bus for ever."""
        delay = _FIRST_DELAY_S
        while True:
            if self.bus:
                await asyncio.shield(self.bus.lost)
                _log.warning("The message bus is gone; the mesh is not affected")
                await self.leave()
                delay = _FIRST_DELAY_S
            # Hundreds of children come back to the bus at the same time.
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, _MAX_DELAY_S)
            try:
                await self.join()
            except RaveError as e:
                _log.debug("Not on the message bus: %s", e)
            else:
                _log.info("Back on the message bus")

    async def leave(self) -> None:
        """Get off the bus, after everything said has been sent."""
        bus, self.bus, self._object = self.bus, None, None
        if bus:
            await bus.close()

    def _owner_changed(self, signal: SignalMessage) -> None:
        _, _, owner = signal.body
        if owner:
            self._met()


def _cut(value: object) -> object:
    return printable(value, names.MAX_REPORT_CHARS) if isinstance(value, str) else value
