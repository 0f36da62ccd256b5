"""Follows the parent: keeps what a child knows of admins, permissions, session and own commands as the parent has it.

The parent tells that something has changed, never what; the child asks. So no order of messages can leave it with an
older state, and whatever it has missed it gets with the next question.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable

from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.plugins import EntryPoint
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.mesh.host import ParentApi
from ravesvc.names import Announcement

_log = logging.getLogger(__name__)

# Seconds over which hundreds of children spread their questions to a parent that has just come.
_SPREAD_S = 2.0
# Seconds until what could not be learned is asked for again: doubled each time, up to the second.
_FIRST_RETRY_S = 2.0
_MAX_RETRY_S = 60.0


class ParentSync:
    """Asks the parent at the start, when it tells of a change, and when somebody comes who has not heard of us.

    Attributes:
        asked: set when everything has been asked for once, whatever came of it.
    """

    def __init__(
        self,
        parent: ParentApi,
        *,
        announce: Callable[[], None],
        permissions: Callable[[StaticPermissions], None],
        ignored: Callable[[frozenset[int]], None],
        session: Callable[[Session], None],
        commands: Callable[[list[EntryPoint]], Awaitable[None]],
    ) -> None:
        """Prepare it.

        Args:
            parent: to ask.
            announce: says where we are.
            permissions: gets admins and overrides, each time that they were asked for; the first time when the parent
                has said something about both, be it that nobody knows.
            ignored: likewise, the users whom not to listen to.
            session: likewise, the session.
            commands: likewise, the modules with commands that are installed; for files, it is the cue to read them.
        """
        self.asked = asyncio.Event()
        self._parent = parent
        self._announce = announce
        self._use_permissions = permissions
        self._use_ignored = ignored
        self._use_session = session
        self._use_commands = commands
        self._known = StaticPermissions(admins_known=False)
        # Without a word about them a command that was kept to admins would be open to everybody.
        self._unheard = {Announcement.ADMINS, Announcement.PERMISSIONS}
        self._questions: dict[Announcement, Callable[[], Awaitable[None]]] = {
            Announcement.ADMINS: self._ask_admins,
            Announcement.PERMISSIONS: self._ask_permissions,
            Announcement.IGNORED: self._ask_ignored,
            Announcement.CREDENTIALS: self._ask_session,
            Announcement.COMMANDS: self._ask_entry_points,
        }
        # One question of a kind at a time: else an older answer could be applied over a newer one.
        self._locks = {what: asyncio.Lock() for what in Announcement}
        self._missing = set(Announcement)
        self._unmet = False
        self._news = asyncio.Event()
        self._told = ""

    def met(self) -> None:
        """There is a bus or a parent that has not heard of us; what we know may be old, too."""
        self._unmet = True
        self._news.set()

    async def refresh(self, what: Announcement) -> None:
        """Ask for one kind and return when the answer is applied.

        Raises `RaveError` when it can't be had: then what was known stays, and is asked for again later.
        """
        async with self._locks[what]:
            self._missing.add(what)
            try:
                await self._questions[what]()
            except RaveError as e:
                # From now on the time is to be watched.
                self._news.set()
                if e.code is Code.STORE:
                    # It is the parent that says so: nobody knows. What is known, or what commands say, has to do.
                    self._heard(what)
                raise
            self._heard(what)
            self._missing.discard(what)

    async def keep(self) -> None:
        """Follow for ever. The first time at once, and also without a bus."""
        self.met()
        spread, retry = 0.0, _FIRST_RETRY_S
        while True:
            # A child that has learned everything sleeps until it is told something.
            pause = min(retry, _MAX_RETRY_S) * (0.5 + _jitter()) if self._missing and not self._unmet else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
                self._news.clear()
                if not self._unmet:
                    continue
            if self._unmet:
                self._unmet = False
                await asyncio.sleep(spread * _jitter())
                spread = _SPREAD_S
                self._announce()
                self._missing.update(Announcement)
            await self._ask_for_missing()
            retry = min(2 * retry, _MAX_RETRY_S) if self._missing else _FIRST_RETRY_S
            self.asked.set()

    async def _ask_for_missing(self) -> None:
        failures = [e for e in await asyncio.gather(*map(self._try, sorted(self._missing))) if e]
        # They have one cause, as a rule, and it lasts: say each thing once.
        text = "; ".join(dict.fromkeys(failures))
        if text and text != self._told:
            _log.warning("Not everything could be learned from the orchestrator: %s", text)
        elif self._told and not text:
            _log.info("The orchestrator has told everything now")
        self._told = text

    async def _try(self, what: Announcement) -> str:
        try:
            await self.refresh(what)
        except RaveError as e:
            _log.debug("%s: %s %s", what, e, e.attributes)
            return e.message
        return ""

    async def _ask_admins(self) -> None:
        admins = await self._parent.admins()
        self._known = dataclasses.replace(self._known, admins=admins, admins_known=True)

    async def _ask_permissions(self) -> None:
        overrides = await self._parent.permissions()
        self._known = dataclasses.replace(self._known, overrides=overrides)

    async def _ask_ignored(self) -> None:
        self._use_ignored(await self._parent.ignored_users())

    async def _ask_session(self) -> None:
        self._use_session(await self._parent.session())

    async def _ask_entry_points(self) -> None:
        await self._use_commands(await self._parent.entry_points())

    def _heard(self, what: Announcement) -> None:
        self._unheard.discard(what)
        if not self._unheard:
            self._use_permissions(self._known)


def _jitter() -> float:
    """From [0, 1)."""
    return random.random()  # noqa: S311 - jitter, not a secret
