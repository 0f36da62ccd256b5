"""What a plugin keeps with the service: values by key, for a room or for all rooms, and for users there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES, PLUGIN_PREFIX
from ravesvc.common.forget import without_users
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

T = TypeVar("T")
Json: TypeAlias = Any
Values: TypeAlias = "dict[str, dict[str, Json]]"

# What `ravesvc.store.room_document` allows after the prefix.
_NAME = re.compile(r"[a-z0-9_-]{1,24}")
# To change a document that others change as well.
_MAX_ATTEMPTS = 8
_MAX_KEY_CHARS = 64
# Of a user id.
_MAX_ID_CHARS = 20
# Under this key `ravesvc.common.forget` finds users.
_USERS, _ROOM = "users", "room"


if TYPE_CHECKING:
    # No process needs protocols to run, and each would cost a bot 5 KB.
    class Documents(Protocol):
        """Where documents are kept: see `ravesvc.bot.backend.Backend`."""

        async def read_document(self, name: str) -> str | None:
            """A document of the room as JSON; None if there is none of that name."""

        async def write_document(self, name: str, text: str) -> None:
            """Put JSON in the place of a document."""

        async def read_shared(self, name: str) -> tuple[str, str]:
            """A document that all rooms share as JSON, and its version; both are empty if there is none."""

        async def write_shared(self, name: str, text: str, version: str) -> bool:
            """Put JSON in the place of a version of such a document; False if it has another version by now."""

    class PluginDocument(Protocol):
        """The document of one plugin."""

        async def read(self) -> Values:
            """A copy of all values."""

        async def change(self, work: Callable[[Values], T]) -> T:
            """Have `work` change the values, and save them; if that fails they are as before."""

        def forget(self, user: int) -> None:
            """Remove a user from what was read, and from what is being read or written at this moment."""

        def know(self, user: int) -> None:
            """A user who was forgotten may be kept again."""


class RoomPluginDocument:
    """The document of one plugin in this room. While the bot runs, the service changes it only to forget users."""

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
        """See `PluginDocument`."""
        self._forgotten.add(user)
        if self._text is not None:
            self._text = _without(self._forgotten, self._text)

    def know(self, user: int) -> None:
        """See `PluginDocument`."""
        self._forgotten.discard(user)

    async def read(self) -> Values:
        """See `PluginDocument`."""
        async with self._lock:
            return await self._load()

    async def change(self, work: Callable[[Values], T]) -> T:
        """See `PluginDocument`."""
        async with self._lock:
            values = await self._load()
            result = work(values)
            _drop_empty_users(values)
            text = _to_text(values)
            # Until the service has answered it is not known what it has.
            self._text = None
            await self._documents.write_document(self._name, text)
            self._text = _without(self._forgotten, text)
            return result

    async def _load(self) -> Values:
        if self._text is None:
            self._text = _without(self._forgotten, await self._documents.read_document(self._name) or "{}")
        return _values(self._text)


class SharedPluginDocument:
    """The document of one plugin that all rooms share. The bots of other rooms change it at any time."""

    def __init__(self, source: str, documents: Documents) -> None:
        """`source` is the file or package."""
        self._name = document_name(source)
        self._documents = documents
        self._lock = asyncio.Lock()
        self._forgotten: set[int] = set()

    def forget(self, user: int) -> None:
        """See `PluginDocument`."""
        self._forgotten.add(user)

    def know(self, user: int) -> None:
        """See `PluginDocument`."""
        self._forgotten.discard(user)

    async def read(self) -> Values:
        """See `PluginDocument`."""
        text, _version = await self._documents.read_shared(self._name)
        return _values(_without(self._forgotten, text or "{}"))

    async def change(self, work: Callable[[Values], T]) -> T:
        """See `PluginDocument`; `work` is called again whenever another room was quicker.

        Scenario: two rooms read the same version, and both write. The service takes the first; the second learns that
        its version is an old one, and begins anew with what the first has written.
        """
        async with self._lock:
            for _attempt in range(_MAX_ATTEMPTS):
                text, version = await self._documents.read_shared(self._name)
                values = _values(_without(self._forgotten, text or "{}"))
                result = work(values)
                _drop_empty_users(values)
                if await self._documents.write_shared(self._name, _to_text(values), version):
                    return result
        raise RaveError(Code.BUSY, _("other rooms change the same at this moment"), hint=_("try again"))


class PluginStore:
    """The values that a plugin keeps for one room, or for all rooms, or for one user there. They outlive the bot.

    A key is a text of at most 64 characters, a value anything that JSON can be. What is returned is a copy. All
    values of a plugin in a room take at most 60 KiB together, as do those for all rooms, and a room may save once a
    second, after some forty at once: keep what changes with each message in a variable, and save it at times.

    Every method raises `RaveError`: StoreUnavailable, NotRunning, RateLimited, InvalidArgument, TooLarge; for all
    rooms Busy as well.
    """

    def __init__(self, document: PluginDocument, user: int | None = None) -> None:
        self._document = document
        self._user = user

    def of(self, user: int) -> PluginStore:
        """What is kept for a user. `?forgetme` of that user removes it."""
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
        """The values of all users, by user id."""
        found = (await self._document.read()).get(_USERS, {})
        return {
            int(user): values
            for user, values in found.items()
            if user.isdecimal() and len(user) <= _MAX_ID_CHARS and isinstance(values, dict)
        }

    async def set(self, key: str, value: Json) -> None:
        """Keep a value, in place of the former one; it is safe with the service when this returns."""
        await self.update(key, lambda former: value)

    async def delete(self, key: str) -> None:
        """Keep no value under this key."""
        await self._document.change(lambda values: self._mine(values).pop(key, None))

    async def update(self, key: str, change: Callable[[Json], Json], default: Json = None) -> Json:
        """Put what `change` makes of a value, or of the default, in its place, and return it.

        No other change comes in between. For all rooms `change` may be called more than once.
        """
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_CHARS:
            raise RaveError(Code.INVALID_ARGUMENT, _("a key is a text of 1 to {n} characters", n=_MAX_KEY_CHARS))

        def work(values: Values) -> Json:
            mine = self._mine(values)
            mine[key] = change(mine.get(key, default))
            return mine[key]

        return await self._document.change(work)

    def _mine(self, values: Values) -> dict[str, Json]:
        """The values that this is about, to be changed."""
        if self._user is None:
            return values.setdefault(_ROOM, {})
        self._document.know(self._user)
        users, user = values.setdefault(_USERS, {}), str(self._user)
        if not isinstance(users.get(user), dict):
            users[user] = {}
        mine: dict[str, Json] = users[user]
        return mine


def _drop_empty_users(values: Values) -> None:
    """A user for whom nothing is kept takes no place."""
    if _USERS in values:
        values[_USERS] = {user: kept for user, kept in values[_USERS].items() if kept != {}}


def _to_text(values: Json) -> str:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        what = _("a plugin keeps at most {n} KiB in a room, and as much for all rooms", n=MAX_DOCUMENT_BYTES >> 10)
        raise RaveError(Code.TOO_LARGE, what, hint=_("remove something first"))
    return text


def _values(text: str) -> Values:
    # Only an import can have brought what this has not written.
    found = json.loads(text)
    if not isinstance(found, dict):
        return {}
    return {key: values for key, values in found.items() if isinstance(values, dict)}


def _without(users: set[int], text: str) -> str:
    return json.dumps(without_users(json.loads(text), users)[0]) if users else text


def document_name(source: str) -> str:
    """The name of the document of a file, by its name without .py, or of a module."""
    name = PurePath(source).stem if source.endswith(".py") else source
    # Few characters may stand in such a name.
    digest = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
    return PLUGIN_PREFIX + (name if _NAME.fullmatch(name) else digest)
