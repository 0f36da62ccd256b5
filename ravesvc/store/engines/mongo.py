"""The store in MongoDB: a database of the reference implementation is used as it is. The one importer of pymongo.

The driver lives in a thread: that of Debian 13 blocks its event loop while it looks up a name, connects, or waits for
an answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import pymongo
from bson import DatetimeConversion, ObjectId
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import AsyncMongoClient, ReadPreference, ReplaceOne, ReturnDocument, UpdateOne, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.monitoring import TopologyDescriptionChangedEvent, TopologyListener

from ravesvc.common.loop_thread import LoopThread
from ravesvc.common.text import printable
from ravesvc.config.advice import FOR_SERVICE
from ravesvc.config.database import Database
from ravesvc.errors import Code, RaveError
from ravesvc.store.engines import mongo_documents
from ravesvc.store.engines.mongo_documents import ADMINS, IGNORED, PERMISSIONS, Collection
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, Host, IgnoredUser, by_command
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument

T = TypeVar("T")
Entry = TypeVar("Entry")
Document: TypeAlias = dict[str, Any]

# The limit of a call, and the driver's share of it. They hold even if database.json sets longer ones, because users
# in a room wait for the answer.
_CALL_TIMEOUT_S = 3.0
_DRIVER_TIMEOUT_S = 2.5

_FALLBACK_NAME = "rave-bot"

# Unless database.json says otherwise. A server that ends is noticed at once; one that falls silent, or comes back,
# as soon as these times allow.
_DEFAULTS: Document = {"heartbeatFrequencyMS": 1000, "connectTimeoutMS": 2000, "appName": "rave-orchestrator"}

# A date or text that can't be decoded spoils its own document alone.
_CODEC: CodecOptions[Document] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)

# Codes of the server's errors; the second is that of MongoDB's hosting service.
_BAD_USER = (18, 8000)
_UNAUTHORIZED = 13

_log = logging.getLogger(__name__)

# The driver of Debian 13 forgets to await this when a server that is being stopped refuses a heartbeat, and Python
# would warn of it in the log each time. No time of the cluster is needed here: each call has a session of its own.
warnings.filterwarnings("ignore", r"coroutine 'Topology\.receive_cluster_time' was never awaited", RuntimeWarning)


class MongoStore:
    """See `Store`. `changed` is called when the server goes away (False) and when it is back (True)."""

    engine = "mongodb"

    def __init__(
        self,
        database: Database,
        changed: Callable[[bool], None] | None = None,
        restart: str = FOR_SERVICE.restart,
    ) -> None:
        """`restart` is for hints, see `Advice`. Raises `RaveError` (Config) for what the driver does not take."""
        for problem in refusals(database):
            raise problem
        if _unverified(database):
            _log.warning("%s turns the verification of the server's certificate off", database.path)
        self._settings = database
        self._restart = restart
        self._changed = changed
        self._thread: LoopThread | None = None
        self._client: AsyncMongoClient[Document] | None = None
        self._reachable = True
        self._warned: set[str] = set()

    async def open(self) -> None:
        """See `Store`. Even after a failure `changed` tells when the server is there."""
        if self._thread is None:
            self._thread = LoopThread("mongodb")
            self._owner = asyncio.get_running_loop()
        try:
            await self._run(self._make_indexes)
        except RaveError:
            self._reachable = False
            raise
        self._reachable = True

    async def close(self) -> None:
        """See `Store`."""
        thread, client = self._thread, self._client
        self._thread = self._client = None
        if thread is None:
            return
        if client is not None:
            with suppress(PyMongoError, TimeoutError):
                await thread.call(_close(client), _CALL_TIMEOUT_S)
        await thread.stop(_CALL_TIMEOUT_S)

    async def read(self) -> Contents:
        """See `Store`."""

        async def read(database: AsyncDatabase[Document]) -> Contents:
            document = await database.credentials.find_one({"_id": mongo_documents.CREDENTIALS_ID})
            credentials, unusable = mongo_documents.usable(document)
            if unusable:
                self._warn(f"{unusable}; it counts as none until it is fixed or a login takes its place")
            return Contents(
                credentials=credentials,
                unusable=unusable,
                admins=mongo_documents.by_user(admin for _, admin in await self._entries(database, ADMINS)),
                permissions=by_command(found for _, found in await self._entries(database, PERMISSIONS)),
                ignored=mongo_documents.ignored_by_user(found for _, found in await self._entries(database, IGNORED)),
            )

        return await self._run(read)

    async def replace(self, contents: Contents) -> None:
        """See `Store`. What is new comes before what is old goes: half of it loses nothing, and may be repeated."""

        async def replace(database: AsyncDatabase[Document]) -> None:
            if contents.credentials:
                await self._save(database, contents.credentials)
            admins = await self._put(database, ADMINS, contents.admins)
            permissions = await self._put(database, PERMISSIONS, contents.permissions)
            ignored = await self._put(database, IGNORED, contents.ignored)
            await database[ADMINS.name].delete_many({"_id": {"$nin": admins}})
            await database[PERMISSIONS.name].delete_many({"_id": {"$nin": permissions}})
            await database[IGNORED.name].delete_many({"_id": {"$nin": ignored}})
            if not contents.credentials:
                await self._remove_credentials(database)

        await self._run(replace)

    async def save_credentials(self, credentials: Credentials) -> None:
        """See `Store`."""
        await self._run(lambda database: self._save(database, credentials))

    async def remove_credentials(self) -> bool:
        """See `Store`."""
        return await self._run(self._remove_credentials)

    async def add_admin(self, admin: Admin) -> bool:
        """See `Store`."""

        async def add(database: AsyncDatabase[Document]) -> bool:
            entries = await self._entries(database, ADMINS)
            active = [known for _, known in entries if known.active and known.user_id == admin.user_id]
            if active and (not admin.owner or any(known.owner for known in active)):
                return False
            await self._put(database, ADMINS, [admin])
            return True

        return await self._run(add)

    async def remove_admin(self, user_id: int) -> bool:
        """See `Store`."""

        async def remove(database: AsyncDatabase[Document]) -> bool:
            active = [entry for entry in await self._entries(database, ADMINS) if entry[1].active]
            mine = [document_id for document_id, admin in active if admin.user_id == user_id]
            if mine and len(mine) < len(active):
                await _activate(database, mine, to=False)
                # Another program may have removed the others at the same moment.
                if any(admin.active for _, admin in await self._entries(database, ADMINS)):
                    return True
                await _activate(database, mine, to=True)
            if mine:
                raise RaveError(Code.LAST_ADMIN, "the last admin can't be removed", hint="add another one first")
            return False

        return await self._run(remove)

    async def set_permission(self, permission: CommandPermission) -> None:
        """See `Store`."""

        async def put(database: AsyncDatabase[Document]) -> None:
            kept = await self._put(database, PERMISSIONS, [permission])
            entries = await self._entries(database, PERMISSIONS)
            others = [key for key, found in entries if found.command == permission.command and key not in kept]
            await database[PERMISSIONS.name].delete_many({"_id": {"$in": others}})

        await self._run(put)

    async def remove_permission(self, command: str) -> bool:
        """See `Store`."""

        async def remove(database: AsyncDatabase[Document]) -> bool:
            entries = await self._entries(database, PERMISSIONS)
            mine = [document_id for document_id, found in entries if found.command == command]
            await database[PERMISSIONS.name].delete_many({"_id": {"$in": mine}})
            return bool(mine)

        return await self._run(remove)

    async def ignore_user(self, ignored: IgnoredUser) -> bool:
        """See `Store`."""

        async def ignore(database: AsyncDatabase[Document]) -> bool:
            if any(known.user_id == ignored.user_id for _, known in await self._entries(database, IGNORED)):
                return False
            await self._put(database, IGNORED, [ignored])
            return True

        return await self._run(ignore)

    async def unignore_user(self, user_id: int) -> bool:
        """See `Store`."""

        async def remove(database: AsyncDatabase[Document]) -> bool:
            entries = await self._entries(database, IGNORED)
            mine = [document_id for document_id, known in entries if known.user_id == user_id]
            await database[IGNORED.name].delete_many({"_id": {"$in": mine}})
            return bool(mine)

        return await self._run(remove)

    async def forget_user(self, user_id: int) -> int:
        """See `Store`."""

        async def forget(database: AsyncDatabase[Document]) -> int:
            admins = await self._entries(database, ADMINS)
            former = [key for key, known in admins if known.user_id == user_id and not known.active]
            await database[ADMINS.name].delete_many({"_id": {"$in": former}})
            added = [key for key, known in admins if known.added_by == user_id and key not in former]
            await _set_zero(database, ADMINS, "addedBy", added)
            updated = [k for k, known in await self._entries(database, PERMISSIONS) if known.updated_by == user_id]
            await _set_zero(database, PERMISSIONS, "updatedBy", updated)
            ignored = [k for k, known in await self._entries(database, IGNORED) if known.added_by == user_id]
            await _set_zero(database, IGNORED, "addedBy", ignored)
            return len(former) + len(added) + len(updated) + len(ignored)

        return await self._run(forget)

    async def list_documents(self) -> list[DocumentSize]:
        """See `Store`."""

        async def read(database: AsyncDatabase[Document]) -> list[DocumentSize]:
            # The texts are left out: those of all rooms together would take too much memory.
            found = await database[mongo_documents.ROOM_DOCUMENTS].aggregate(mongo_documents.SIZES)
            sizes = [each async for each in self._room_documents(found, mongo_documents.document_size)]
            return sorted(sizes, key=lambda each: (each.mesh, each.kind, each.name))

        return await self._run(read)

    async def read_document(self, mesh: str, kind: DocumentKind, name: str) -> RoomDocument | None:
        """See `Store`."""

        async def read(database: AsyncDatabase[Document]) -> RoomDocument | None:
            key = {"_id": mongo_documents.room_document_id(mesh, kind, name)}
            cursor = database[mongo_documents.ROOM_DOCUMENTS].find(key)
            found = [each async for each in self._room_documents(cursor, mongo_documents.room_document)]
            return found[0] if found else None

        return await self._run(read)

    async def write_document(self, document: RoomDocument) -> None:
        """See `Store`."""
        await self._run(lambda database: _put_room_documents(database, [document]))

    async def read_room(self, mesh: str) -> list[RoomDocument]:
        """See `Store`."""

        async def read(database: AsyncDatabase[Document]) -> list[RoomDocument]:
            cursor = database[mongo_documents.ROOM_DOCUMENTS].find({"meshId": mesh})
            found = [each async for each in self._room_documents(cursor, mongo_documents.room_document)]
            return sorted(found, key=lambda each: (each.kind, each.name))

        return await self._run(read)

    async def replace_room(self, mesh: str, new: Sequence[RoomDocument]) -> None:
        """See `Store`."""

        async def replace(database: AsyncDatabase[Document]) -> None:
            await _put_room_documents(database, new)
            kept = [mongo_documents.room_document_id(each.mesh, each.kind, each.name) for each in new]
            gone = {"meshId": mesh, "_id": {"$nin": kept}}
            await database[mongo_documents.ROOM_DOCUMENTS].delete_many(gone)

        await self._run(replace)

    async def register_host(self, host: Host) -> Host:
        """See `Store`. One operation on one document, so that of two hosts one comes first."""

        async def register(database: AsyncDatabase[Document]) -> Host:
            return await _register_host(database, host, mongo_documents.free_for(host))

        return await self._run(register)

    async def take_over(self, host: Host) -> None:
        """See `Store`."""

        async def take_over(database: AsyncDatabase[Document]) -> None:
            await _register_host(database, host, free=True)

        await self._run(take_over)

    async def release(self, host: Host) -> None:
        """See `Store`."""

        async def release(database: AsyncDatabase[Document]) -> None:
            await database[mongo_documents.HOSTS].delete_one({"_id": mongo_documents.HOST_ID, "hostId": host.id})

        await self._run(release)

    async def _run(self, work: Callable[[AsyncDatabase[Document]], Awaitable[T]]) -> T:
        """Run `work` in the thread; every error of the driver becomes a `RaveError`."""
        if self._thread is None:
            raise RaveError(Code.STORE, "the database is not open")
        try:
            return await self._thread.call(self._bounded(work), _CALL_TIMEOUT_S)
        # `from None`: the texts of the driver may quote documents.
        except (PyMongoError, TimeoutError) as e:
            if isinstance(e, OperationFailure) and e.code == _UNAUTHORIZED:
                raise await self._lacking_rights() from None
            raise _failure(e, self._settings.path, self._restart) from None
        except (BSONError, UnicodeError):
            raise RaveError(Code.BAD_DATA, "the database holds, or was given, what can't be encoded") from None

    async def _lacking_rights(self) -> RaveError:
        """Which right on the database the user lacks, and how to grant it."""

        async def ask(database: AsyncDatabase[Document]) -> tuple[str, Document, bool]:
            status = await database.command("connectionStatus")
            users = status["authInfo"]["authenticatedUsers"]
            return database.name, users[0] if users else {}, await _may_read(database)

        assert self._thread, "it has just answered"
        try:
            name, user, readable = await self._thread.call(self._bounded(ask), _CALL_TIMEOUT_S)
        except (PyMongoError, TimeoutError) as e:
            return _failure(e, self._settings.path, self._restart)
        if not user:
            text = f"the database {name} lets no client in without a user"
            hint = f"name a user with the role readWrite in uri in {self._settings.path}, and {self._restart}"
            return RaveError(Code.STORE, printable(text, 200), hint=hint)
        rights = f"read the database {name}, but not write to it" if readable else f"not read the database {name}"
        roles = f'[{{role: "readWrite", db: {json.dumps(name)}}}]'
        home, whom = json.dumps(user["db"]), json.dumps(user["user"])
        return RaveError(
            Code.STORE,
            printable(f"the user {user['user']} may {rights}", 200),
            hint=f"in mongosh, as an administrator: db.getSiblingDB({home}).grantRolesToUser({whom}, {roles})",
        )

    async def _bounded(self, work: Callable[[AsyncDatabase[Document]], Awaitable[T]]) -> T:
        # The client is made in the thread: for mongodb+srv:// the driver of Debian 13 looks up the address here.
        if self._client is None:
            self._client = _client(self._settings, event_listeners=[_Listener(self._notify)])
        # Connect outside the time limit: the background tasks that the driver starts here would inherit it.
        await self._client.aconnect()
        with pymongo.timeout(_DRIVER_TIMEOUT_S):
            return await work(_database(self._client))

    async def _make_indexes(self, database: AsyncDatabase[Document]) -> None:
        # A user without the right to read gets an error here.
        await database.credentials.find_one({}, {"_id": True})
        keys = ((ADMINS.name, ADMINS.key), (PERMISSIONS.name, PERMISSIONS.key), (IGNORED.name, IGNORED.key))
        for name, key in keys:
            try:
                await database[name].create_index(key, unique=True)
            except OperationFailure as e:
                if e.timeout or e.code == _UNAUTHORIZED:
                    raise
                self._warn(f"{name} gets no unique index on {key}: {_code_name(e)}")
        await database[mongo_documents.ROOM_DOCUMENTS].create_index("meshId")

    async def _save(self, database: AsyncDatabase[Document], credentials: Credentials) -> None:
        await self._set_aside_unusable(database)
        known, unknown = mongo_documents.of_credentials(credentials)
        change: Document = {"$set": known}
        if unknown:
            change["$unset"] = dict.fromkeys(unknown, "")
        await database.credentials.update_one({"_id": mongo_documents.CREDENTIALS_ID}, change, upsert=True)

    async def _remove_credentials(self, database: AsyncDatabase[Document]) -> bool:
        await self._set_aside_unusable(database)
        removed = await database.credentials.delete_one({"_id": mongo_documents.CREDENTIALS_ID})
        return removed.deleted_count > 0

    async def _set_aside_unusable(self, database: AsyncDatabase[Document]) -> None:
        """Keep credentials that can't be used under another id, so that an operator can recover them."""
        document = await database.credentials.find_one({"_id": mongo_documents.CREDENTIALS_ID})
        _, unusable = mongo_documents.usable(document)
        if document and unusable:
            kept = f"{mongo_documents.CREDENTIALS_ID}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            await database.credentials.insert_one({**document, "_id": kept})
            self._warn(f"{unusable}; it is kept as document {kept}")

    async def _entries(
        self, database: AsyncDatabase[Document], collection: Collection[Entry]
    ) -> list[tuple[Any, Entry]]:
        """The entries of a collection, each with the `_id` of its document."""
        entries = []
        async for document in database[collection.name].find():
            try:
                entries.append((document["_id"], collection.read(document)))
            except RaveError as e:
                entry = collection.spoilt(document)
                effect = "is left out" if entry is None else "makes its command one for admins"
                self._warn(f"{mongo_documents.place(collection.name, document)} {effect}: {e.message}")
                if entry is not None:
                    entries.append((document["_id"], entry))
        return entries

    async def _put(
        self, database: AsyncDatabase[Document], collection: Collection[Entry], new: Iterable[Entry]
    ) -> list[Any]:
        """Write entries, and return the `_id`s of their documents. Other fields that a document has stay."""
        entries = await self._entries(database, collection)
        known = {collection.write(entry)[collection.key]: document_id for document_id, entry in entries}
        taken = [document_id for document_id, _ in entries]
        ids: list[Any] = []
        changes = []
        for entry in new:
            fields = collection.write(entry)
            key = fields[collection.key]
            # The `_id` of a new entry is its key, unless the document of another entry has that `_id`.
            ids.append(known[key] if key in known else str(key) if str(key) not in taken else ObjectId())
            changes.append(UpdateOne({"_id": ids[-1]}, {"$set": fields}, upsert=True))
        if changes:
            await database[collection.name].bulk_write(changes)
        return ids

    async def _room_documents(
        self, found: AsyncIterable[Document], read: Callable[[Document], Entry]
    ) -> AsyncIterator[Entry]:
        async for document in found:
            try:
                yield read(document)
            except RaveError as e:
                self._warn(
                    f"{mongo_documents.place(mongo_documents.ROOM_DOCUMENTS, document)} is left out: {e.message}"
                )

    def _warn(self, text: str) -> None:
        """Log a warning once, and not again with each reading of the store."""
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("database: %s", text)

    def _notify(self, *, reachable: bool) -> None:
        # In the driver's thread. The loop may be closed already; then there is nothing to notify.
        with suppress(RuntimeError):
            self._owner.call_soon_threadsafe(self._on_reachable, reachable)

    def _on_reachable(self, reachable: bool) -> None:  # noqa: FBT001 - called by the event loop
        if self._thread is None or reachable is self._reachable:
            return
        self._reachable = reachable
        if self._changed is not None:
            self._changed(reachable)


class _Listener(TopologyListener):
    """Receives from the driver's monitors whether there is a server to write to."""

    def __init__(self, notify: Callable[..., None]) -> None:
        self._notify = notify

    def opened(self, event: object) -> None:
        """Nothing is known yet."""

    def description_changed(self, event: TopologyDescriptionChangedEvent) -> None:
        """One of the servers is not as it was."""
        reachable = event.new_description.has_writable_server()
        if reachable != event.previous_description.has_writable_server():
            self._notify(reachable=reachable)

    def closed(self, event: object) -> None:
        """We did that."""


def refusals(database: Database) -> list[RaveError]:
    """What the driver does not accept of URI and options, as errors (Config); opens no connection.

    What it says about them may quote a password, so its words are not passed on.
    """
    if _is_taken(database):
        return []
    culprits = _culprits(database)
    if not culprits:
        hint = "mongodb://user:password@host:27017/database, with : / ? # @ % in user and password as %3A and so on"
        return [database.problem("uri", "is not taken by the driver, or not together with options", hint=hint)]
    hint = "options are those of MongoDB's URIs, as the driver for Python (pymongo) has them"
    return [
        database.problem(f"options.{key}", "is not taken by the driver, or not with this value", hint=hint)
        for key in culprits
    ]


def _culprits(database: Database) -> list[str]:
    """The option without which the driver takes the others; if there is no such, those that it never takes."""
    options = database.options
    for key in options:
        if _is_taken(replace(database, options={other: options[other] for other in options if other != key})):
            return [key]
    if not _is_taken(replace(database, options={})):
        return []
    return [key for key, value in options.items() if not _is_taken(replace(database, options={key: value}))]


def _is_taken(database: Database) -> bool:
    try:
        with warnings.catch_warnings():
            # The driver only warns of options that it ignores, but an operator has set them on purpose.
            warnings.simplefilter("error", UserWarning)
            # The address of mongodb+srv:// is looked up later.
            _client(replace(database, uri=database.uri.replace("mongodb+srv:", "mongodb:", 1)))
    except (PyMongoError, UserWarning, TypeError, ValueError, OSError):
        return False
    return True


def _unverified(database: Database) -> bool:
    options = {key.lower(): str(value) for key, value in parse_qsl(database.uri.partition("?")[2])}
    options |= {key.lower(): str(value) for key, value in database.options.items()}
    names = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")
    return any(options.get(name, "").lower() == "true" for name in names)


def _client(database: Database, **more: Any) -> AsyncMongoClient[Document]:
    query = parse_qsl(database.uri.partition("?")[2])
    named = {key.lower() for key in (*database.options, *dict(query))}
    defaults = {key: value for key, value in _DEFAULTS.items() if key.lower() not in named}
    return AsyncMongoClient(database.uri, **{**defaults, **database.options, **more})


def _database(client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
    # `w` as database.json says, but not 0: a change that is answered is on disk.
    write_concern = WriteConcern(w=client.write_concern.document.get("w") or None, j=True)
    return client.get_default_database(
        _FALLBACK_NAME, codec_options=_CODEC, read_preference=ReadPreference.PRIMARY, write_concern=write_concern
    )


async def _may_read(database: AsyncDatabase[Document]) -> bool:
    try:
        await database.credentials.find_one({}, {"_id": True})
    except OperationFailure as e:
        if e.code != _UNAUTHORIZED:
            raise
        return False
    return True


async def _close(client: AsyncMongoClient[Document]) -> None:
    # It says good-bye to the server, which may be frozen.
    with pymongo.timeout(1):
        await client.close()


async def _register_host(database: AsyncDatabase[Document], host: Host, free: object) -> Host:
    found = await database[mongo_documents.HOSTS].find_one_and_update(
        {"_id": mongo_documents.HOST_ID},
        mongo_documents.registration(host, free),
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    return mongo_documents.host(found or {})


async def _set_zero(
    database: AsyncDatabase[Document], collection: Collection[Entry], field: str, ids: list[Any]
) -> None:
    await database[collection.name].update_many({"_id": {"$in": ids}}, {"$set": {field: 0}})


async def _put_room_documents(database: AsyncDatabase[Document], new: Iterable[RoomDocument]) -> None:
    whole = [mongo_documents.of_room_document(each) for each in new]
    changes = [ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in whole]
    if changes:
        await database[mongo_documents.ROOM_DOCUMENTS].bulk_write(changes)


async def _activate(database: AsyncDatabase[Document], ids: list[Any], *, to: bool) -> None:
    await database[ADMINS.name].update_many({"_id": {"$in": ids}}, {"$set": {"isActive": to}})


def _failure(e: PyMongoError | TimeoutError, path: str, restart: str) -> RaveError:
    """In words of ours, but for names of hosts and what the operating system says. `path`: where the URI is."""
    if isinstance(e, OperationFailure) and e.code in _BAD_USER:
        hint = f"fix uri in {path} and {restart}"
        return RaveError(Code.STORE, "the database refuses the user or the password", hint=hint)
    if isinstance(e, (ConnectionFailure, TimeoutError)) or e.timeout:
        reason = re.split(r" \(configured|, Timeout:|, full error", str(e))[0]
        if not reason or reason.startswith("operation"):
            # The time limit is over; the driver has only a technical text for that.
            reason = f"nothing within {_CALL_TIMEOUT_S:g} s"
        hint = f"start MongoDB, or fix uri in {path} and {restart}"
        return RaveError(Code.STORE, f"the database does not answer: {printable(reason, 200)}", hint=hint)
    kind = _code_name(e) if isinstance(e, OperationFailure) else type(e).__name__
    return RaveError(Code.STORE, f"the database can't be used: {kind}")


def _code_name(e: OperationFailure) -> str:
    details = e.details or {}
    first, *_ = details.get("writeErrors") or [{"code": e.code}]
    return printable(details.get("codeName"), 60) or f"error {first['code']}"
