"""The latest changes that were made from rooms, in a file that is the same for both engines of the store."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ravesvc.common import json_fields, text_file
from ravesvc.common.atomic_files import set_aside, write_atomically
from ravesvc.errors import Code, RaveError
from ravesvc.store import chat_change
from ravesvc.store.chat_change import ChatChange, ChatUser
from ravesvc.store.model import StoreEntry

_log = logging.getLogger(__name__)

_VERSION = 1
# More than the rate limits allow all rooms together in a day.
_MAX_CHANGES = 1000
# Many times the size of a full file.
_MAX_BYTES = 8 * 1024 * 1024


class NotRecordedError(RaveError):
    """The file of changes can't be written (StoreUnavailable). The store itself is as good as before."""


class ChangeRecord:
    """Keeps changes so that they can be undone. Its methods block; a change is safe on disk when they return.

    They raise `NotRecordedError` when the file can't be written, and then the record is as it was.

    Attributes:
        changes: the latest, in the order of their numbers; may be read from any thread.
    """

    def __init__(self, path: Path) -> None:
        self.changes: tuple[ChatChange, ...] = ()
        self._path = path
        self._next = 1
        # A call runs in a thread. When its caller was cancelled, the thread may still be writing.
        self._writing = threading.Lock()

    def load(self) -> None:
        """Read the file. A file that can't be used is renamed, and the record begins empty; does not raise."""
        try:
            self._next, self.changes = read_text(text_file.decode(text_file.read(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            pass
        except (RaveError, OSError) as e:
            reason = e.message if isinstance(e, RaveError) else e.strerror
            _log.warning("%s, with the changes made from rooms, can't be used: %s", self._path, reason)
            try:
                _log.warning("It is kept as %s", set_aside(self._path))
            except OSError as failed:
                _log.warning("It can't be renamed: %s", failed.strerror)

    def find(self, number: int) -> ChatChange:
        """The change with a number; raises `RaveError` (InvalidArgument)."""
        for change in self.changes:
            if change.number == number:
                return change
        raise RaveError(
            Code.INVALID_ARGUMENT, f"there is no change {number}", hint=f"the latest {_MAX_CHANGES} are kept"
        )

    def add(self, user: ChatUser, at: datetime, before: StoreEntry | None, after: StoreEntry | None) -> ChatChange:
        """Record a change that is about to be made."""
        change = ChatChange(number=self._next, at=at, mesh=user.mesh, user=user.id, before=before, after=after)
        self._write(lambda changes: (*changes, change)[-_MAX_CHANGES:])
        return change

    def remove(self, number: int) -> None:
        """Remove a change that was not made after all."""
        self._write(lambda changes: tuple(each for each in changes if each.number != number))

    def mark_undone(self, number: int) -> None:
        """Mark a change as undone."""
        self._write(
            lambda changes: tuple(replace(each, undone=each.undone or each.number == number) for each in changes)
        )

    def forget_user(self, user: int) -> None:
        """Remove the id of a user from all changes."""
        if chat_change.without_user(self.changes, user) != self.changes:
            self._write(lambda changes: chat_change.without_user(changes, user))

    def _write(self, change: Callable[[tuple[ChatChange, ...]], tuple[ChatChange, ...]]) -> None:
        with self._writing:
            changes = change(self.changes)
            following = max(self._next, changes[-1].number + 1) if changes else self._next
            self._save(to_text(following, changes))
            self.changes, self._next = changes, following

    def _save(self, text: str) -> None:
        try:
            write_atomically(self._path, text, 0o600)
        except OSError as e:
            what = f"{self._path} can't be written: {e.strerror}"
            raise NotRecordedError(Code.STORE, what, hint="free some space", file=str(self._path)) from e


def to_text(following: int, changes: Sequence[ChatChange]) -> str:
    """What the file has: `following` is the number of the next change."""
    document = {"version": _VERSION, "next": following, "changes": [chat_change.to_object(each) for each in changes]}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def read_text(text: str) -> tuple[int, tuple[ChatChange, ...]]:
    """The number of the next change, and the changes; raises `RaveError`, which quotes nothing."""
    top = json_fields.parse_object(text, "the file")
    if json_fields.get_int(top, "version") != _VERSION:
        raise RaveError(Code.BAD_DATA, "a later version of ravesvc has written it", key="version")
    changes = tuple(
        chat_change.from_object(json_fields.as_object(each, "a change"))
        for each in json_fields.get_list(top, "changes")
    )
    numbers = [each.number for each in changes]
    following = json_fields.get_int(top, "next")
    if numbers != sorted(set(numbers)) or following <= max(numbers, default=0):
        raise RaveError(Code.BAD_DATA, "its numbers are not in order", key="number")
    return following, changes[-_MAX_CHANGES:]
