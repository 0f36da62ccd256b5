"""What rooms remember: documents and histories that bots read and write, within limits, until they expire.

A bot runs the commands of strangers, so each text is checked, bounded, and written anew as JSON of one form.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

from ravesvc.bot.backend import PLUGIN_PREFIX
from ravesvc.common.forget import mentions, without_users
from ravesvc.common.text import count
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import gettext as _
from ravesvc.core import room_history
from ravesvc.core.forgotten_users import Forgotten
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.room_quota import RoomQuota
from ravesvc.errors import Code, RaveError
from ravesvc.names import ALL_MESHES
from ravesvc.store.cached_store import CachedStore, now
from ravesvc.store.model import Store
from ravesvc.store.room_document import (
    DocumentKind,
    DocumentSize,
    RoomDocument,
    is_name,
    parse,
    size,
    to_text,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Documents: TypeAlias = list[RoomDocument]

# The rates of one room. Writes of all rooms wait in one queue for the disk.
WRITE_RATE = Rate(40, 1.0)
READ_RATE = Rate(80, 4.0)
# The rate of requests to forget a user, each of which reads all rooms.
_WISHES = Rate(3, 1 / 60)

# Seconds between two removals of old entries, and from the start to the first one, which needs a list of meshes.
_EXPIRY_S = 86400.0
_FIRST_EXPIRY_S = 600.0
# A room that is no longer in use is remembered for at least a day, because lists may be wrong for a while.
_MIN_ROOM_RETENTION_S = 86400.0
_VERSION_BYTES = 16


class RoomMemory:
    """The documents and histories of all rooms.

    `mesh` is the mesh whose bot asks. Every method raises `RaveError`: InvalidArgument and RateLimited in words for
    the chat, StoreUnavailable as `CachedStore` does. If a caller is cancelled, its change is completed all the same.
    """

    def __init__(
        self,
        state: CachedStore,
        retention: float,
        *,
        in_use: Callable[[], Collection[str] | None],
        tell_forget: Callable[[int], Awaitable[Collection[str]]],
        presence: PresenceCheck,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare it.

        Args:
            state: the store.
            retention: seconds for which the entries of histories are kept; 0 keeps none.
            in_use: returns the meshes that are listed or have a bot; None while that is not known.
            tell_forget: has running bots forget a user, and returns the meshes of those that may not have heard.
            presence: checks that a user is in a room.
            clock: the time in UTC, in whole milliseconds.
            monotonic: seconds of a monotonic clock.
        """
        self._state = state
        self.retention = retention
        self._in_use = in_use
        self._tell_forget = tell_forget
        self._presence = presence
        self._clock = clock
        self._monotonic = monotonic
        self._rates: dict[tuple[str, Rate], TokenBucket] = {}
        self._quota: RoomQuota | None = None
        self._forgetting = asyncio.Lock()
        self._forgotten = Forgotten(monotonic)
        self._changes: set[asyncio.Task[Any]] = set()

    async def read_document(self, mesh: str, name: str) -> str | None:
        """A document as JSON; None if the room has none of that name."""
        self._take(mesh, READ_RATE)
        found = await self._read(mesh, DocumentKind.DOCUMENT, name)
        return None if found is None else found.text

    async def write_document(self, mesh: str, name: str, text: str) -> None:
        """Put a JSON object or list in the place of a document."""
        self._take(mesh, WRITE_RATE)
        value = self._forgotten.left(mesh, _parsed(name, text))
        await self._change(lambda store: self._put(store, mesh, DocumentKind.DOCUMENT, name, value))

    async def read_shared(self, mesh: str, name: str) -> tuple[str, str]:
        """A document of all rooms as JSON, and its version; both are empty if there is none of that name."""
        self._take(mesh, READ_RATE)
        return _version(await self._read(ALL_MESHES, DocumentKind.DOCUMENT, name))

    async def write_shared(self, mesh: str, name: str, text: str, version: str) -> bool:
        """Put a JSON object or list in the place of a version of a document of all rooms.

        Returns False, and changes nothing, if the document has another version by now.
        """
        self._take(mesh, WRITE_RATE)
        if not name.startswith(PLUGIN_PREFIX):
            raise _refused("only plugins have documents that all rooms share")
        value = self._forgotten.left(mesh, _parsed(name, text))
        written = False

        async def write(store: Store) -> None:
            nonlocal written
            found = await store.read_document(ALL_MESHES, DocumentKind.DOCUMENT, name)
            if _version(found)[1] == version:
                await self._put(store, ALL_MESHES, DocumentKind.DOCUMENT, name, value)
                written = True

        await self._change(write)
        return written

    async def append_history(self, mesh: str, name: str, text: str) -> None:
        """Add a JSON object to a history, with the time in its field `time`. The oldest entries are dropped."""
        self._take(mesh, WRITE_RATE)
        entry = self._forgotten.left(mesh, _parsed(name, text))
        if not isinstance(entry, dict):
            raise _refused("an entry of a history must be a JSON object")
        entry["time"] = int(self._clock().timestamp())
        if size(to_text(entry)) > room_history.MAX_ENTRY_BYTES:
            raise _refused(_("an entry may have at most {n} KiB", n=room_history.MAX_ENTRY_BYTES // 1024))

        async def append(store: Store) -> None:
            found = room_history.entries(await store.read_document(mesh, DocumentKind.HISTORY, name))
            kept = room_history.added(room_history.since(found, self._oldest), entry)
            await self._put(store, mesh, DocumentKind.HISTORY, name, kept)

        if self.retention:
            await self._change(append)

    async def read_history(self, mesh: str, name: str, number: int) -> list[str]:
        """The latest `number` entries of a history at most, each as JSON, the oldest first."""
        self._take(mesh, READ_RATE)
        found = room_history.entries(await self._read(mesh, DocumentKind.HISTORY, name))
        kept = room_history.since(found, self._oldest)
        return [to_text(entry) for entry in kept[-number:]] if number else []

    async def forget_user(self, user: int) -> int:
        """Remove what the store and running bots keep of a user; returns how many entries there were.

        Raises what `CachedStore.forget_user` raises, too. If it fails half-way, it may be called again.

        Scenario: a bot writes a document with the user in it while the store forgets that user, which would bring the
        user back. A bot that has confirmed the request writes nothing of the user any more, and what it wrote before
        came before its answer. So until all bots have answered, the user is removed from each write of any bot; and
        after that, for a while, from the writes of bots that did not answer.
        """
        self._state.check_forgettable(user)
        return await self._whole(self._forget(user))

    async def forget_at_wish(self, mesh: str, user: int) -> int:
        """Forget a user at the request of that user in a room; as `forget_user`.

        Raises RateLimited, Busy and AccessDenied, too, and what `PresenceCheck` raises if Rave can't be asked.
        """
        self._take(mesh, _WISHES)
        self._state.check_forgettable(user)
        if self._forgotten.is_unanswering(mesh):
            text = _("the bot of this room has not confirmed that it has forgotten others")
            raise RaveError(Code.BUSY, text, hint=_("try again in an hour, or ask an operator"))
        await self._presence.insist(mesh, user)
        return await self.forget_user(user)

    async def expire(self) -> None:
        """Remove entries of histories that are too old, and everything of rooms that are no longer in use."""
        touched: dict[str, datetime] = {}
        for each in await self._sizes():
            touched[each.mesh] = max(each.updated_at, touched.get(each.mesh, each.updated_at))
        in_use = self._in_use()
        latest = self._clock() - timedelta(seconds=max(self.retention, _MIN_ROOM_RETENTION_S))
        gone = {
            mesh
            for mesh, at in touched.items()
            if in_use is not None and mesh not in in_use and at < latest and mesh != ALL_MESHES
        }
        # By now the token buckets are full, and another host may have written to the store.
        self._rates.clear()
        self._quota = None
        for mesh in touched:
            await self._rewrite(mesh, partial(_these, []) if mesh in gone else self._without_old)
        if gone:
            log.info("What %s remembered is removed: the account is in them no more", count(len(gone), "room"))

    async def run(self) -> None:
        """Call `expire` once a day, until cancelled."""
        pause = _FIRST_EXPIRY_S
        while True:
            await asyncio.sleep(pause)
            pause = _EXPIRY_S
            try:
                await self.expire()
            except RaveError as e:
                log.warning("What rooms remember for too long could not be removed: %s", e)
                pause = _FIRST_EXPIRY_S
            except Exception:
                # A bug in this must not end the service: it would fail again after each restart.
                log.exception("What rooms remember for too long could not be removed")

    async def export(self) -> Documents:
        """All documents of all rooms, in the order of mesh, kind and name."""
        found: Documents = []
        for mesh in await self._meshes():
            found += await self._state.read_rooms(partial(_read_room, mesh))
        return found

    async def replace(self, documents: Iterable[RoomDocument]) -> None:
        """Replace everything that rooms remember by `documents`. If it fails, a part may have been replaced."""
        rooms: dict[str, Documents] = {mesh: [] for mesh in await self._meshes()}
        for document in documents:
            rooms.setdefault(document.mesh, []).append(document)
        for mesh, new in rooms.items():
            await self._rewrite(mesh, partial(_these, new))

    async def _forget(self, user: int) -> int:
        removed = 0

        def forget(found: Documents) -> Documents:
            nonlocal removed
            left, here = _without_user(found, user)
            removed += here
            return left

        async with self._forgetting:
            unheard: Collection[str] = ()
            self._forgotten.begin(user)
            try:
                unheard = await self._tell_forget(user)
                for mesh in await self._meshes():
                    await self._rewrite(mesh, forget)
                return removed + await self._state.forget_user(user)
            finally:
                self._forgotten.end(user, unheard)

    async def _rewrite(self, mesh: str, change: Callable[[Documents], Documents]) -> None:
        """Replace everything that a room remembers by what `change` returns for it."""

        async def rewrite(store: Store) -> None:
            found = await store.read_room(mesh)
            left = change(found)
            if left != found:
                self._quota = None
                await store.replace_room(mesh, left)

        await self._change(rewrite)

    async def _put(self, store: Store, mesh: str, kind: DocumentKind, name: str, value: Any) -> None:
        """Write a document, unless that exceeds a quota."""
        text = to_text(value)
        if self._quota is None:
            self._quota = RoomQuota(await store.list_documents())
        self._quota.insist(mesh, kind, name, size(text))
        document = RoomDocument(mesh=mesh, kind=kind, name=name, text=text, updated_at=self._clock())
        quota, self._quota = self._quota, None
        await store.write_document(document)
        # If the write has failed, the sizes in the store are not known, and are read again next time.
        quota.note(mesh, kind, name, size(text))
        self._quota = quota

    async def _read(self, mesh: str, kind: DocumentKind, name: str) -> RoomDocument | None:
        _check_name(name)
        return await self._state.read_rooms(lambda store: store.read_document(mesh, kind, name))

    async def _meshes(self) -> list[str]:
        return sorted({each.mesh for each in await self._sizes()})

    async def _sizes(self) -> list[DocumentSize]:
        return await self._state.read_rooms(lambda store: store.list_documents())

    async def _change(self, work: Callable[[Store], Awaitable[None]]) -> None:
        await self._whole(self._state.change_rooms(work))

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """Complete a change even if its caller is cancelled; of a half-done one it is not known what was written."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changed)
        return await asyncio.shield(task)

    def _changed(self, change: asyncio.Task[Any]) -> None:
        self._changes.discard(change)
        if not change.cancelled() and (error := change.exception()):
            # If the caller was cancelled, nothing else reports the error.
            log.debug("A change of what a room remembers has failed: %s", error)

    def _take(self, mesh: str, rate: Rate) -> None:
        now = self._monotonic()
        wait = self._rates.setdefault((mesh, rate), TokenBucket(rate, now)).take(now)
        if wait:
            text = _("this room has asked for that too often")
            raise RaveError(Code.RATE_LIMITED, text, hint=_("try again in {seconds} s", seconds=math.ceil(wait)))

    @property
    def _oldest(self) -> float:
        """The time of the oldest entry of a history that is still kept, in seconds since the epoch."""
        return self._clock().timestamp() - self.retention

    def _without_old(self, found: Documents) -> Documents:
        left = []
        for document in found:
            entries = room_history.entries(document) if document.kind is DocumentKind.HISTORY else []
            kept = room_history.since(entries, self._oldest) if self.retention else []
            # A document that has not changed keeps its date, which shows when its room was last used.
            left.append(document if kept == entries else dataclasses.replace(document, text=to_text(kept)))
        return left


async def _read_room(mesh: str, store: Store) -> Documents:
    return await store.read_room(mesh)


def _these(new: Documents, _former: Documents) -> Documents:
    return new


def _without_user(found: Documents, user: int) -> tuple[Documents, int]:
    """The documents without a user, and how many entries were removed."""
    left, removed = [], 0
    for document in found:
        if not mentions(document.text, user):
            left.append(document)
            continue
        try:
            value, here = without_users(parse(document.text), {user})
        except RaveError:
            # It is no valid JSON, so what it says of the user can't be found: remove all of it.
            removed += 1
            continue
        removed += here
        left.append(dataclasses.replace(document, text=to_text(value)) if here else document)
    return left, removed


def _version(found: RoomDocument | None) -> tuple[str, str]:
    """The text of a document, and what tells its versions apart."""
    if found is None:
        return "", ""
    return found.text, hashlib.blake2b(found.text.encode(), digest_size=_VERSION_BYTES).hexdigest()


def _parsed(name: str, text: str) -> Any:
    """The JSON value of a text that a bot wants to store. Raises InvalidArgument."""
    _check_name(name)
    try:
        value = parse(text)
        to_text(value)
    except RaveError as e:
        raise _refused(e.message) from e
    return value


def _check_name(name: str) -> None:
    if not is_name(name):
        raise _refused("its name must be a word in lower case")


def _refused(why: str) -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, _("this can't be kept: {why}", why=why))
