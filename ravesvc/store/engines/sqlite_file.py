"""The file of the embedded store: made, checked, opened, and kept aside when it is damaged. Blocks; for one thread.

A file that exists is a whole database: it is made elsewhere, and renamed. So one that is empty is damaged.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ravesvc.common.atomic_files import (
    damaged,
    rename_no_replace,
    retire_damaged,
    set_aside,
    write_atomically,
)
from ravesvc.common.text import count, printable, user_name
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines import sqlite_schema

T = TypeVar("T")

# SQLite keeps these beside the database: changes that are not in it yet, their index, and what undoes half a change.
_COMPANIONS = ("-wal", "-shm", "-journal")
_INDEX = "-shm"

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REFUSED = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)
_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
# Errors that may be over soon, each with a hint on how to end its cause.
_PASSING = {
    sqlite3.SQLITE_BUSY: "end the program that has locked it",
    sqlite3.SQLITE_LOCKED: "end the program that has locked it",
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "the kernel's log may say what is wrong with the disk; it may be full",
    sqlite3.SQLITE_NOMEM: "",
    sqlite3.SQLITE_PROTOCOL: "end the program that has locked it",
}
_PASSING_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# A smaller file has not even a page. SQLite may take it for a database without tables, and remove its log.
_SMALLEST = 512

_log = logging.getLogger(__name__)


class _DamageError(Exception):
    """The file is no whole database; the text says why."""


class StateFile:
    """The database in one file. It is opened when it is needed, and closed by every failure.

    Errors name the file, the reason and the fix.
    """

    def __init__(
        self,
        path: Path,
        *,
        restart: str = FOR_SERVICE.restart,
        timeout_s: float = 2.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`restart` is for hints; `timeout_s` is how many seconds it waits for a lock that another program has."""
        self._restart = restart
        self._path = path
        self._timeout_s = timeout_s
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._status: os.stat_result | None = None
        # Whether the file was good so far. An earlier damage is over when it is good at a start.
        self._good_so_far = True

    def run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, in a transaction that `begin` starts; if it raises, nothing is changed.

        Raises `RaveError`: StoreUnavailable, BadFile, BadData as `Store` says, and those of `work`.
        """
        try:
            return _transact(self._open(), begin, work)
        except _DamageError as e:
            raise self._damaged(str(e)) from e
        except sqlite3.Error as e:
            raise self._failed(e) from e
        except OSError as e:
            self.close()
            raise self._unusable(e) from e
        except UnicodeDecodeError as e:
            # SQLite quotes the definition of a table in its error text, and that is not UTF-8.
            raise self._damaged("the definition of a table is no text") from e
        except (UnicodeEncodeError, OverflowError):
            # `from None`: the cause holds the text.
            raise self._refusal("a text or number is none that it can hold") from None

    def empty_log(self) -> None:
        """Leave nothing in the log of what was deleted, unless another program reads the file now; does not fail."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the database; does not raise."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            self._ensure_in_place(self._connection)
            return self._connection
        if not os.path.lexists(self._path):
            self._make()
        self._status = self._check_file()
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw", uri=True, timeout=self._timeout_s, isolation_level=None
        )
        self._connection = connection
        # What is no UTF-8 spoils its own text alone.
        connection.text_factory = lambda text: text.decode(errors="replace")
        try:
            self._check(connection)
        except RaveError:
            self.close()
            raise
        # What is committed is on disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        # Of what is deleted nothing stays in the file: users may have themselves forgotten.
        connection.execute("PRAGMA secure_delete = ON")
        sqlite_schema.migrate(connection)
        if self._good_so_far:
            self._good_so_far = False
            retire_damaged(self._path)
        return connection

    def _make(self) -> None:
        """Create the file, unless remains of an earlier one are there that an operator may want to recover."""
        self._clear_place(None)
        if kept := [path for path in damaged(self._path) if not path.name.endswith(_COMPANIONS)]:
            raise self._lost(f"{self._path} is missing; what was there is kept as {kept[-1]}")
        write_atomically(self._path, sqlite_schema.empty(), 0o600)

    def _check_file(self) -> os.stat_result:
        """Check that it is a regular file that only our user may use."""
        status = self._path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise self._bad("it is no plain file", _rights())
        if not os.access(self._path, os.R_OK | os.W_OK, effective_ids=True):
            # Open it to get the system's error. Only then: closing a file ends the locks that SQLite has on it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CLOEXEC))
        if status.st_size < _SMALLEST:
            raise _DamageError(f"it has {count(status.st_size, 'byte')}")
        for path in (self._path, *self._companions()):
            with suppress(FileNotFoundError, PermissionError):
                if stat.S_IMODE(path.stat().st_mode) & 0o077:
                    path.chmod(0o600)
        return status

    def _check(self, connection: sqlite3.Connection) -> None:
        """Check that the database is whole, and one of ours."""
        ours = connection.execute("PRAGMA application_id").fetchone()[0] == sqlite_schema.APPLICATION_ID
        version, known = sqlite_schema.version(connection), len(sqlite_schema.STEPS)
        # Look at the version first: the tables of a later one may look like damage.
        if ours and version > known:
            hint = "install that version again, or restore a backup of this one"
            raise self._bad(f"a later version of ravesvc has written it (schema {version}, known is {known})", hint)
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise _DamageError(_words(found.removeprefix("*** in database main ***")))
        if not ours:
            raise self._bad("it is the database of another program", f"move it away, and {self._restart}")

    def _ensure_in_place(self, connection: sqlite3.Connection) -> None:
        """Write the file again if it was removed, and raise if it was replaced: changes in it would be lost."""
        here = self._path.exists()
        if here and self._status and os.path.samestat(self._path.lstat(), self._status):
            return
        # The companions belong to the former file. With another database they would damage it.
        self._clear_place(None)
        if here:
            self.close()
            raise self._bad(
                "it was replaced while it was in use", "nothing, if that was meant: what is there is used"
            )
        # The open connection still has the contents of the removed file.
        write_atomically(self._path, connection.serialize(), 0o600)
        kept = set_aside(self._path, clock=self._clock)
        self.close()
        raise self._lost(f"{self._path} was removed while it was in use; what it held is kept as {kept}")

    def _damaged(self, reason: str) -> RaveError:
        try:
            kept = set_aside(self._path, clock=self._clock)
            self._clear_place(kept)
        except OSError as e:
            return self._lost(f"{self._path} is damaged: {reason}; it can't be renamed: {e.strerror}")
        finally:
            # Close after the renaming: SQLite would write to the file before, and remove its log.
            self.close()
        return self._lost(f"{self._path} is damaged: {reason}; it is kept as {kept}")

    def _clear_place(self, kept: Path | None) -> None:
        """Move the companions away: to stand beside `kept`, or aside on their own."""
        for path, suffix in zip(self._companions(), _COMPANIONS, strict=True):
            if not path.exists():
                continue
            if suffix == _INDEX or not path.stat().st_size:
                # SQLite makes it anew.
                path.unlink()
                continue
            if kept is not None:
                with suppress(FileExistsError):
                    rename_no_replace(path, kept.with_name(kept.name + suffix))
                    continue
            aside = set_aside(path, clock=self._clock)
            _log.warning("%s belongs to no database that is here; it is kept as %s", path, aside)

    def _companions(self) -> list[Path]:
        return [self._path.with_name(self._path.name + suffix) for suffix in _COMPANIONS]

    def _failed(self, e: sqlite3.Error) -> RaveError:
        kind = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        reason = _words(str(e))
        if kind in _DAMAGE:
            return self._damaged(reason)
        if kind in _REFUSED:
            return self._refusal(reason)
        self.close()
        if kind in _PASSING:
            return self._passing(reason, _PASSING[kind])
        return self._bad(reason, _rights() if kind in _FORBIDDEN else f"restore a backup as {self._path}")

    def _unusable(self, e: OSError) -> RaveError:
        reason = e.strerror or str(e)
        if e.errno in _PASSING_ERRNOS:
            return self._passing(reason, "free some space")
        return self._bad(reason, _rights())

    def _passing(self, reason: str, hint: str) -> RaveError:
        text = f"{self._path} can't be read or written now: {reason}"
        return RaveError(Code.STORE, text, hint=hint, file=str(self._path))

    def _bad(self, reason: str, hint: str) -> RaveError:
        return RaveError(Code.BAD_FILE, f"{self._path} can't be used: {reason}", hint=hint, file=str(self._path))

    def _lost(self, text: str) -> RaveError:
        self._good_so_far = False
        hint = (
            f"restore a backup as {self._path}, or delete {self._path}.damaged-* to begin anew; then {self._restart}"
        )
        return RaveError(Code.BAD_FILE, text, hint=hint, file=str(self._path))

    def _refusal(self, reason: str) -> RaveError:
        return RaveError(Code.BAD_DATA, f"{self._path} does not take this: {reason}", file=str(self._path))


def _transact(connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    # Changes are rare. So the file is always whole by itself: a copy of it is a backup, and its log can be lost.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return result


def _words(text: str) -> str:
    return printable(" ".join(text.split()), 200)


def _rights() -> str:
    """What a file needs that the process can't use."""
    return f"the user {user_name(os.geteuid())} must own it, and be able to write in its directory"
