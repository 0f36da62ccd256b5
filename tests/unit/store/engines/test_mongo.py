"""What is particular to MongoDB; ../test_contract.py has what all engines do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import BSON, DatetimeMS

from ravesvc.config.database import Database
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change_log import ChangeRecord
from ravesvc.store.engines import mongo
from ravesvc.store.engines.mongo import MongoStore
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, Host
from ravesvc.store.permissions_cache import PermissionsCache
from tests.unit.conftest import until
from tests.unit.mongod import PASSWORD, USER, Mongod
from tests.unit.store.engines.test_mongo_documents import ADMIN, CREDENTIALS, PERMISSION, WHEN, without

# More than the store's own limit of 3 s: the machine may be busy.
BOUND = 4.5

Run = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


FILE = "/somewhere/mongo.json"


def configured(uri: str, options: dict[str, Any] | None = None) -> Database:
    return Database(path=FILE, uri=uri, options=options or {})


class Home:
    """A database of its own on a server that may be stopped and frozen; looked into without the store."""

    def __init__(self, server: Mongod) -> None:
        self.server = server
        self.name = f"test-{uuid.uuid4().hex}"
        self.uri = server.uri(self.name)

    def insert(self, collection: str, *documents: dict[str, Any]) -> None:
        with self.server.client() as client:
            client[self.name][collection].insert_many(documents)

    def documents(self, collection: str) -> list[dict[str, Any]]:
        with self.server.client() as client:
            return list(client[self.name][collection].find())

    def store(self, changed: Callable[[bool], None] | None = None, **options: Any) -> MongoStore:
        return MongoStore(configured(uri=self.uri, options=options), changed)


@pytest.fixture
def home(mongod: Mongod) -> Iterator[Home]:
    home = Home(mongod)
    yield home
    mongod.recover()
    with mongod.client() as client:
        client.drop_database(home.name)


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> None:
    """What there is before the first test need not be looked through after each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _collected(_frozen: None) -> Iterator[None]:
    """A driver that is closed while it connects anew forgets its socket: it is found here, not in a later test."""
    yield
    gc.collect()


@contextlib.asynccontextmanager
async def opened(store: MongoStore) -> AsyncIterator[MongoStore]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.process
def test_what_the_driver_of_debian_13_forgets_to_await_is_in_no_log() -> None:
    """tests/integration/test_store.py has that driver, which does this when a server is stopped."""
    code = (
        "from ravesvc.store.engines import mongo\n"
        "from pymongo.asynchronous.topology import Topology\n"
        "Topology.receive_cluster_time(None, None)\n"
        "Topology.close(None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    warned = [line for line in done.stderr.splitlines() if "RuntimeWarning: coroutine" in line]
    assert len(warned) == 1, "others are told as ever"
    assert "'Topology.close'" in warned[0]


def admin(user: int, *, active: bool = True) -> Admin:
    return Admin(user_id=user, added_by=0, added_at=WHEN, active=active)


def permission(command: str, *, requires_admin: bool = True, description: str = "") -> CommandPermission:
    return CommandPermission(
        command=command, requires_admin=requires_admin, description=description, updated_at=WHEN, updated_by=0
    )


ACCOUNT = Credentials(
    email="bot@example.com",
    device_id="abc123",
    ssaid="xyz789",
    parse_id="id123",
    parse_token="token456",
    auth_token="auth789",
    user_id=12345,
    updated_at=WHEN,
)


@contextlib.contextmanager
def haste() -> Iterator[None]:
    """The driver gives up sooner, so that a failure that is not about time takes little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mongo, "_DRIVER_TIMEOUT_S", 0.3)
        yield


# The shortest that the driver takes.
ALERT = {"heartbeatFrequencyMS": 500, "connectTimeoutMS": 500}


async def failure(call: Any) -> RaveError:
    """What a call fails with, within bounds."""
    started = time.monotonic()
    with pytest.raises(RaveError) as caught:
        await call
    assert time.monotonic() - started < BOUND
    return caught.value


# What is there already.


def test_a_database_of_the_reference_implementation_is_used_as_it_is(home: Home, run: Run) -> None:
    home.insert("credentials", {**CREDENTIALS, "parseToken": "r:token456", "userId": 12345.0, "note": "ours"})
    home.insert("admin_users", ADMIN, {**ADMIN, "_id": "2", "userId": 9000000000.0, "isActive": False})
    home.insert("command_permissions", {**PERMISSION, "note": "ours"})
    before = {name: home.documents(name) for name in ("credentials", "admin_users", "command_permissions")}

    async def body() -> None:
        async with opened(home.store()) as store:
            assert await store.read() == Contents(
                credentials=ACCOUNT,
                admins=(
                    Admin(user_id=12345, added_by=67890, added_at=WHEN),
                    Admin(user_id=9000000000, added_by=67890, added_at=WHEN, active=False),
                ),
                permissions=(
                    replace(
                        permission("search", requires_admin=False), updated_by=12345, description="Search for videos"
                    ),
                ),
            )
            assert {name: home.documents(name) for name in before} == before
            # What is changed keeps what else is in its document.
            await store.set_permission(permission("search"))
            await store.save_credentials(replace(ACCOUNT, parse_id="", user_id=None))
            assert await store.add_admin(admin(9000000000))

    run(body())
    (credentials,) = home.documents("credentials")
    assert credentials == {
        **without(CREDENTIALS, "parseId", "userId"),
        "parseToken": "token456",
        "peerId": "",
        "note": "ours",
    }
    (search,) = home.documents("command_permissions")
    assert search == {**PERMISSION, "requiresAdmin": True, "description": "", "updatedBy": 0, "note": "ours"}
    assert [(found["_id"], found["isActive"]) for found in home.documents("admin_users")] == [
        ("12345", True),
        ("2", True),
    ]


async def test_what_is_written_is_what_the_guide_says(home: Home) -> None:
    async with opened(home.store()) as store:
        await store.save_credentials(ACCOUNT)
        await store.add_admin(Admin(user_id=12345, added_by=67890, added_at=WHEN))
        await store.set_permission(
            replace(permission("search", requires_admin=False), updated_by=12345, description="Search for videos")
        )
    assert home.documents("credentials") == [CREDENTIALS]
    assert home.documents("admin_users") == [ADMIN]
    assert home.documents("command_permissions") == [PERMISSION]
    with home.server.client() as client:
        for collection, key in (("admin_users", "userId"), ("command_permissions", "commandName")):
            index = client[home.name][collection].index_information()[f"{key}_1"]
            assert (index["key"], index["unique"]) == ([(key, 1)], True)


async def test_without_a_name_in_the_uri_the_database_is_rave_bot(home: Home) -> None:
    async with opened(MongoStore(configured(uri=home.server.uri("")))) as store:
        await store.add_admin(admin(5))
    with home.server.client() as client:
        assert [found["_id"] for found in client["rave-bot"].admin_users.find()] == ["5"]
        client.drop_database("rave-bot")


def test_documents_that_make_no_sense_are_told_once_and_open_nothing(
    home: Home, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    home.insert(
        "admin_users",
        ADMIN,
        {"_id": "zero", "userId": 0, "isActive": True},
        {"_id": "odd", "userId": 77, "isActive": 1},
        {"_id": "far", "userId": 78, "isActive": True, "addedAt": DatetimeMS(2**62)},
    )
    home.insert(
        "command_permissions",
        PERMISSION,
        {"_id": "leave", "commandName": "leave", "requiresAdmin": "no"},
        {"_id": 5, "commandName": None, "requiresAdmin": False},
    )

    async def body() -> None:
        async with opened(home.store()) as store:
            for _ in range(2):
                contents = await store.read()
                assert [found.user_id for found in contents.admins] == [78, 12345]
                wanted = [("leave", True), ("search", False)]
                assert [(found.command, found.requires_admin) for found in contents.permissions] == wanted

    run(body())
    assert sorted(record.getMessage() for record in caplog.records if record.name == mongo.__name__) == [
        "database: document 5 of command_permissions is left out: commandName must be a text",
        "database: document leave of command_permissions makes its command one for admins: "
        "requiresAdmin must be true or false, but is a str",
        "database: document odd of admin_users is left out: isActive must be true or false, but is a int",
        "database: document zero of admin_users is left out: userId must be a user id",
    ]


async def test_a_text_that_is_not_utf8_spoils_nothing(home: Home) -> None:
    spoilt = BSON.encode({**PERMISSION, "description": "spoilt"}).replace(b"spoilt", b"sp\xff\xfelt")
    with home.server.client() as client:
        from bson.raw_bson import RawBSONDocument

        client[home.name].command_permissions.insert_one(RawBSONDocument(spoilt))

    async with opened(home.store()) as store:
        (found,) = (await store.read()).permissions
        assert found.description == "sp\ufffd\ufffdlt"


UNUSABLE = "document bot_credentials of credentials can't be used: email must be a text, but is a int"


@pytest.mark.parametrize("new", [ACCOUNT, None])
@pytest.mark.parametrize("change", ["save", "replace"])
def test_credentials_that_make_no_sense_are_none_and_are_kept_aside(
    home: Home, run: Run, caplog: pytest.LogCaptureFixture, change: str, new: Credentials | None
) -> None:
    bad = {**CREDENTIALS, "email": 5, "note": "ours"}
    home.insert("credentials", bad)

    async def body() -> None:
        async with opened(home.store()) as store:
            await store.add_admin(admin(5))
            for _ in range(2):
                assert await store.read() == Contents(unusable=UNUSABLE, admins=(admin(5),)), "the rest can be used"
            assert home.documents("credentials") == [bad], "nothing touches it yet"
            if change == "replace" or new is None:
                await store.replace(Contents(credentials=new))
            else:
                await store.save_credentials(new)
            contents = await store.read()
            assert (contents.credentials, contents.unusable) == (new, "")
            # Good ones are not kept.
            await store.save_credentials(replace(ACCOUNT, user_id=7))

    run(body())
    now, aside = sorted(home.documents("credentials"), key=lambda found: len(found["_id"]))
    assert (now["_id"], now["userId"]) == ("bot_credentials", 7)
    assert re.fullmatch(r"bot_credentials\.damaged-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z", aside["_id"])
    assert {**aside, "_id": "bot_credentials"} == bad
    assert [record.getMessage() for record in caplog.records if record.name == mongo.__name__] == [
        f"database: {UNUSABLE}; it counts as none until it is fixed or a login takes its place",
        f"database: {UNUSABLE}; it is kept as document {aside['_id']}",
    ]


def test_twins_get_no_index_and_count_as_one(home: Home, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    home.insert("admin_users", {**ADMIN, "_id": "a", "isActive": False}, {**ADMIN, "_id": "b"}, {**ADMIN, "_id": "c"})
    closed = {**PERMISSION, "requiresAdmin": True}
    home.insert("command_permissions", PERMISSION, {**closed, "_id": "twin"}, {**closed, "_id": "triplet"})

    async def body() -> None:
        async with opened(home.store()) as store:
            contents = await store.read()
            assert [(found.user_id, found.active) for found in contents.admins] == [(12345, True)]
            assert [(found.command, found.requires_admin) for found in contents.permissions] == [("search", True)]
            assert not await store.add_admin(admin(12345))
            assert (await failure(store.remove_admin(12345))).code is Code.LAST_ADMIN
            await store.add_admin(admin(5))
            assert await store.remove_admin(12345)
            await store.set_permission(permission("search", requires_admin=False))
            contents = await store.read()
            assert [(found.user_id, found.active) for found in contents.admins] == [(5, True), (12345, False)]
            assert [(found.command, found.requires_admin) for found in contents.permissions] == [("search", False)]
            assert await store.remove_permission("search")
            assert not await store.remove_permission("search")
            assert not await store.remove_admin(7)

    run(body())
    assert home.documents("command_permissions") == []
    assert [record.getMessage() for record in caplog.records if record.name == mongo.__name__] == [
        "database: admin_users gets no unique index on userId: DuplicateKey",
        "database: command_permissions gets no unique index on commandName: DuplicateKey",
    ]


async def test_the_id_of_somebody_else_is_not_taken(home: Home) -> None:
    home.insert("admin_users", {**ADMIN, "_id": "5"})

    async with opened(home.store()) as store:
        assert await store.add_admin(admin(5))
        assert [found.user_id for found in (await store.read()).admins] == [5, 12345]
        await store.replace(Contents(admins=(admin(5), admin(12345))))
        assert [found.user_id for found in (await store.read()).admins] == [5, 12345]


# Changes.


@pytest.mark.parametrize("options", [{}, {"w": 0}, {"w": "majority"}, {"w": 1, "wTimeoutMS": 100}])
async def test_what_is_answered_survives_a_crash_of_the_server(home: Home, options: dict[str, Any]) -> None:
    async with opened(home.store(**options)) as store:
        await store.save_credentials(ACCOUNT)
        assert await store.add_admin(admin(5))
    home.server.stop()
    home.server.start()
    assert len(home.documents("credentials")) == len(home.documents("admin_users")) == 1


async def test_two_programs_leave_one_admin(home: Home) -> None:
    async with opened(home.store()) as one, opened(home.store()) as other:
        for user in range(1, 21, 2):
            await one.replace(Contents(admins=(admin(user), admin(user + 1))))
            await asyncio.gather(one.remove_admin(user), other.remove_admin(user + 1), return_exceptions=True)
            assert any(found.active for found in (await one.read()).admins)


async def test_an_admin_whom_another_program_left_alone_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    activate = mongo._activate

    async def interfere(database: Any, ids: list[Any], *, to: bool) -> None:
        await activate(database, ids, to=to)
        if not to:
            await activate(database, ["6"], to=False)

    async with opened(home.store()) as store:
        await store.replace(Contents(admins=(admin(5), admin(6))))
        monkeypatch.setattr(mongo, "_activate", interfere)
        assert (await failure(store.remove_admin(5))).code is Code.LAST_ADMIN
        assert [(found.user_id, found.active) for found in (await store.read()).admins] == [(5, True), (6, False)]


async def test_a_replacement_that_breaks_loses_nothing_and_may_be_repeated(home: Home) -> None:
    old = Contents(credentials=ACCOUNT, admins=(admin(5),), permissions=(permission("search"),))
    new = Contents(admins=(admin(6),), permissions=(permission("ping"),))
    # Half of a surrogate pair, which no database takes.
    broken = replace(new, permissions=(permission("ping", description="\ud800"),))

    async with opened(home.store()) as store:
        await store.replace(old)
        assert (await failure(store.replace(broken))).code is Code.BAD_DATA
        assert await store.read() == replace(old, admins=(admin(5), admin(6)))
        await store.replace(new)
        assert await store.read() == new


# A server that goes away.


async def test_a_server_that_is_away_at_first_is_told_when_it_comes(home: Home) -> None:
    told: list[bool] = []

    home.server.stop()
    store = home.store(told.append, **ALERT)
    for _ in range(2):
        with haste():
            error = await failure(store.open())
        assert error.code is Code.STORE
        assert f"the database does not answer: 127.0.0.1:{home.server.port}: [Errno 111]" in error.message
        assert "start MongoDB" in error.hint
    assert told == []
    home.server.start()
    await until(lambda: told)
    assert told == [True]
    await store.open()
    assert await store.read() == Contents()
    await store.close()


async def test_a_server_that_stops_is_told_and_found_again(home: Home) -> None:
    told: list[bool] = []

    async with opened(home.store(told.append)) as store:
        assert await store.add_admin(admin(5))
        home.server.stop()
        started = time.monotonic()
        await until(lambda: told)
        assert time.monotonic() - started < BOUND
        with haste():
            assert (await failure(store.add_admin(admin(6)))).code is Code.STORE
        home.server.start()
        started = time.monotonic()
        await until(lambda: len(told) == 2)
        assert time.monotonic() - started < BOUND
        await store.open()
        assert [found.user_id for found in (await store.read()).admins] == [5]
        assert told == [False, True]


async def test_a_frozen_server_blocks_nobody_for_long(home: Home) -> None:
    told: list[bool] = []
    pauses: list[float] = []

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            pauses.append(time.monotonic() - before)

    async with opened(home.store(told.append, **ALERT)) as store:
        await store.read()
        watcher = asyncio.create_task(watch())
        home.server.freeze()
        error = await failure(store.read())
        assert error.code is Code.STORE
        assert "the database does not answer" in error.message
        await until(lambda: told)
        watcher.cancel()
        await asyncio.wait([watcher])
        # Debian 13's driver blocks its loop for 0.5 s at a time.
        assert max(pauses) < 0.4
        home.server.thaw()
        await until(lambda: len(told) == 2)
        assert await store.read() == Contents()
        assert told == [False, True]


async def test_what_the_driver_does_not_end_ends_all_the_same(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo, "_DRIVER_TIMEOUT_S", 60)

    async with opened(home.store()) as store:
        home.server.freeze()
        with monkeypatch.context() as hasty:
            hasty.setattr(mongo, "_CALL_TIMEOUT_S", 0.3)
            error = await failure(store.read())
            assert error.code is Code.STORE
            assert error.message == "the database does not answer: nothing within 0.3 s"
        home.server.thaw()
        assert await store.read() == Contents()


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64], ids=["", "http", "noise"]
)
async def test_what_is_no_mongodb_is_told(answer: bytes) -> None:
    connections: list[asyncio.Transport] = []

    class Stranger(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            connections.append(transport)
            transport.write(answer)

    server = await asyncio.get_running_loop().create_server(Stranger, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    store = MongoStore(configured(uri=f"mongodb://{host}:{port}/bot"))
    with haste():
        error = await failure(store.open())
    assert error.code is Code.STORE
    assert "the database does not answer" in error.message
    assert f"fix uri in {FILE}" in error.hint
    await store.close()
    server.close()
    for connection in connections:
        connection.abort()
    await server.wait_closed()


async def test_a_frozen_server_delays_no_end(home: Home) -> None:
    store = home.store()
    await store.open()
    home.server.freeze()
    started = time.monotonic()
    await store.close()
    assert time.monotonic() - started < BOUND


async def test_a_replica_set_has_to_find_its_primary(mongod_replica_set: Mongod) -> None:
    home = Home(mongod_replica_set)
    told: list[bool] = []

    async with opened(home.store(told.append, **ALERT)) as store:
        assert await store.add_admin(admin(5))
        mongod_replica_set.stop()
        await until(lambda: told)
        mongod_replica_set.start()
        await until(lambda: len(told) == 2)
        assert await store.add_admin(admin(6))
        assert told == [False, True]


# Opening and closing.


async def test_it_may_be_opened_and_closed_again(home: Home) -> None:
    before = set(threading.enumerate())
    store = home.store()
    await store.close()
    for _ in range(2):
        assert (await failure(store.read())).code is Code.STORE
        await store.open()
        await store.open()
        assert await store.read() == Contents()
        await store.close()
        assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "mongodb"]
    await store.close()


async def test_nobody_is_told_after_the_end(home: Home) -> None:
    told: list[bool] = []

    store = home.store(told.append)
    await store.open()
    await store.close()
    store._notify(reachable=False)
    await asyncio.sleep(0)
    assert told == []


async def test_somebody_who_is_not_told_can_still_use_it(home: Home) -> None:
    async with opened(home.store()) as store:
        store._on_reachable(False)
        assert await store.read() == Contents()


# Passwords.


def secrets_in(error: RaveError, caplog: pytest.LogCaptureFixture, secret: str) -> bool:
    return secret in f"{error} {error!r} {error.attributes} {error.__cause__!r} {caplog.text}"


@pytest.mark.parametrize("secret", ["wrong-password", "s3cret"])
async def test_a_refused_login_is_told_in_its_own_words(
    mongod_auth: Mongod, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level(logging.INFO)
    database = configured(uri=f"mongodb://{USER}:{secret}@127.0.0.1:{mongod_auth.port}/bot?authSource=admin")

    store = MongoStore(database)
    error = await failure(store.open())
    assert error.code is Code.STORE
    assert error.message == "the database refuses the user or the password"
    assert f"fix uri in {FILE}" in error.hint
    assert not secrets_in(error, caplog, secret)
    await store.close()


async def test_a_user_with_too_few_rights_is_told_so(mongod_auth: Mongod) -> None:
    store = MongoStore(configured(uri=f"mongodb://127.0.0.1:{mongod_auth.port}/bot"))
    error = await failure(store.open())
    assert error.code is Code.STORE
    assert error.message == "the database bot lets no client in without a user"
    assert f"name a user with the role readWrite in uri in {FILE}" in error.hint
    await store.close()


@contextlib.contextmanager
def a_user(server: Mongod, roles: list[Any]) -> Iterator[str]:
    """The URI of the database `films` for a user with these roles in it."""
    with server.client() as client:
        client.films.command("createUser", "viewer", pwd=SECRET, roles=roles)
        client.films.admin_users.insert_one({"_id": "1", "userId": 1})
        try:
            yield f"mongodb://viewer:{SECRET}@127.0.0.1:{server.port}/films"
        finally:
            client.films.command("dropUser", "viewer")
            client.films.admin_users.delete_many({})


GRANT = (
    "in mongosh, as an administrator: "
    'db.getSiblingDB("films").grantRolesToUser("viewer", [{role: "readWrite", db: "films"}])'
)


async def test_a_user_who_may_only_read_is_told_so_until_the_role_is_granted(
    mongod_auth: Mongod, caplog: pytest.LogCaptureFixture
) -> None:
    with a_user(mongod_auth, ["read"]) as uri, mongod_auth.client() as administrator:
        store = MongoStore(configured(uri=uri))
        attempts: list[Callable[[], Any]] = [store.open, lambda: store.add_admin(admin(3)), lambda: store.open()]
        for attempt in attempts:
            error = await failure(attempt())
            assert error.code is Code.STORE
            assert error.message == "the user viewer may read the database films, but not write to it"
            assert error.hint == GRANT
            assert not secrets_in(error, caplog, SECRET)
        assert caplog.messages == [], "the error says it all"
        # What the hint says.
        administrator.films.command("grantRolesToUser", "viewer", roles=[{"role": "readWrite", "db": "films"}])
        async with opened(store):
            assert await store.add_admin(admin(3))
            # And while it is in use.
            administrator.films.command("revokeRolesFromUser", "viewer", roles=["readWrite"])
            error = await failure(store.add_admin(admin(4)))
            assert error.message == "the user viewer may read the database films, but not write to it"
            assert {known.user_id for known in (await store.read()).admins} == {1, 3}


async def test_the_service_says_at_its_start_and_at_each_change_that_the_user_may_only_read(
    mongod_auth: Mongod, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def announce(_: Announcement) -> None:
        pass

    with a_user(mongod_auth, ["read"]) as uri:
        copy, record = PermissionsCache(tmp_path / "permissions.json"), ChangeRecord(tmp_path / "changes.json")
        store = MongoStore(configured(uri=uri))
        state = CachedStore(store, announce, lambda: None, copy=copy, record=record)
        await state.start()
        text = f"the user viewer may read the database films, but not write to it ({GRANT})"
        assert str(state.error) == text, "which is StoreError"
        assert caplog.messages == [f"The store can't be used, so nothing can be changed: {text}"]
        error = await failure(state.add_admin(3, 3))
        assert str(error) == f"changes can't be saved: {text}"
        await state.close()


async def test_a_user_who_may_not_even_read_is_told_so(mongod_auth: Mongod) -> None:
    with a_user(mongod_auth, [{"role": "readWrite", "db": "other"}]) as uri:
        store = MongoStore(configured(uri=uri))
        error = await failure(store.open())
        assert error.message == "the user viewer may not read the database films"
        assert error.hint == GRANT
        await store.close()


async def test_a_right_password_lets_us_in(mongod_auth: Mongod) -> None:
    async with opened(MongoStore(configured(uri=mongod_auth.uri("bot")))) as store:
        assert await store.read() == Contents()
    # The options may hold user and password, too.
    options = {"username": USER, "password": PASSWORD, "authSource": "admin"}
    async with opened(MongoStore(configured(uri=f"mongodb://127.0.0.1:{mongod_auth.port}", options=options))):
        pass


SECRET = "hunter2"
URI = f"mongodb://bot:{SECRET}@localhost/bot"


@pytest.mark.parametrize(
    ("uri", "options", "key"),
    [
        (f"mongodb://bot:{SECRET}@x@localhost/bot", {}, "uri"),
        (f"mongodb://bot:{SECRET}/x@localhost/bot", {}, "uri"),
        (f"mongodb://localhost:{SECRET}/bot", {}, "uri"),
        ("mongodb://", {}, "uri"),
        ("mongodb+srv://", {}, "uri"),
        ("mongodb://localhost/a b", {}, "uri"),
        (f"{URI}?pasword={SECRET}", {}, "uri"),
        (URI, {"tlsCAFile": "/nowhere"}, "options.tlsCAFile"),
        (URI, {"useUnifiedTopology": True}, "options.useUnifiedTopology"),
        (URI, {"maxPoolSize": SECRET}, "options.maxPoolSize"),
        (URI, {"host": SECRET}, "options.host"),
        (URI, {"w": 0, "journal": True}, "options.w"),
        (f"{URI}?pasword={SECRET}", {"maxPoolSize": "a"}, "uri"),
    ],
)
def test_what_the_driver_does_not_take_is_an_error_of_the_configuration(
    uri: str, options: dict[str, Any], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RaveError, match="not taken by the driver") as caught:
        MongoStore(configured(uri=uri, options=options))
    assert caught.value.code is Code.CONFIG
    assert caught.value.message.startswith(f"{FILE}:1: {key} is not taken by the driver")
    assert caught.value.attributes == {"file": FILE, "line": 1, "key": key}
    assert caught.value.hint
    assert not secrets_in(caught.value, caplog, SECRET)


def test_every_option_that_the_driver_does_not_take_is_told() -> None:
    options: dict[str, Any] = {"maxPoolSize": "a", "appName": "b", "minPoolSize": "c"}
    problems = mongo.refusals(configured(uri=URI, options=options))
    assert [problem.attributes["key"] for problem in problems] == ["options.maxPoolSize", "options.minPoolSize"]
    assert mongo.refusals(configured(uri=URI)) == []


def test_an_address_that_must_be_looked_up_is_looked_up_later() -> None:
    MongoStore(configured(uri="mongodb+srv://cluster.example.test/bot"))


@pytest.mark.parametrize(
    ("uri", "options", "wanted"),
    [
        ("mongodb://localhost", {}, (1.0, 2.0)),
        ("mongodb://localhost/?connectTimeoutMS=500", {"heartbeatfrequencyms": 5000}, (5.0, 0.5)),
    ],
)
def test_the_operator_has_the_say_over_times(uri: str, options: dict[str, Any], wanted: tuple[float, float]) -> None:
    settings = mongo._client(configured(uri=uri, options=options)).options
    assert (settings.heartbeat_frequency, settings.pool_options.connect_timeout) == wanted  # type: ignore[attr-defined]


async def test_a_failure_of_another_kind_is_told_without_its_words(home: Home) -> None:
    with home.server.client() as client:
        schema = {"$jsonSchema": {"required": ["never"]}}
        client[home.name].create_collection("admin_users", validator=schema)
        client[home.name].create_collection("base")
        client[home.name].create_collection("command_permissions", viewOn="base", pipeline=[])

    async with opened(home.store()) as store:
        error = await failure(store.add_admin(admin(987654321)))
        assert error.code is Code.STORE
        assert error.message == "the database can't be used: error 121"
        assert "987654321" not in f"{error} {error.__cause__!r}"
        error = await failure(store.set_permission(permission("search")))
        assert error.message == "the database can't be used: error 166"


@pytest.mark.parametrize(
    ("uri", "options", "warns"),
    [
        ("mongodb://localhost/x", {}, False),
        ("mongodb://localhost/x?tls=true", {}, False),
        ("mongodb://localhost/x?tls=true&tlsInsecure=true", {}, True),
        ("mongodb://localhost/x", {"tls": True, "tlsAllowInvalidCertificates": True}, True),
        ("mongodb://localhost/x", {"tls": True, "tlsAllowInvalidHostnames": False}, False),
    ],
)
def test_who_turns_verification_off_is_warned(
    caplog: pytest.LogCaptureFixture, uri: str, options: dict[str, bool], warns: bool
) -> None:
    MongoStore(configured(uri=uri, options=options))
    assert (f"{FILE} turns the verification of the server's certificate off" in caplog.text) is warns


@pytest.mark.parametrize(
    ("document", "free"),
    [
        ({"hostId": "2", "hostName": "two", "beatAt": {"seconds": 119}}, False),
        ({"hostId": "2", "hostName": "two", "beatAt": {"seconds": 121}}, True),
        ({"hostId": "1", "hostName": "renamed", "beatAt": {"seconds": 5}}, True),
        ({"hostId": "2", "hostName": "two", "beatAt": "soon"}, True),
        ({"hostId": 5, "beatAt": {"seconds": 5}}, True),
        ({"hostId": "2", "beatAt": {"seconds": 5}}, False),
        ({}, True),
    ],
)
async def test_the_record_of_a_host_is_void_after_two_minutes(
    home: Home, document: dict[str, Any], free: bool
) -> None:
    if isinstance(document.get("beatAt"), dict):
        document |= {"beatAt": datetime.now(UTC) - timedelta(seconds=document["beatAt"]["seconds"])}
    home.insert("hosts", {"_id": "orchestrator", **document})
    host = Host(id="1", name="one")

    async with opened(home.store()) as store:
        found = await store.register_host(host)
        assert (found == host) is free
        (kept,) = home.documents("hosts")
        if free:
            assert kept["hostName"] == "one"
            assert abs(datetime.now(UTC) - kept["beatAt"]) < timedelta(seconds=30)
        else:
            assert kept == {"_id": "orchestrator", **document} | {"beatAt": kept["beatAt"]}
            assert found.name in ("two", "without a name")
