"""The embedded store: one SQLite database in one file, with nothing to install."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from ravesvc.common.loop_thread import LoopThread
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines.sqlite_file import StateFile
from ravesvc.store.model import (
    Admin,
    CommandPermission,
    Contents,
    Credentials,
    Host,
    IgnoredUser,
    by_command,
    command_key,
)
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument

T = TypeVar("T")

# The limit of a call, and the share of it in which it waits for a lock of another program.
_CALL_TIMEOUT_S = 5.0
_LOCK_TIMEOUT_S = 2.0

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)

# A change takes the lock before it reads, so that no other program writes between its reading and its writing.
_CHANGE = "BEGIN IMMEDIATE"


class SqliteStore:
    """See `Store`. SQLite lives in a thread of its own, in which each call is one transaction.

    Cancelling a caller does not interrupt its call: a call that has begun is carried out as a whole.
    """

    engine = "embedded"

    def __init__(
        self,
        path: Path,
        *,
        restart: str = FOR_SERVICE.restart,
        timeout_s: float = _CALL_TIMEOUT_S,
        lock_timeout_s: float = _LOCK_TIMEOUT_S,
    ) -> None:
        """`restart` is for hints, see `Advice`."""
        self._path = path
        self._restart = restart
        self._timeout_s = timeout_s
        self._lock_timeout_s = lock_timeout_s
        self._thread: LoopThread | None = None

    async def open(self) -> None:
        """See `Store`. A file that is missing is made; one that is damaged is kept aside, and then none is made."""
        if self._thread is None:
            self._file = StateFile(self._path, restart=self._restart, timeout_s=self._lock_timeout_s)
            self._thread = LoopThread("sqlite")
        await self.read()

    async def register_host(self, host: Host) -> Host:
        """See `Store`. Hosts don't share the file."""
        return host

    async def take_over(self, host: Host) -> None:
        """See `Store`."""

    async def release(self, host: Host) -> None:
        """See `Store`."""

    async def close(self) -> None:
        """See `Store`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            with suppress(TimeoutError):
                await thread.call(_aside(self._file.close), self._timeout_s)
        finally:
            await thread.stop(self._timeout_s)

    async def read(self) -> Contents:
        """See `Store`."""
        # In one transaction, so that all tables are read as they were at one moment.
        return await self._run("BEGIN", _read)

    async def replace(self, contents: Contents) -> None:
        """See `Store`."""

        def replace(database: sqlite3.Connection) -> None:
            for table in ("credentials", "admin_users", "command_permissions", "ignored_users"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
            if contents.credentials:
                _put_credentials(database, contents.credentials)
            for admin in contents.admins:
                _add_admin(database, admin)
            for permission in contents.permissions:
                _put_permission(database, permission)
            for ignored in contents.ignored:
                _ignore(database, ignored)

        await self._run(_CHANGE, replace)

    async def save_credentials(self, credentials: Credentials) -> None:
        """See `Store`."""
        await self._run(_CHANGE, lambda database: _put_credentials(database, credentials))

    async def remove_credentials(self) -> bool:
        """See `Store`."""
        return await self._run(_CHANGE, lambda database: bool(database.execute("DELETE FROM credentials").rowcount))

    async def add_admin(self, admin: Admin) -> bool:
        """See `Store`."""
        return await self._run(_CHANGE, lambda database: _add_admin(database, admin))

    async def remove_admin(self, user_id: int) -> bool:
        """See `Store`."""

        def remove(database: sqlite3.Connection) -> bool:
            active = {user for (user,) in database.execute("SELECT user_id FROM admin_users WHERE is_active")}
            if user_id not in active:
                return False
            if len(active) == 1:
                raise RaveError(Code.LAST_ADMIN, "the last admin can't be removed", hint="add another one first")
            database.execute("UPDATE admin_users SET is_active = 0 WHERE user_id = ?", (user_id,))
            return True

        return await self._run(_CHANGE, remove)

    async def set_permission(self, permission: CommandPermission) -> None:
        """See `Store`."""

        def put(database: sqlite3.Connection) -> None:
            _drop_permission(database, permission.command)
            _put_permission(database, permission)

        await self._run(_CHANGE, put)

    async def remove_permission(self, command: str) -> bool:
        """See `Store`."""

        return await self._run(_CHANGE, lambda database: _drop_permission(database, command))

    async def ignore_user(self, ignored: IgnoredUser) -> bool:
        """See `Store`."""
        return await self._run(_CHANGE, lambda database: _ignore(database, ignored))

    async def unignore_user(self, user_id: int) -> bool:
        """See `Store`."""

        def remove(database: sqlite3.Connection) -> bool:
            return bool(database.execute("DELETE FROM ignored_users WHERE user_id = ?", (user_id,)).rowcount)

        return await self._run(_CHANGE, remove)

    async def forget_user(self, user_id: int) -> int:
        """See `Store`."""

        def forget(database: sqlite3.Connection) -> int:
            statements = (
                "DELETE FROM admin_users WHERE user_id = ? AND NOT is_active",
                "UPDATE admin_users SET added_by = 0 WHERE added_by = ?",
                "UPDATE command_permissions SET updated_by = 0 WHERE updated_by = ?",
                "UPDATE ignored_users SET added_by = 0 WHERE added_by = ?",
            )
            return sum(database.execute(statement, (user_id,)).rowcount for statement in statements)

        changed = await self._run(_CHANGE, forget)
        if self._thread is not None:
            await self._thread.call(_aside(self._file.empty_log), self._timeout_s)
        return changed

    async def list_documents(self) -> list[DocumentSize]:
        """See `Store`."""
        return await self._run("BEGIN", _list_documents)

    async def read_document(self, mesh: str, kind: DocumentKind, name: str) -> RoomDocument | None:
        """See `Store`."""

        def read(database: sqlite3.Connection) -> RoomDocument | None:
            found = database.execute(
                "SELECT updated_at, text FROM room_documents WHERE mesh_id = ? AND kind = ? AND name = ?",
                (mesh, kind, name),
            ).fetchone()
            return found and RoomDocument(mesh=mesh, kind=kind, name=name, updated_at=_date(found[0]), text=found[1])

        return await self._run("BEGIN", read)

    async def write_document(self, document: RoomDocument) -> None:
        """See `Store`."""
        await self._run(_CHANGE, lambda database: _put_document(database, document))

    async def read_room(self, mesh: str) -> list[RoomDocument]:
        """See `Store`."""

        def read(database: sqlite3.Connection) -> list[RoomDocument]:
            found = database.execute(
                "SELECT kind, name, updated_at, text FROM room_documents WHERE mesh_id = ? ORDER BY kind, name",
                (mesh,),
            )
            return [
                RoomDocument(mesh=mesh, kind=DocumentKind(kind), name=name, updated_at=_date(at), text=text)
                for kind, name, at, text in found
            ]

        return await self._run("BEGIN", read)

    async def replace_room(self, mesh: str, new: Sequence[RoomDocument]) -> None:
        """See `Store`."""

        def replace(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM room_documents WHERE mesh_id = ?", (mesh,))
            for document in new:
                _put_document(database, document)

        await self._run(_CHANGE, replace)

    async def _run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the thread, in one transaction."""
        if self._thread is None:
            raise RaveError(Code.STORE, f"{self._path} is not open", file=str(self._path))
        try:
            return await self._thread.call(_aside(lambda: self._file.run(begin, work)), self._timeout_s)
        except TimeoutError:
            text = f"{self._path} has not answered within {self._timeout_s:g} s"
            hint = "the disk may be slow or broken: the kernel's log may say more"
            raise RaveError(Code.STORE, text, hint=hint, file=str(self._path)) from None


async def _aside(work: Callable[[], T]) -> T:
    # A call that was cancelled while it waited for its turn ends here, before it does anything.
    await asyncio.sleep(0)
    return work()


def _read(database: sqlite3.Connection) -> Contents:
    credentials = database.execute(
        "SELECT email, device_id, ssaid, parse_id, parse_token, auth_token, user_id, updated_at FROM credentials"
    ).fetchone()
    admins = database.execute("SELECT user_id, added_by, added_at, is_active FROM admin_users ORDER BY user_id")
    permissions = database.execute(
        "SELECT command_name, requires_admin, description, updated_at, updated_by FROM command_permissions"
        " ORDER BY command_name"
    )
    ignored = database.execute("SELECT user_id, added_by, added_at FROM ignored_users ORDER BY user_id")
    return Contents(
        credentials=_credentials(*credentials) if credentials else None,
        admins=tuple(
            Admin(user_id=user, added_by=by, added_at=_date(at), active=bool(active))
            for user, by, at, active in admins
        ),
        permissions=by_command(
            CommandPermission(
                command=command_key(command),
                requires_admin=bool(requires_admin),
                description=description,
                updated_at=_date(at),
                updated_by=by,
            )
            for command, requires_admin, description, at, by in permissions
        ),
        ignored=tuple(IgnoredUser(user_id=user, added_by=by, added_at=_date(at)) for user, by, at in ignored),
    )


def _credentials(
    email: str,
    device_id: str,
    ssaid: str,
    parse_id: str,
    parse_token: str,
    auth_token: str,
    user_id: int | None,
    updated_at: int | None,
) -> Credentials:
    return Credentials(
        email=email,
        device_id=device_id,
        ssaid=ssaid,
        parse_id=parse_id,
        parse_token=parse_token,
        auth_token=auth_token,
        user_id=user_id,
        updated_at=None if updated_at is None else _date(updated_at),
    )


def _put_credentials(database: sqlite3.Connection, credentials: Credentials) -> None:
    database.execute(
        "INSERT OR REPLACE INTO credentials VALUES ('bot_credentials', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            credentials.email,
            credentials.device_id,
            credentials.ssaid,
            credentials.parse_id,
            credentials.parse_token,
            credentials.auth_token,
            credentials.user_id,
            credentials.updated_at and _milliseconds(credentials.updated_at),
        ),
    )


def _add_admin(database: sqlite3.Connection, admin: Admin) -> bool:
    change = database.execute(
        "INSERT INTO admin_users VALUES (?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET"
        " added_by = excluded.added_by, added_at = excluded.added_at, is_active = excluded.is_active"
        " WHERE NOT is_active OR (excluded.added_by = user_id AND added_by <> user_id)",
        (admin.user_id, admin.added_by, _milliseconds(admin.added_at), admin.active),
    )
    return bool(change.rowcount)


def _ignore(database: sqlite3.Connection, ignored: IgnoredUser) -> bool:
    change = database.execute(
        "INSERT OR IGNORE INTO ignored_users VALUES (?, ?, ?)",
        (ignored.user_id, ignored.added_by, _milliseconds(ignored.added_at)),
    )
    return bool(change.rowcount)


def _put_permission(database: sqlite3.Connection, permission: CommandPermission) -> None:
    database.execute(
        "INSERT INTO command_permissions VALUES (?, ?, ?, ?, ?)",
        (
            permission.command,
            permission.requires_admin,
            permission.description,
            _milliseconds(permission.updated_at),
            permission.updated_by,
        ),
    )


def _drop_permission(database: sqlite3.Connection, command: str) -> bool:
    """Delete a command's permission, also under other spellings that earlier versions have written."""
    names = database.execute("SELECT command_name FROM command_permissions").fetchall()
    found = [(name,) for (name,) in names if command_key(name) == command]
    database.executemany("DELETE FROM command_permissions WHERE command_name = ?", found)
    return bool(found)


def _list_documents(database: sqlite3.Connection) -> list[DocumentSize]:
    found = database.execute(
        "SELECT mesh_id, kind, name, length(CAST(text AS BLOB)), updated_at FROM room_documents"
        " ORDER BY mesh_id, kind, name"
    )
    return [
        DocumentSize(mesh=mesh, kind=DocumentKind(kind), name=name, size=size, updated_at=_date(at))
        for mesh, kind, name, size, at in found
    ]


def _put_document(database: sqlite3.Connection, document: RoomDocument) -> None:
    database.execute(
        "INSERT OR REPLACE INTO room_documents VALUES (?, ?, ?, ?, ?)",
        (document.mesh, document.kind, document.name, _milliseconds(document.updated_at), document.text),
    )


def _milliseconds(date: datetime) -> int:
    return (date - _EPOCH) // _MILLISECOND


def _date(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
