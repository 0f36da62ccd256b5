"""Keeps the worker's copy of admins, permissions, ignored users, session and plugins as the parent has them.

The parent announces that something has changed, never what; the worker then asks. If the announcements carried the
data, one that is late or lost would leave the worker with older data. So an answer is as new as the question, and a
worker that has missed an announcement gets the data with its next question.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ravesvc.bot.backend import EntryPoint
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.common.plugin_files import FileVersion
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement

if TYPE_CHECKING:
    from ravesvc.mesh.parent_link import ParentApi

_log = logging.getLogger(__name__)

# Hundreds of workers spread their questions to a new parent over this time.
_SPREAD_S = 2.0
# The delay before the worker asks again for what it could not get: doubled each time, up to the second.
_FIRST_RETRY_S = 2.0
_MAX_RETRY_S = 60.0


class ParentSync:
    """Asks the parent at the start, after each announcement, and when there is a new bus or a new parent.

    Attributes:
        asked: set when each question has been answered once, or has failed.
    """

    def __init__(
        self,
        parent: ParentApi,
        *,
        announce: Callable[[], None],
        permissions: Callable[[StaticPermissions], None],
        ignored: Callable[[frozenset[int]], None],
        session: Callable[[Session], None],
        commands: Callable[[list[EntryPoint], list[FileVersion]], Awaitable[None]],
    ) -> None:
        """Prepare it.

        Args:
            parent: answers the questions.
            announce: tells a new parent that this worker is there.
            permissions: called with admins and permissions after each answer about one of them. The first call comes
                when the parent has answered both questions, or has said that its store is not available.
            ignored: called with the ignored users after each answer.
            session: called with the session after each answer.
            commands: called after each answer with the modules of installed packages, and the versions of plugin
                files that are tried in this room; reads the plugin files as well.
        """
        self.asked = asyncio.Event()
        self._parent = parent
        self._announce = announce
        self._use_permissions = permissions
        self._use_ignored = ignored
        self._use_session = session
        self._use_commands = commands
        self._known = StaticPermissions(admins_known=False)
        # Until the parent has answered both, the bot gets no permissions and so runs no command: with the admins
        # alone, it would let all users run a command that is set to be for admins.
        self._never_received = {Announcement.ADMINS, Announcement.PERMISSIONS}
        self._questions: dict[Announcement, Callable[[], Awaitable[None]]] = {
            Announcement.ADMINS: self._ask_admins,
            Announcement.PERMISSIONS: self._ask_permissions,
            Announcement.IGNORED: self._ask_ignored,
            Announcement.CREDENTIALS: self._ask_session,
            Announcement.COMMANDS: self._ask_plugins,
        }
        # One question of a kind at a time. With two, the older answer could come last and replace the newer one.
        self._locks = {what: asyncio.Lock() for what in Announcement}
        self._missing = set(Announcement)
        self._must_announce = False
        self._wake = asyncio.Event()
        self._logged_text = ""

    def on_new_peer(self) -> None:
        """There is a bus or a parent to which this worker is new: announce it there, and ask for everything."""
        self._must_announce = True
        self._wake.set()

    async def refresh(self, what: Announcement) -> None:
        """Ask for one kind of data, and return when the answer is applied.

        Raises `RaveError` without an answer. The worker goes on with what it had, and `keep` asks again later.
        """
        async with self._locks[what]:
            self._missing.add(what)
            try:
                await self._questions[what]()
            except RaveError as e:
                # `keep` may sleep without a time-out, because nothing was missing.
                self._wake.set()
                if e.code is Code.STORE:
                    # The parent itself has no store now. If we waited for it, the bot would run no command at all; so
                    # it goes by what it knows, or by the commands' own permissions.
                    self._mark_received(what)
                raise
            self._mark_received(what)
            self._missing.discard(what)

    async def keep(self) -> None:
        """Ask and announce, for ever. The first time at once, and also without a bus."""
        self.on_new_peer()
        spread, retry = 0.0, _FIRST_RETRY_S
        while True:
            # With nothing missing the worker sleeps until there is a new peer or a question fails.
            has_to_retry = self._missing and not self._must_announce
            pause = min(retry, _MAX_RETRY_S) * (0.5 + _jitter()) if has_to_retry else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
                self._wake.clear()
                if not self._must_announce:
                    # A question of `refresh` has failed: begin to wait for the time to ask again.
                    continue
            if self._must_announce:
                self._must_announce = False
                await asyncio.sleep(spread * _jitter())
                spread = _SPREAD_S
                self._announce()
                self._missing.update(Announcement)
            await self._ask_for_missing()
            retry = min(2 * retry, _MAX_RETRY_S) if self._missing else _FIRST_RETRY_S
            self.asked.set()

    async def _ask_for_missing(self) -> None:
        failures = [e for e in await asyncio.gather(*map(self._try, sorted(self._missing))) if e]
        # As a rule all questions fail for one reason, and that lasts: log it once.
        text = "; ".join(dict.fromkeys(failures))
        if text and text != self._logged_text:
            _log.warning("The bot could not get everything from the orchestrator: %s", text)
        elif self._logged_text and not text:
            _log.info("The bot has got everything from the orchestrator now")
        self._logged_text = text

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

    async def _ask_plugins(self) -> None:
        modules, tried = await asyncio.gather(self._parent.entry_points(), self._parent.tried_plugins())
        await self._use_commands(modules, tried)

    def _mark_received(self, what: Announcement) -> None:
        self._never_received.discard(what)
        if not self._never_received:
            self._use_permissions(self._known)


def _jitter() -> float:
    """From [0, 1)."""
    return random.random()  # noqa: S311 - jitter, not a secret
