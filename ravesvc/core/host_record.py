"""Keeps the account to one host: of two services with one database the second starts no bot.

The database has one record: which host runs the bots, and when that was last said. A host says it every 30 s. For
2 minutes after that no other host takes the record, unless an operator says so (`ravectl takeover`). The embedded
store has no such record, because hosts don't share it.

    A holds the record, B starts       B finds A's record, starts nothing, and looks again every 30 s.
    A is stopped                       A removes the record when its bots have left their rooms. The next look of B
                                       finds none, and B begins.
    A crashes, or loses its network    Its record is void after 2 minutes, and B begins. When A is back, or sees the
                                       database again, it finds B's record, and stops the bots that it has left.
    B is told to take over             B writes itself in. A finds that at its next beat, and stops its bots; B starts
                                       none before that. A goes on to look, as B did.
    the database is away               Both go on as they are. A host that starts then starts its bots, and looks
                                       as soon as the database answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
import uuid
from collections.abc import Callable
from pathlib import Path

from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.text import printable
from ravesvc.config.advice import FOR_SERVICE, Advice
from ravesvc.errors import Code, RaveError
from ravesvc.store.model import BEAT_S, Host, Store

log = logging.getLogger(__name__)

# Seconds until a database that did not answer is asked again.
_RETRY_S = 5.0
# Seconds that the bots of another host may stay after it has lost the record: it finds out by its next beat.
_LEAVE_S = BEAT_S + 5.0

_MACHINE_ID = Path("/etc/machine-id")
# Made up for this program; with it sd_id128_get_machine_app_specific(3) keeps the machine id out of the database.
_APPLICATION = uuid.UUID("a1d4b6c2-5f0e-4c83-9b7d-2e6f18c9d035")


def this_host(part: str = "") -> Host:
    """The host that we run on. `part` tells programs apart that must not run side by side on it."""
    name = printable(socket.gethostname(), 64) or "unknown"
    try:
        machine = uuid.UUID(_MACHINE_ID.read_text().strip())
    except (OSError, ValueError):
        # Another system than Linux, or an image before its first boot.
        machine = uuid.uuid5(uuid.NAMESPACE_DNS, name)
    return Host(id=_app_specific(machine) + part, name=name)


def _app_specific(machine: uuid.UUID) -> str:
    digest = hmac.new(machine.bytes, _APPLICATION.bytes, hashlib.sha256).digest()
    return uuid.UUID(bytes=digest[:16], version=4).hex


class HostRecord:
    """The record as this host sees it.

    Attributes:
        other: the host that has the account in our place; None when we have it, or as far as we know.
        obstacle: why no bot may be started here now, or None.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        changed: Callable[[], None],
        *,
        advice: Advice = FOR_SERVICE,
        leave_s: float = _LEAVE_S,
    ) -> None:
        """`changed` is called after `other` or `obstacle` has become another. For `leave_s` see `take_over`."""
        self.other: Host | None = None
        self._store = store
        self._host = host
        self._changed = changed
        self._advice = advice
        self._leave_s = leave_s
        self._left: Host | None = None
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def obstacle(self) -> RaveError | None:
        """See the class."""
        if self.other:
            text = f"this account already runs on host {self.other.name}"
            return RaveError(Code.BUSY, text, hint=self._advice.takeover)
        if self._left:
            text = f"this account moves here from host {self._left.name}"
            hint = f"its bots leave within {self._leave_s:.0f} s, then those of this host start"
            return RaveError(Code.BUSY, text, hint=hint)
        return None

    @property
    def is_shared(self) -> bool:
        """Whether another host may wait for the account."""
        return self._store.engine == "mongodb"

    async def look(self) -> bool:
        """Say that we run here, and see whether we may; False when the store does not answer, and all stays."""
        try:
            holder = await self._store.register_host(self._host)
        except RaveError as e:
            log.debug("The record of hosts could not be read: %s", e)
            return False
        other = None if holder.id == self._host.id else holder
        if (other and other.id) != (self.other and self.other.id):
            self._note(other)
        return True

    async def run(self) -> None:
        """Look for ever."""
        answered = True
        while True:
            await asyncio.sleep(BEAT_S if answered else _RETRY_S)
            answered = await self.look()

    async def take_over(self) -> str:
        """Have the account run here; returns which host had it, empty if it was this one.

        Bots of the other host get `leave_s` seconds to leave. Raises `RaveError` as the store does.
        """
        if not self.other:
            return ""
        left = self.other
        await self._store.take_over(self._host)
        log.warning("An operator has moved the account here from host %s", left.name)
        self.other, self._left = None, left
        self._waiting = asyncio.get_running_loop().call_later(self._leave_s, self._moved)
        self._changed()
        return left.name

    async def release(self) -> None:
        """Let others have the account at once, if we have it. Does not fail."""
        self.close()
        try:
            await self._store.release(self._host)
        except RaveError as e:
            log.info("Other hosts have to wait until the record of this one is void: %s", e)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._waiting:
            self._waiting.cancel()

    def _note(self, other: Host | None) -> None:
        self.other, before = other, self.other
        self._left = None
        self.close()
        if other:
            text = "The account runs on host %s: no bot runs here"
            log.error(text, other.name, extra=about(event=LogEvent.NOTHING_STARTS))
        elif before:
            log.warning("Host %s has given the account up, or is silent: it runs here now", before.name)
        self._changed()

    def _moved(self) -> None:
        self._left = None
        self._changed()
