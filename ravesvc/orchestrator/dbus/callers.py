"""Whose connections those on the bus are."""

from __future__ import annotations

import pwd
from collections import OrderedDict

from ravesvc.bus import Bus
from ravesvc.errors import RaveError
from ravesvc.names import WORKER_USER

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_MAX_REMEMBERED_CALLERS = 4096


class Callers:
    """The users of connections. That of a connection never changes, and the bus gives its name to no other one."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._users: OrderedDict[str, int] = OrderedDict()
        self._bots = _number_of(WORKER_USER)

    async def user(self, sender: str) -> int | None:
        """The number of the user whose connection it is; None if it is gone, or the bus does not answer."""
        try:
            return await self._find(sender)
        except RaveError:
            return None

    async def group(self, sender: str) -> str | None:
        """Whom a connection shares its turn with: those of its user. A bot has its own, and root need not wait.

        All bots are one user, and one that was taken over must not take the turns of the others: neither theirs, nor
        one for each connection that it makes. Its process is the one that the bus saw connect. Raises `RaveError`
        (Bus, Timeout) if the connection is gone, or the bus does not answer.
        """
        user = await self._find(sender)
        if user == 0:
            return None
        if user == self._bots:
            (process,) = await self._bus.call(*_BUS, "GetConnectionUnixProcessID", "s", sender)
            return f"process {process}"
        return f"user {user}"

    async def _find(self, sender: str) -> int:
        if sender not in self._users:
            (user,) = await self._bus.call(*_BUS, "GetConnectionUnixUser", "s", sender)
            self._users[sender] = int(user)
            while len(self._users) > _MAX_REMEMBERED_CALLERS:
                self._users.popitem(last=False)
        return self._users[sender]


def _number_of(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
