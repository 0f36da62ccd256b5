"""What a plugin keeps of a room, with the service: values by key, for the room and for users in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Protocol, TypeAlias, TypeVar

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES
from ravesvc.common.forget import without_users
from ravesvc.errors import Code, RaveError

T = TypeVar("T")
Json: TypeAlias = Any

# What `ravesvc.store.room_document` allows after the prefix.
_NAME = re.compile(r"[a-z0-9_-]{1,24}")
_PREFIX = "plugin-"
_MAX_KEY_CHARS = 64
# Under this key `ravesvc.common.forget` finds users.
_USERS, _ROOM = "users", "room"


class Documents(Protocol):
    """Where documents are kept: see `ravesvc.bot.backend.Backend`."""

    async def read_document(self, name: str) -> str | None:
        """A document of the room as JSON; None if there is none of that name."""

    async def write_document(self, name: str, text: str) -> None:
        """Put JSON in the place of a document."""


class PluginDocument:
    """The document of one plugin. While the bot runs nobody else changes it, but to forget users."""

    def __init__(self, source: str, documents: Documents) -> None:
        """`source` is the file or package."""
        self._name = document_name(source)
        self._documents = documents
        self._text: str | None = None
        # A change is read and written before the next one begins.
        self._lock = asyncio.Lock()
        # Whom the service may still name in what is read from now on.
        self._forgotten: set[int] = set()

    def forget(self, user: int) -> None:
        """Remove a user from what was read, and from what is being read or written at this moment."""
        self._forgotten.add(user)
        if self._text is not None:
            self._text = self._without_forgotten(self._text)

    def know(self, user: int) -> None:
        """A user who was forgotten may be kept again."""
        self._forgotten.discard(user)

    async def read(self) -> dict[str, dict[str, Json]]:
        """A copy of all values."""
        async with self._lock:
            return await self._load()

    async def change(self, work: Callable[[dict[str, dict[str, Json]]], T]) -> T:
        """Have `work` change the values, and save them; if that fails they are as before."""
        async with self._lock:
            values = await self._load()
            result = work(values)
            text = _to_text(values)
            # Until the service has answered it is not known what it has.
            self._text = None
            await self._documents.write_document(self._name, text)
            self._text = self._without_forgotten(text)
            return result

    async def _load(self) -> dict[str, dict[str, Json]]:
        if self._text is None:
            self._text = self._without_forgotten(await self._documents.read_document(self._name) or "{}")
        found = json.loads(self._text)
        # Only an import can have brought what this has not written.
        if not isinstance(found, dict):
            return {}
        return {key: values for key, values in found.items() if isinstance(values, dict)}

    def _without_forgotten(self, text: str) -> str:
        return json.dumps(without_users(json.loads(text), self._forgotten)[0]) if self._forgotten else text


class PluginStore:
    """The values that a plugin keeps for one room, or for one user in it. They outlive the bot.

    A key is a text of at most 64 characters, a value anything that JSON can be. What is returned is a copy. All
    values of a plugin in a room take at most 60 KiB together, and a room may save once a second, after some forty at
    once: keep what changes with each message in a variable, and save it at times.

    Every method raises `RaveError`: StoreUnavailable, NotRunning, RateLimited, InvalidArgument, TooLarge.
    """

    def __init__(self, document: PluginDocument, user: int | None = None) -> None:
        self._document = document
        self._user = user

    def of(self, user: int) -> PluginStore:
        """What is kept for a user in this room. `?forgetme` of that user removes it."""
        return PluginStore(self._document, user)

    async def get(self, key: str, default: Json = None) -> Json:
        """A value; the default if there is none."""
        return (await self.all()).get(key, default)

    async def all(self) -> dict[str, Json]:
        """All values by key."""
        values = await self._document.read()
        if self._user is None:
            return values.get(_ROOM, {})
        found = values.get(_USERS, {}).get(str(self._user), {})
        return found if isinstance(found, dict) else {}

    async def users(self) -> dict[int, dict[str, Json]]:
        """The values of all users in this room, by user id."""
        found = (await self._document.read()).get(_USERS, {})
        return {int(user): values for user, values in found.items() if user.isdecimal() and isinstance(values, dict)}

    async def set(self, key: str, value: Json) -> None:
        """Keep a value, in place of the former one; it is safe with the service when this returns."""
        await self.update(key, lambda former: value)

    async def delete(self, key: str) -> None:
        """Keep no value under this key."""
        await self._document.change(lambda values: self._mine(values).pop(key, None))

    async def update(self, key: str, change: Callable[[Json], Json], default: Json = None) -> Json:
        """Put what `change` makes of a value, or of the default, in its place, and return it.

        No other change comes in between.
        """
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_CHARS:
            raise RaveError(Code.INVALID_ARGUMENT, f"a key is a text of 1 to {_MAX_KEY_CHARS} characters")

        def work(values: dict[str, dict[str, Json]]) -> Json:
            mine = self._mine(values)
            mine[key] = change(mine.get(key, default))
            return mine[key]

        return await self._document.change(work)

    def _mine(self, values: dict[str, dict[str, Json]]) -> dict[str, Json]:
        """The values that this is about, to be changed."""
        if self._user is None:
            return values.setdefault(_ROOM, {})
        self._document.know(self._user)
        users, user = values.setdefault(_USERS, {}), str(self._user)
        if not isinstance(users.get(user), dict):
            users[user] = {}
        mine: dict[str, Json] = users[user]
        return mine


def _to_text(values: Json) -> str:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        what = f"a plugin keeps at most {MAX_DOCUMENT_BYTES >> 10} KiB in a room"
        raise RaveError(Code.TOO_LARGE, what, hint="remove something first")
    return text


def document_name(source: str) -> str:
    """The name of the document of a file, by its name without .py, or of a module."""
    name = PurePath(source).stem if source.endswith(".py") else source
    # Few characters may stand in such a name.
    digest = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
    return _PREFIX + (name if _NAME.fullmatch(name) else digest)
