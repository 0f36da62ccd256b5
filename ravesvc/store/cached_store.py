"""The parent's hold on the store: a copy that can always be read, changes that are safe before they are told.

The store may be away. Then the last good copy serves the readers, changes are refused at once, and it is tried again
in the background. Children learn that something has changed, and ask again; so what is told need not be in order.
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

# Seconds that the start of the service waits for the store.
_PATIENCE = 5.0
# A file that is damaged, or a document that makes no sense, waits for a person: so many times longer than an outage.
_FOR_A_PERSON = 10
# With these an engine says that it can't be used; any other failure is about one change alone.
_LOST = (Code.STORE, Code.BAD_FILE)
# What is kept in a file of its own, for a start without the store.
_COPIED = frozenset({Announcement.ADMINS, Announcement.PERMISSIONS, Announcement.IGNORED})
# How a failure begins, before something was done and while it was.
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

    Changes, refreshes and recoveries go one after the other; readers never wait. A change raises `RaveError`:
    StoreUnavailable while the store can't be used, and what `Store` says of it; with an `actor`, a chat user, also
    AccessDenied unless that is an admin when its turn comes. What an actor changes can be undone.

    Attributes:
        error: why the store can't be used now, or None.
        contents: the last good copy; None as long as there has been none.
        last: the same, or else the admins and permissions that an earlier run has left in `copy`.
    """

    def __init__(
        self,
        store: Store,
        tell: Callable[[Announcement], Awaitable[None]],
        shown: Callable[[], None],
        *,
        copy: PermissionsCache,
        record: ChangeRecord,
        clock: Callable[[], datetime] = now,
        retry: float = 3.0,
        patience: float = _PATIENCE,
    ) -> None:
        self.error: RaveError | None = RaveError(Code.STORE, "the store is not open yet")
        self.contents: Contents | None = None
        self._store = store
        self._copy = copy
        self._record = record
        self._earlier: Contents | None = None
        self._copying = asyncio.Lock()
        self._tell = tell
        self._shown = shown
        self._clock = clock
        self._retry = retry
        self._patience = patience
        self._lock = asyncio.Lock()
        self._opened = False
        self._closed = False
        self._complained: Code | None = None  # of what the log has told, and not yet that it is over
        self._tried = asyncio.Event()
        self._hurry = asyncio.Event()
        self._recovery: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] | None = None

    @property
    def engine(self) -> str:
        """`embedded` or `mongodb`."""
        return self._store.engine

    @property
    def loaded(self) -> bool:
        """Whether anything is known of what the store holds."""
        return self.contents is not None

    @property
    def last(self) -> Contents | None:
        """See the class."""
        return self.contents or self._earlier

    @property
    def admins(self) -> frozenset[int]:
        """The user ids of the active admins."""
        return _admins(self.last) if self.last else frozenset()

    @property
    def owners(self) -> frozenset[int]:
        """The user ids of those among the admins whom no chat user may remove."""
        return frozenset(admin.user_id for admin in self.last.admins if admin.owner) if self.last else frozenset()

    @property
    def users(self) -> frozenset[int]:
        """The user ids of all who are or were admins."""
        return frozenset(admin.user_id for admin in self.last.admins) if self.last else frozenset()

    @property
    def overrides(self) -> dict[str, bool]:
        """Whether a command is for admins only, by command, where that was changed."""
        return _overrides(self.last) if self.last else {}

    @property
    def ignored(self) -> frozenset[int]:
        """The user ids of those whom no bot listens to."""
        return _ignored(self.last) if self.last else frozenset()

    @property
    def credentials(self) -> Credentials | None:
        """Those in the store, as far as is known."""
        return self.contents.credentials if self.contents else None

    @property
    def has_account(self) -> bool:
        """Whether there are credentials in the store, of whatever kind, as far as is known."""
        return bool(self.credentials or self.unusable)

    @property
    def unusable(self) -> str:
        """Why the credentials in the store make no sense; empty if they do, if there are none, or if nobody knows."""
        return self.contents.unusable if self.contents else ""

    @property
    def chat_changes(self) -> Sequence[ChatChange]:
        """The latest changes that were made from rooms, in the order of their numbers."""
        return self._record.changes

    def chat_change_ages(self) -> list[tuple[float, str]]:
        """How many seconds ago the latest changes were made from rooms, the longest first, and from which mesh."""
        # A clock that was set back since makes none of them one that is to come.
        now = max([self._clock(), *(each.at for each in self.chat_changes)])
        return [((now - each.at).total_seconds(), each.mesh) for each in self.chat_changes]

    async def start(self) -> None:
        """Open the store and read it; what fails, or takes too long, is noted and goes on in the background."""
        self._earlier = await asyncio.to_thread(self._copy.read)
        await asyncio.to_thread(self._record.load)
        self._broken = asyncio.get_running_loop().create_future()
        self._hurry.set()
        self._begin_recovery()
        try:
            await asyncio.wait_for(self._tried.wait(), self._patience)
        except TimeoutError:
            self._lose(RaveError(Code.STORE, f"the store has not answered within {self._patience:g} s"))

    async def work(self) -> None:
        """Wait for ever, once it was started; raises what has ended a recovery: nothing is read any more then."""
        assert self._broken, "it was started"
        await asyncio.shield(self._broken)

    async def close(self) -> None:
        """Let go of the store, after the change that is under way."""
        self._closed = True
        if self._recovery:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        async with self._lock:
            self.error = _CLOSED
            await self._store.close()

    def reachable(self, answers: bool) -> None:  # noqa: FBT001 - the one thing that the engine tells
        """What the engine notices by itself: its server is lost, or answers again."""
        if answers:
            self._hurry.set()
        elif not self.error:
            self._lose(RaveError(Code.STORE, "the store's server can't be reached"))

    async def refresh(self) -> Contents:
        """Read everything again, also what somebody else has changed or mended."""
        async with self._lock:
            if self._closed:
                raise _refusal("nothing can be read", _CLOSED)
            try:
                told = await self._load()
            except RaveError as e:
                raise _refusal("nothing can be read", e) from e
            contents = self.contents
        # A recovery that waits has nothing left to do; the next outage is to find it gone.
        self._hurry.set()
        await self._announce(told)
        assert contents, "it was read"
        return contents

    async def insist_on_changes(self) -> None:
        """Change nothing, which raises as a change that can't be saved does."""
        try:
            async with self._using():
                await self._store.remove_permission(_NO_COMMAND)
        except RaveError as e:
            raise _refusal("changes can't be saved", self.error or e) from e

    async def add_admin(self, user: int, added_by: int, *, actor: ChatUser | None = None) -> bool:
        """Make a user an admin, and an owner if `added_by` is that user; False if they are one already."""
        admin = Admin(user_id=user, added_by=added_by, added_at=self._clock())

        async def write() -> bool:
            # Who asks is an admin already, and becomes no owner by naming themselves.
            return (actor is None or actor.id != user) and await self._store.add_admin(admin)

        return await self._change_if(write, lambda old: old.with_admin(admin), actor)

    async def claim_admin(self, user: ChatUser) -> bool:
        """Make a chat user an owner who has a code of the host; False if they are one."""
        # As if an operator had added them.
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
        """Have no bot listen to a user; False if none does. Raises `RaveError` (InvalidArgument) for an admin."""
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
        """Say whom a command is for; `by` is a user id, 0 for an operator."""
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
        """Take back a change that was made from a room; False if what it has changed is as before already.

        Raises `RaveError` (InvalidArgument, Conflict, LastAdmin) too.
        """
        async with self._using():
            change = self._record.find(number)
            undone = await undo(self._store, change, await self._store.read())
            told = self._keep(await self._store.read())
        await self._announce(told)
        try:
            await asyncio.to_thread(self._record.mark_undone, number)
        except NotRecordedError as e:
            raise RaveError(
                Code.STORE, f"change {number} is undone, but still listed: {e.message}", hint=e.hint
            ) from e
        return undone

    async def save_credentials(self, credentials: Credentials) -> None:
        """Put them in the place of the former ones."""
        credentials = dataclasses.replace(credentials, updated_at=self._clock())
        await self._change(
            lambda: self._store.save_credentials(credentials),
            lambda old: old.with_credentials(credentials),
        )

    async def fill_credentials(self, credentials: Credentials) -> bool:
        """Save them unless the store has some, of whatever kind; tells whether it had none."""
        credentials = dataclasses.replace(credentials, updated_at=self._clock())
        async with self._using() as old:
            if old.credentials or old.unusable:
                return False
            await self._store.save_credentials(credentials)
            told = self._keep(old.with_credentials(credentials))
        await self._announce(told)
        return True

    async def remove_credentials(self, removed: Callable[[], None] = lambda: None) -> bool:
        """Take the account out; False if there is none. `removed` is called as in `replace`."""

        async def write() -> bool:
            there = await self._store.remove_credentials()
            removed()
            return there

        return await self._change_if(write, lambda old: old.without_credentials(), None)

    async def replace(self, contents: Contents, replaced: Callable[[], None] = lambda: None) -> None:
        """Put `contents` in the place of everything. `replaced` is called when it is safe, before anybody is told."""

        async def write() -> None:
            await self._store.replace(contents)
            replaced()

        await self._change(write, lambda _old: contents)

    async def read_rooms(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """What `work` reads of what rooms remember, which is no part of the copy."""
        async with self._using(failing=_READING):
            return await work(self._store)

    async def change_rooms(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """What `work` returns, which changes what rooms remember."""
        async with self._using():
            return await work(self._store)

    def insist_on_forgettable(self, user: int) -> None:
        """Raise `RaveError` (InvalidArgument) for a user of whom something has to be kept; StoreUnavailable."""
        if self.error:
            raise _refusal("changes can't be saved", self.error)
        if user in self.admins:
            raise _needed(user, "an admin", "have that right removed first")
        if user in self.ignored:
            raise _needed(user, "ignored by all bots", "have them listen again first")
        if self.credentials and self.credentials.user_id == user:
            raise _needed(user, "the bot itself", "")

    async def forget_user(self, user: int) -> int:
        """Take a user out of the entries about others, and delete what is left of a former admin.

        Returns how many entries that has changed. Raises `RaveError` (InvalidArgument) as `insist_on_forgettable`.
        """
        async with self._using():
            # They may have become an admin while this change waited for its turn.
            self.insist_on_forgettable(user)
            changed = await self._store.forget_user(user)
            told = self._keep(await self._store.read())
        await self._announce(told)
        # It may hold more than is told, and an earlier attempt may have ended before it was written.
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
        """A change by an operator, or by a chat user who has to be an admin when its turn comes."""
        return await self._make(write, after, must_be_admin=actor, recorded_for=actor)

    async def _make(
        self,
        write: Callable[[], Awaitable[bool]],
        after: Callable[[Contents], Contents],
        *,
        must_be_admin: ChatUser | None,
        recorded_for: ChatUser | None,
    ) -> bool:
        """A change that may turn out not to be one. Then the copy may be out of date, and is read again.

        Args:
            must_be_admin: the chat user who asks, and is refused unless an admin; None if no one is refused.
            recorded_for: the chat user whose change it is, which can be undone; None for an operator's.
        """
        async with self._using(must_be_admin) as old:
            changed = await (self._recorded(write, after, recorded_for) if recorded_for else write())
            told = self._keep(after(old) if changed else await self._store.read())
        await self._announce(told)
        return changed

    async def _recorded(
        self, write: Callable[[], Awaitable[bool]], after: Callable[[Contents], Contents], user: ChatUser
    ) -> bool:
        """A chat user's change, under the lock.

        It is noted before it is made: after a crash in between the record has a change that was not made, which is
        as if it were undone. The other way round there could be a change that nobody can undo.
        """
        before = await self._store.read()
        changing = difference(before, after(before))
        if changing is None:
            return await write()
        noted = await asyncio.to_thread(self._record.add, user, self._clock(), *changing)
        try:
            changed = await write()
        except RaveError as e:
            # With the other codes it may have been carried out all the same.
            if e.code not in _LOST:
                await self._take_note_back(noted)
            raise
        if not changed:
            await self._take_note_back(noted)
        return changed

    async def _take_note_back(self, noted: ChatChange) -> None:
        """Drop the note of a change that was not made. If that fails it stays, and to undo it does nothing."""
        try:
            await asyncio.to_thread(self._record.remove, noted.number)
        except NotRecordedError as e:
            log.warning("Change %d was not made, but is still listed: %s", noted.number, e)

    @contextlib.asynccontextmanager
    async def _using(
        self, actor: ChatUser | None = None, failing: tuple[str, str] = _CHANGING
    ) -> AsyncIterator[Contents]:
        """The store for one change, and the copy that was good until then."""
        before, during = failing
        if self.error:
            # Without waiting for a recovery that may take its time.
            raise _refusal(before, self.error)
        async with self._lock:
            if self.error:
                raise _refusal(before, self.error)
            assert self.contents, "a store that can be used has been read"
            if actor is not None and actor.id not in self.admins:
                # The right may have gone while this change waited for its turn.
                raise RaveError(Code.ACCESS_DENIED, "only admins may change that")
            try:
                yield self.contents
            except NotRecordedError:
                # Only changes from rooms are noted: those of operators can be made as before.
                raise
            except RaveError as e:
                if e.code not in _LOST:
                    raise
                await self._fail(e)
                raise _refusal(during, e) from e
            except BaseException:
                if failing is not _READING:
                    self._lose(RaveError(Code.STORE, "a change was broken off"))
                raise

    async def _load(self) -> list[Announcement]:
        """Make the copy anew, under the lock; returns what is to be told. Raises `RaveError`, and has noted it."""
        try:
            if not self._opened:
                await self._store.open()
                self._opened = True
            contents = await self._store.read()
        except RaveError as e:
            await self._fail(e)
            raise
        self.error = None
        if self._complained:
            log.info("The store works again")
            self._complained = None
        return self._keep(contents)

    async def _fail(self, error: RaveError) -> None:
        """Note a loss, under the lock."""
        self._lose(error)
        if error.code is Code.BAD_FILE and self._opened:
            # Who mends a file may put another in its place.
            self._opened = False
            await self._store.close()

    def _lose(self, error: RaveError) -> None:
        if self.error is None:
            # It was about a former outage.
            self._hurry.clear()
        self.error = error
        if self._complained is not error.code:
            extra = about(event=LogEvent.STORE_FAILED)
            log.error("The store can't be used, so nothing can be changed: %s", error, extra=extra)
            self._complained = error.code
        if not self._closed and (self._recovery is None or self._recovery.done()):
            self._begin_recovery()
        self._shown()

    def _begin_recovery(self) -> None:
        self._recovery = asyncio.create_task(self._recover())
        self._recovery.add_done_callback(self._recovery_ended)

    def _recovery_ended(self, recovery: asyncio.Task[None]) -> None:
        """Hand on what has ended a recovery.

        It tells everybody of what it has read, and one of those may fail. No caller waits for it: at the first start
        with a `tls.ca_file` that could not be read the service said "starting" for ever, with an empty log.
        """
        if not recovery.cancelled() and (error := recovery.exception()) and self._broken and not self._broken.done():
            self._broken.set_exception(error)
            # Seen: at the end of the service there is no one left to wait for it.
            self._broken.exception()

    async def _recover(self) -> None:
        """Try until the store can be used."""
        while self.error:
            pause = self._retry if self.error.code is Code.STORE else self._retry * _FOR_A_PERSON
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurry.wait()
            self._hurry.clear()
            async with self._lock:
                # A refresh may have come first.
                told = await self._try() if self.error else []
            self._tried.set()
            await self._announce(told)

    async def _try(self) -> list[Announcement]:
        try:
            told = await self._load()
        except RaveError:
            return []
        except Exception:
            # A bug of one attempt must not end them all.
            if self._complained is not Code.INTERNAL:
                log.exception("The store could not be read")
            self._lose(RaveError(Code.INTERNAL, "reading the store failed", hint="the log says more"))
            return []
        if self.credentials is None and Announcement.CREDENTIALS not in told:
            # Whoever has some could not save them until now.
            told.append(Announcement.CREDENTIALS)
        return told

    def _keep(self, contents: Contents) -> list[Announcement]:
        """Take over a new copy; returns what differs from the old one, which is everything if there was none."""
        old, self.contents = self.contents, contents
        self._shown()
        if old is None:
            return list(_parts(contents))
        before, after = _parts(old), _parts(contents)
        return [part for part in before if before[part] != after[part]]

    async def _announce(self, told: Sequence[Announcement]) -> None:
        await asyncio.gather(*(self._tell(announcement) for announcement in told))
        if not _COPIED.isdisjoint(told):
            await self._write_copy()

    async def _write_copy(self) -> None:
        async with self._copying:
            assert self.contents, "something in it has changed"
            await asyncio.to_thread(self._copy.write, self.contents)


def _refusal(what: str, why: RaveError) -> RaveError:
    return RaveError(Code.STORE, f"{what}: {why.message}", hint=why.hint, refused=what)


def _needed(user: int, why: str, hint: str) -> RaveError:
    return RaveError(Code.INVALID_ARGUMENT, f"user {user} is {why}, and can't be forgotten", hint=hint)


def _parts(contents: Contents) -> dict[Announcement, object]:
    """What children hold of a copy."""
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
