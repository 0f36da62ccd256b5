"""The store as the service uses it: a copy that can always be read, and changes that are saved, then announced.

While the store is away, readers get the last good copy, changes are refused at once, and a recovery runs in the
background. An announcement says only that something has changed, and workers ask again. So the order of
announcements does not matter: a worker that asks late gets the newest contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from ravesvc.common.log_fields import LogEvent, about
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.chat_change import ChatChange, ChatUser, difference
from ravesvc.store.chat_change_log import ChangeRecord, NotRecordedError
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, IgnoredUser, Store
from ravesvc.store.permissions_cache import PermissionsCache
from ravesvc.store.undo import undo

log = logging.getLogger(__name__)

T = TypeVar("T")

# The start of the service waits this long for the store, and then goes on without it.
_START_TIMEOUT_S = 5.0
# A damaged file or document must be fixed by an operator, so it is tried again this many times less often.
_OPERATOR_RETRY_FACTOR = 10
# With these codes an engine says that it can't be used. Any other error concerns a single change.
_FAILED_CODES = (Code.STORE, Code.BAD_FILE)
# What the permissions cache holds, for a start without the store.
_IN_PERMISSIONS_CACHE = frozenset({Announcement.ADMINS, Announcement.PERMISSIONS, Announcement.IGNORED})
# How the message of a failure begins: before the store was called, and during the call.
_CHANGING = ("changes can't be saved", "whether the change was saved is not known")
_READING = ("nothing can be read", "nothing can be read")
# No command has this name.
_NO_COMMAND = ""
_CLOSED = RaveError(Code.STORE, "the store is closed")


def now() -> datetime:
    """The time in UTC, in whole milliseconds, as stores keep it."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class CachedStore:
    """Credentials, admins and command permissions.

    Changes, refreshes and recoveries run one after another; readers never wait. A change raises `RaveError`:
    StoreUnavailable while the store can't be used, and the errors of `Store`. With an `actor`, a chat user, it also
    raises AccessDenied unless the actor is an admin at the moment of the change. A change by an actor can be undone.

    Attributes:
        error: why the store can't be used now, or None.
        contents: the last good copy; None until the store was read for the first time.
        snapshot: the same, or else the admins and permissions that an earlier run has left in `copy`.
    """

    def __init__(
        self,
        store: Store,
        notify: Callable[[Announcement], Awaitable[None]],
        on_change: Callable[[], None],
        *,
        copy: PermissionsCache,
        record: ChangeRecord,
        clock: Callable[[], datetime] = now,
        retry_s: float = 3.0,
        start_timeout_s: float = _START_TIMEOUT_S,
    ) -> None:
        self.error: RaveError | None = RaveError(Code.STORE, "the store is not open yet")
        self.contents: Contents | None = None
        self._store = store
        self._copy = copy
        self._record = record
        self._from_copy: Contents | None = None
        self._copy_lock = asyncio.Lock()
        self._notify = notify
        self._on_change = on_change
        self._clock = clock
        self._retry_s = retry_s
        self._start_timeout_s = start_timeout_s
        self._lock = asyncio.Lock()
        self._opened = False
        self._closed = False
        self._logged_code: Code | None = None  # of the failure that was logged last, until its end is logged
        self._attempted = asyncio.Event()
        self._retry_now = asyncio.Event()
        self._recovery: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None

    @property
    def engine(self) -> str:
        """`embedded` or `mongodb`."""
        return self._store.engine

    @property
    def loaded(self) -> bool:
        """Whether the store has been read."""
        return self.contents is not None

    @property
    def snapshot(self) -> Contents | None:
        """See the class."""
        return self.contents or self._from_copy

    @property
    def admins(self) -> frozenset[int]:
        """The user ids of the active admins."""
        return _admins(self.snapshot) if self.snapshot else frozenset()

    @property
    def owners(self) -> frozenset[int]:
        """The user ids of those among the admins whom no chat user may remove."""
        return (
            frozenset(admin.user_id for admin in self.snapshot.admins if admin.owner)
            if self.snapshot
            else frozenset()
        )

    @property
    def users(self) -> frozenset[int]:
        """The user ids of all who are or were admins."""
        return frozenset(admin.user_id for admin in self.snapshot.admins) if self.snapshot else frozenset()

    @property
    def overrides(self) -> dict[str, bool]:
        """The commands whose permission was changed: whether each is for admins only, by its name."""
        return _overrides(self.snapshot) if self.snapshot else {}

    @property
    def ignored(self) -> frozenset[int]:
        """The user ids that all bots ignore."""
        return _ignored(self.snapshot) if self.snapshot else frozenset()

    @property
    def credentials(self) -> Credentials | None:
        """The credentials in the store; None if there are none or the store was not read yet."""
        return self.contents.credentials if self.contents else None

    @property
    def has_account(self) -> bool:
        """Whether the store has credentials, usable or not; False until it was read."""
        return bool(self.credentials or self.unusable)

    @property
    def unusable(self) -> str:
        """Why the credentials in the store can't be used; empty if they can, or if none are known."""
        return self.contents.unusable if self.contents else ""

    @property
    def chat_changes(self) -> Sequence[ChatChange]:
        """The latest changes that were made from rooms, in the order of their numbers."""
        return self._record.changes

    def chat_change_ages(self) -> list[tuple[float, str]]:
        """How many seconds ago the latest changes were made from rooms, the longest first, and from which mesh."""
        # If the clock was set back, a change may be in the future. Then it counts as made now.
        now = max([self._clock(), *(each.at for each in self.chat_changes)])
        return [((now - each.at).total_seconds(), each.mesh) for each in self.chat_changes]

    async def start(self) -> None:
        """Open the store and read it. If that fails or takes too long, `error` says so and a recovery goes on."""
        self._from_copy = await asyncio.to_thread(self._copy.read)
        await asyncio.to_thread(self._record.load)
        self._broken = asyncio.get_running_loop().create_future()
        self._retry_now.set()
        self._begin_recovery()
        try:
            await asyncio.wait_for(self._attempted.wait(), self._start_timeout_s)
        except TimeoutError:
            self._mark_failed(RaveError(Code.STORE, f"the store has not answered within {self._start_timeout_s:g} s"))

    async def work(self) -> None:
        """Wait for ever after `start`. Raises the exception that ended a recovery: the store is not read again."""
        assert self._broken, "it was started"
        await asyncio.shield(self._broken)

    async def close(self) -> None:
        """Close the store after the change that is under way."""
        self._closed = True
        if self._recovery:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        async with self._lock:
            self.error = _CLOSED
            await self._store.close()

    def reachable(self, answers: bool) -> None:  # noqa: FBT001 - the one thing that the engine tells
        """Note what the engine has noticed: its server is lost, or answers again."""
        if answers:
            self._retry_now.set()
        elif not self.error:
            self._mark_failed(RaveError(Code.STORE, "the store's server can't be reached"))

    async def refresh(self) -> Contents:
        """Read everything again, with changes and fixes that another program has made in the store."""
        async with self._lock:
            if self._closed:
                raise _unavailable("nothing can be read", _CLOSED)
            try:
                announcements = await self._load()
            except RaveError as e:
                raise _unavailable("nothing can be read", e) from e
            contents = self.contents
        # End a recovery that is waiting: it has nothing left to do, and the next outage starts its own.
        self._retry_now.set()
        await self._announce(announcements)
        assert contents, "it was read"
        return contents

    async def check_writable(self) -> None:
        """Check that a change could be saved now, by one that changes nothing; raises as a real one."""
        try:
            async with self._exclusive():
                await self._store.remove_permission(_NO_COMMAND)
        except RaveError as e:
            raise _unavailable("changes can't be saved", self.error or e) from e

    async def add_admin(self, user: int, added_by: int, *, actor: ChatUser | None = None) -> bool:
        """Make a user an admin, and an owner if `added_by` is that user; False if they are one already."""
        admin = Admin(user_id=user, added_by=added_by, added_at=self._clock())

        async def write() -> bool:
            # The actor is an admin already, and must not become an owner by adding themselves.
            return (actor is None or actor.id != user) and await self._store.add_admin(admin)

        return await self._change_if(write, lambda old: old.with_admin(admin), actor)

    async def claim_admin(self, user: ChatUser) -> bool:
        """Make a chat user an owner who has sent a claim code; False if they are one."""
        # The code comes from an operator, so the user need not be an admin yet.
        admin = Admin(user_id=user.id, added_by=user.id, added_at=self._clock())
        return await self._make(
            lambda: self._store.add_admin(admin),
            lambda old: old.with_admin(admin),
            must_be_admin=None,
            recorded_for=user,
        )

    async def remove_admin(self, user: int, *, actor: ChatUser | None = None) -> bool:
        """Take the right away; False if they have none. Raises `RaveError` (LastAdmin, AccessDenied) too."""

        async def write() -> bool:
            # They may have become one while this change waited for its turn.
            if actor is not None and user in self.owners:
                text = _("an owner can't be removed from a room")
                raise RaveError(Code.ACCESS_DENIED, text, hint=_("an operator can do it, on the host"))
            return await self._store.remove_admin(user)

        return await self._change_if(
            write,
            lambda old: old.without_admin(user),
            actor,
        )

    async def ignore_user(self, user: int, added_by: int, *, actor: ChatUser | None = None) -> bool:
        """Have all bots ignore a user; False if they do. Raises `RaveError` (InvalidArgument) for an admin."""
        entry = IgnoredUser(user_id=user, added_by=added_by, added_at=self._clock())

        async def write() -> bool:
            # They may have become one while this change waited for its turn.
            if user in self.admins:
                text = f"user {user} is an admin, whom bots always listen to"
                raise RaveError(Code.INVALID_ARGUMENT, text, hint="take that right away first")
            return await self._store.ignore_user(entry)

        return await self._change_if(write, lambda old: old.with_ignored(entry), actor)

    async def unignore_user(self, user: int, *, actor: ChatUser | None = None) -> bool:
        """Have bots listen to a user again; False if they do."""
        return await self._change_if(
            lambda: self._store.unignore_user(user),
            lambda old: old.without_ignored(user),
            actor,
        )

    async def set_permission(
        self,
        command: str,
        requires_admin: bool,  # noqa: FBT001 - as the field is called
        description: str,
        by: int,
        *,
        actor: ChatUser | None = None,
    ) -> None:
        """Set whether a command is for admins only; `by` is a user id, 0 for an operator."""
        permission = CommandPermission(
            command=fold(command),
            requires_admin=requires_admin,
            description=description,
            updated_at=self._clock(),
            updated_by=by,
        )
        await self._change(
            lambda: self._store.set_permission(permission),
            lambda old: old.with_permission(permission),
            actor,
        )

    async def remove_permission(self, command: str, *, actor: ChatUser | None = None) -> bool:
        """Reset a command to its default permission; False if that is so already."""
        command = fold(command)
        return await self._change_if(
            lambda: self._store.remove_permission(command),
            lambda old: old.without_permission(command),
            actor,
        )

    async def undo(self, number: int) -> bool:
        """Undo a change that was made from a room; False if the store has the former value already.

        Raises `RaveError` (InvalidArgument, Conflict, LastAdmin) too.
        """
        async with self._exclusive():
            change = self._record.find(number)
            undone = await undo(self._store, change, await self._store.read())
            announcements = self._replace_contents(await self._store.read())
        await self._announce(announcements)
        try:
            await asyncio.to_thread(self._record.mark_undone, number)
        except NotRecordedError as e:
            raise RaveError(
                Code.STORE, f"change {number} is undone, but still listed: {e.message}", hint=e.hint
            ) from e
        return undone

    async def save_credentials(self, credentials: Credentials) -> None:
        """Replace the credentials."""
        credentials = dataclasses.replace(credentials, updated_at=self._clock())
        await self._change(
            lambda: self._store.save_credentials(credentials),
            lambda old: old.with_credentials(credentials),
        )

    async def fill_credentials(self, credentials: Credentials) -> bool:
        """Save credentials unless the store has some, usable or not; True if they were saved."""
        credentials = dataclasses.replace(credentials, updated_at=self._clock())
        async with self._exclusive() as old:
            if old.credentials or old.unusable:
                return False
            await self._store.save_credentials(credentials)
            announcements = self._replace_contents(old.with_credentials(credentials))
        await self._announce(announcements)
        return True

    async def remove_credentials(self, removed: Callable[[], None] = lambda: None) -> bool:
        """Remove the credentials; False if there are none. `removed` is called as `replaced` is in `replace`."""

        async def write() -> bool:
            there = await self._store.remove_credentials()
            removed()
            return there

        return await self._change_if(write, lambda old: old.without_credentials(), None)

    async def replace(self, contents: Contents, replaced: Callable[[], None] = lambda: None) -> None:
        """Replace all contents. `replaced` is called once they are saved, before they are announced."""

        async def write() -> None:
            await self._store.replace(contents)
            replaced()

        await self._change(write, lambda _old: contents)

    async def read_rooms(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Return what `work` reads of the documents of rooms, which are not part of the copy."""
        async with self._exclusive(failing=_READING):
            return await work(self._store)

    async def change_rooms(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Return what `work` returns, which changes documents of rooms."""
        async with self._exclusive():
            return await work(self._store)

    def check_forgettable(self, user: int) -> None:
        """Raise `RaveError` (InvalidArgument) for a user whose data is still needed; StoreUnavailable."""
        if self.error:
            raise _unavailable("changes can't be saved", self.error)
        if user in self.admins:
            raise _not_forgettable(user, "an admin", "have that right removed first")
        if user in self.ignored:
            raise _not_forgettable(user, "ignored by all bots", "have them listen again first")
        if self.credentials and self.credentials.user_id == user:
            raise _not_forgettable(user, "the bot itself", "")

    async def forget_user(self, user: int) -> int:
        """Take a user out of the entries about others, and delete what is left of a former admin.

        Returns how many entries that has changed. Raises `RaveError` (InvalidArgument) as `check_forgettable`.
        """
        async with self._exclusive():
            # They may have become an admin while this change waited for its turn.
            self.check_forgettable(user)
            changed = await self._store.forget_user(user)
            announcements = self._replace_contents(await self._store.read())
        await self._announce(announcements)
        # Write the copy even if nothing was announced: it also has former admins, and an earlier attempt may have
        # ended before it was written.
        await self._write_copy()
        await asyncio.to_thread(self._record.forget_user, user)
        return changed

    async def _change(
        self,
        write: Callable[[], Awaitable[None]],
        after: Callable[[Contents], Contents],
        actor: ChatUser | None = None,
    ) -> None:
        async def change() -> bool:
            await write()
            return True

        await self._change_if(change, after, actor)

    async def _change_if(
        self, write: Callable[[], Awaitable[bool]], after: Callable[[Contents], Contents], actor: ChatUser | None
    ) -> bool:
        """Make a change for an operator, or for a chat user who has to be an admin at that moment."""
        return await self._make(write, after, must_be_admin=actor, recorded_for=actor)

    async def _make(
        self,
        write: Callable[[], Awaitable[bool]],
        after: Callable[[Contents], Contents],
        *,
        must_be_admin: ChatUser | None,
        recorded_for: ChatUser | None,
    ) -> bool:
        """Make a change; False if `write` finds nothing to change. Then the copy may be outdated and is read again.

        Args:
            must_be_admin: the chat user who asks, and is refused unless an admin; None to refuse no user.
            recorded_for: the chat user whose change it is, which can be undone; None for an operator's.
        """
        async with self._exclusive(must_be_admin) as old:
            changed = await (self._recorded(write, after, recorded_for) if recorded_for else write())
            announcements = self._replace_contents(after(old) if changed else await self._store.read())
        await self._announce(announcements)
        return changed

    async def _recorded(
        self, write: Callable[[], Awaitable[bool]], after: Callable[[Contents], Contents], user: ChatUser
    ) -> bool:
        """Make and record a chat user's change, under the lock.

        The record is written first. After a crash in between it has a change that was not made, and undoing that does
        nothing. In the other order there could be a change that can't be undone.
        """
        before = await self._store.read()
        changing = difference(before, after(before))
        if changing is None:
            return await write()
        recorded = await asyncio.to_thread(self._record.add, user, self._clock(), *changing)
        try:
            changed = await write()
        except RaveError as e:
            # After the other codes the change may have been made, so its record stays.
            if e.code not in _FAILED_CODES:
                await self._withdraw_record(recorded)
            raise
        if not changed:
            await self._withdraw_record(recorded)
        return changed

    async def _withdraw_record(self, recorded: ChatChange) -> None:
        """Remove the record of a change that was not made. If that fails it stays, and undoing it does nothing."""
        try:
            await asyncio.to_thread(self._record.remove, recorded.number)
        except NotRecordedError as e:
            log.warning("Change %d was not made, but is still listed: %s", recorded.number, e)

    @contextlib.asynccontextmanager
    async def _exclusive(
        self, actor: ChatUser | None = None, failing: tuple[str, str] = _CHANGING
    ) -> AsyncIterator[Contents]:
        """Hold the lock for one change; yields the copy as it was before. Translates and notes a failed store."""
        before, during = failing
        if self.error:
            # Do not wait for the lock: a recovery may hold it for a long time.
            raise _unavailable(before, self.error)
        async with self._lock:
            if self.error:
                raise _unavailable(before, self.error)
            assert self.contents, "a store that can be used has been read"
            if actor is not None and actor.id not in self.admins:
                # The right may have gone while this change waited for its turn.
                raise RaveError(Code.ACCESS_DENIED, "only admins may change that")
            try:
                yield self.contents
            except NotRecordedError:
                # The store itself works. Only changes from rooms are recorded, so operators can still make theirs.
                raise
            except RaveError as e:
                if e.code not in _FAILED_CODES:
                    raise
                await self._handle_failure(e)
                raise _unavailable(during, e) from e
            except BaseException:
                if failing is not _READING:
                    self._mark_failed(RaveError(Code.STORE, "a change was broken off"))
                raise

    async def _load(self) -> list[Announcement]:
        """Read the store into the copy, under the lock; returns what has to be announced.

        Raises `RaveError`, after it was noted in `error`.
        """
        try:
            if not self._opened:
                await self._store.open()
                self._opened = True
            contents = await self._store.read()
        except RaveError as e:
            await self._handle_failure(e)
            raise
        self.error = None
        if self._logged_code:
            log.info("The store works again")
            self._logged_code = None
        return self._replace_contents(contents)

    async def _handle_failure(self, error: RaveError) -> None:
        """Note a loss, under the lock."""
        self._mark_failed(error)
        if error.code is Code.BAD_FILE and self._opened:
            # The operator may replace the damaged file, so it must be opened again.
            self._opened = False
            await self._store.close()

    def _mark_failed(self, error: RaveError) -> None:
        if self.error is None:
            # A wake-up that is still set was for an earlier outage.
            self._retry_now.clear()
        self.error = error
        if self._logged_code is not error.code:
            extra = about(event=LogEvent.STORE_FAILED)
            log.error("The store can't be used, so nothing can be changed: %s", error, extra=extra)
            self._logged_code = error.code
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._begin_recovery()
        self._on_change()

    def _begin_recovery(self) -> None:
        self._recovery = asyncio.create_task(self._recover())
        self._recovery.add_done_callback(self._recovery_ended)

    def _recovery_ended(self, recovery: asyncio.Task[None]) -> None:
        """Pass the exception that ended a recovery to `work`.

        A recovery announces what it has read, and a handler of the announcement may raise. No caller awaits the
        recovery, so the exception would be lost. It happened: at the first start with a `tls.ca_file` that could not
        be read, the service said "starting" for ever, with an empty log.
        """
        if not recovery.cancelled() and (error := recovery.exception()) and self._broken and not self._broken.done():
            self._broken.set_exception(error)
            # Mark it as retrieved: while the service ends, `work` may not be awaited any more.
            self._broken.exception()

    async def _recover(self) -> None:
        """Try until the store can be used."""
        while self.error:
            pause = self._retry_s if self.error.code is Code.STORE else self._retry_s * _OPERATOR_RETRY_FACTOR
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._retry_now.wait()
            self._retry_now.clear()
            async with self._lock:
                # A refresh may have come first.
                announcements = await self._attempt() if self.error else []
            self._attempted.set()
            await self._announce(announcements)

    async def _attempt(self) -> list[Announcement]:
        try:
            announcements = await self._load()
        except RaveError:
            return []
        except Exception:
            # A bug of one attempt must not end them all.
            if self._logged_code is not Code.INTERNAL:
                log.exception("The store could not be read")
            self._mark_failed(RaveError(Code.INTERNAL, "reading the store failed", hint="the log says more"))
            return []
        if self.credentials is None and Announcement.CREDENTIALS not in announcements:
            # A part that has credentials from elsewhere could not save them until now.
            announcements.append(Announcement.CREDENTIALS)
        return announcements

    def _replace_contents(self, contents: Contents) -> list[Announcement]:
        """Replace the copy; returns which parts differ from the old one, all of them if there was none."""
        old, self.contents = self.contents, contents
        self._on_change()
        if old is None:
            return list(_parts(contents))
        before, after = _parts(old), _parts(contents)
        return [part for part in before if before[part] != after[part]]

    async def _announce(self, announcements: Sequence[Announcement]) -> None:
        await asyncio.gather(*(self._notify(announcement) for announcement in announcements))
        if not _IN_PERMISSIONS_CACHE.isdisjoint(announcements):
            await self._write_copy()

    async def _write_copy(self) -> None:
        async with self._copy_lock:
            assert self.contents, "something in it has changed"
            await asyncio.to_thread(self._copy.write, self.contents)


def _unavailable(what: str, why: RaveError) -> RaveError:
    return RaveError(Code.STORE, f"{what}: {why.message}", hint=why.hint, refused=what)


def _not_forgettable(user: int, why: str, hint: str) -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, f"user {user} is {why}, and can't be forgotten", hint=hint)


def _parts(contents: Contents) -> dict[Announcement, object]:
    """The parts of the contents that workers hold."""
    credentials = contents.credentials
    return {
        Announcement.ADMINS: _admins(contents),
        Announcement.PERMISSIONS: _overrides(contents),
        Announcement.IGNORED: _ignored(contents),
        Announcement.CREDENTIALS: credentials and dataclasses.replace(credentials, updated_at=None),
    }


def _admins(contents: Contents) -> frozenset[int]:
    return frozenset(admin.user_id for admin in contents.admins if admin.active)


def _ignored(contents: Contents) -> frozenset[int]:
    return frozenset(each.user_id for each in contents.ignored)


def _overrides(contents: Contents) -> dict[str, bool]:
    return {permission.command: permission.requires_admin for permission in contents.permissions}
