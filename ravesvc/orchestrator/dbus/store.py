"""What the service and its bots remember, on the bus beside the manager: saved, replaced, read again, forgotten."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import ClassVar

from ravesvc import names
from ravesvc.blocklist.blocklist import Blocklist, not_saved_error
from ravesvc.bus import Call, Interface, method
from ravesvc.common.text import count
from ravesvc.core import validation
from ravesvc.core.account import Account
from ravesvc.core.room_memory import RoomMemory
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from ravesvc.orchestrator.dbus.polkit import AccessCheck
from ravesvc.store import export
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.export import Export
from ravesvc.store.room_document import size

log = logging.getLogger(__name__)

# Bytes of what rooms remember that Export returns: a message has at most 8 MiB.
_MAX_ROOMS_BYTES = 4 * 1024 * 1024


class StoreObject(Interface):
    """What the service and its bots remember, at /org/ravesvc/Rave1 of org.ravesvc.Rave1.

    Every property changes with a signal.

    Properties:
        Engine: embedded or mongodb.
        Error: Why the store can't be used now, so that changes are refused; empty if it can.
    """

    interface = names.STORE_INTERFACE
    properties: ClassVar = {"Engine": "s", "Error": "s"}

    def __init__(
        self,
        access: AccessCheck,
        state: CachedStore,
        account: Account,
        memory: RoomMemory,
        blocklist: Blocklist,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """`refresh` has everything read again, everywhere."""
        super().__init__(access)
        self._state = state
        self._account = account
        self._memory = memory
        self._blocklist = blocklist
        self._refresh = refresh
        self.set(Engine=state.engine)

    @method(returns={"text": "s"}, action=PolkitAction.CREDENTIALS)
    async def export_(self, call: Call) -> str:
        """All that the store holds, and the blocklist, as JSON; that includes the account's tokens.

        Errors: BadData (credentials that make no sense can't be exported), BadFile (the blocklist can't be used),
        StoreUnavailable, TooLarge (rooms remember more than fits into a message).
        """
        exported = await self._all()
        # Counted before anything is made of it: all of it at once takes several times its size.
        if sum(size(each.text) for each in exported.rooms or ()) > _MAX_ROOMS_BYTES:
            text = f"rooms remember more than {_MAX_ROOMS_BYTES // 1024**2} MiB, which is too much for a message"
            raise RaveError(Code.TOO_LARGE, text, hint="Save, which root may call, writes it to a file")
        text = export.to_json(exported)
        log.info("An operator has exported the store")
        return text

    @method(takes={"file": "h"}, action=PolkitAction.CREDENTIALS)
    async def save(self, call: Call, file: int) -> None:
        """The same, however much it is, in the place of what a regular file holds, such as a memfd.

        The bus lets only root pass a file.

        Errors: BadData, BadFile (the blocklist can't be used), InvalidArgument (not such a file, or one that can't be
        written), StoreUnavailable.
        """
        exported = await self._all()
        # One of its own: a call that is broken off closes the file, whose number goes to the next one that is opened.
        await asyncio.to_thread(export.write, os.dup(file), exported)
        log.info("An operator has exported the store")

    @method(takes={"file": "h"}, returns={"admins": "u", "permissions": "u"}, action=PolkitAction.CREDENTIALS)
    async def import_(self, call: Call, file: int) -> tuple[int, int]:
        """Put what Export gave, here or elsewhere, in the place of everything; add its blocks to the blocklist.

        If there is no account in it, the service has none any more, as after Logout; if it says nothing of what rooms
        remember, as that of version 0.1.0, that stays. The argument is all of a regular file, such as a memfd, from
        its start; at most 48 MiB. A message could not be that long, and this way the tokens stay off the bus. The bus
        lets only root pass a file: for others there is no password that helps.

        Errors: BadData, BadFile (the blocks are in force, but not saved, and nothing is replaced), InvalidArgument
        (not such a file), StoreUnavailable.
        """
        # A call that is broken off closes the file while it is being read; what was read is dropped then.
        found = await asyncio.to_thread(export.read, file)
        # First of all: with the account bots start, and they must not join a mesh that has kicked them.
        if not await self._blocklist.import_exported(found.blocks):
            raise not_saved_error(count(len(found.blocks), "entry"))
        await self._account.replace(found.contents)
        if found.rooms is not None:
            await self._memory.replace(found.rooms)
        log.info("An operator has replaced all that the store holds")
        return self._counts()

    @method(returns={"admins": "u", "permissions": "u"}, action=PolkitAction.OPERATE)
    async def refresh(self, call: Call) -> tuple[int, int]:
        """Read plugins and the store again, and renew the credentials file, in all meshes.

        Returns how many admins and permissions there are then. GetStatus has the plugins that are then loaded, and
        what is wrong with them, which fails nothing: Plugins and CommandErrors.

        Errors: StoreUnavailable; commands are read all the same.
        """
        await self._refresh()
        log.info("An operator has had everything read again")
        return self._counts()

    @method(takes={"user": "t"}, returns={"entries": "u"}, action=PolkitAction.ADMINS)
    async def forget_user(self, call: Call, user: int) -> int:
        """Remove what the store and the bots keep of a user; returns how many entries there were.

        These are what rooms remember of them, their entry as a former admin, and their id where they have added or
        changed other entries.

        Errors: InvalidArgument (also for an admin, and for a user who is ignored), StoreUnavailable.
        """
        removed = await self._memory.forget_user(validation.user_id(user))
        log.info("An operator has had a user forgotten")
        return removed

    def show(self) -> None:
        """Update the properties."""
        self.set(Error=str(self._state.error or ""))

    async def _all(self) -> Export:
        """All that the store holds now, and the blocklist. Raises `RaveError`: BadData, BadFile, StoreUnavailable."""
        if self._blocklist.error:
            # An export without blocks would send the bots to where they were kicked.
            raise self._blocklist.error
        contents = await self._state.refresh()
        if contents.unusable:
            # A dump without an account would pass for all there was.
            text = f"not all of the store can be exported: {contents.unusable}"
            raise RaveError(Code.BAD_DATA, text, hint="fix it, or log in again")
        rooms = tuple(await self._memory.export())
        return Export(contents=contents, rooms=rooms, blocks=tuple(self._blocklist.export_entries()))

    def _counts(self) -> tuple[int, int]:
        return len(self._state.admins), len(self._state.overrides)
