"""What all engines do alike, with a real server where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.store import export
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.export import Export
from ravesvc.store.model import Admin, CommandPermission, Contents, Credentials, Host, IgnoredUser, Store
from ravesvc.store.room_document import DocumentKind, DocumentSize, RoomDocument, size

MakeStore = Callable[[], Store]

WHEN = datetime(2024, 1, 8, 10, 0, 0, 123000, UTC)
LATER = WHEN + timedelta(days=400, milliseconds=1)
# The ends of what there is: the epoch, and what no double holds.
EXTREMES = [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)]
LARGE = 2**63 - 1

# Seconds that a call may take: much is done at once here, and the machine may be busy.
PATIENCE = 30.0

ACCOUNT = Credentials(
    email="bot@example.test",
    device_id="0123456789abcdef" * 2,
    ssaid="0123456789abcdef",
    parse_id="AbCdEf1234",
    parse_token="parse-token",
    auth_token="auth-token",
    user_id=900000001,
    updated_at=WHEN,
)
SPARSE = Credentials(email="other@example.test", device_id="d", ssaid="s")

FIXTURES = {"mongodb": "mongod", "mongodb-auth": "mongod_auth", "mongodb-replica-set": "mongod_replica_set"}


@pytest.fixture(params=["embedded", *(pytest.param(name, marks=pytest.mark.mongo) for name in FIXTURES)])
def make_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeStore]:
    """Makes stores, not open yet, that share a fresh place."""
    if request.param == "embedded":
        yield lambda: SqliteStore(tmp_path / "state.db", timeout_s=PATIENCE, lock_timeout_s=PATIENCE)
        return
    from ravesvc.config.database import Database
    from ravesvc.store.engines import mongo
    from ravesvc.store.engines.mongo import MongoStore

    monkeypatch.setattr(mongo, "_CALL_TIMEOUT_S", PATIENCE)
    monkeypatch.setattr(mongo, "_DRIVER_TIMEOUT_S", PATIENCE)
    server = request.getfixturevalue(FIXTURES[request.param])
    name = f"test-{uuid.uuid4().hex}"
    yield lambda: MongoStore(Database(path="database.json", uri=server.uri(name)))
    with server.client() as client:
        # Not every user who may write may drop a database.
        for collection in client[name].list_collection_names():
            client[name].drop_collection(collection)


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def admin(user: int, *, active: bool = True, by: int = 0, at: datetime = WHEN) -> Admin:
    return Admin(user_id=user, added_by=by, added_at=at, active=active)


def permission(command: str, *, requires_admin: bool = True, description: str = "") -> CommandPermission:
    return CommandPermission(
        command=command, requires_admin=requires_admin, description=description, updated_at=WHEN, updated_by=0
    )


def ignored(user: int, *, by: int = 0, at: datetime = WHEN) -> IgnoredUser:
    return IgnoredUser(user_id=user, added_by=by, added_at=at)


FULL = Contents(
    credentials=ACCOUNT,
    admins=(
        admin(1),
        admin(2, active=False, by=1, at=LATER),
        *(admin(10 + number, at=date) for number, date in enumerate(EXTREMES)),
        admin(LARGE, by=LARGE),
    ),
    permissions=(
        permission("leave", requires_admin=False),
        CommandPermission(
            command="ping", requires_admin=True, description="Command: ping", updated_at=LATER, updated_by=LARGE
        ),
        permission("strasse-日本-🎉", description="quotes ' \" and\nlines, \x00 \u202e, 🎉 \U0010ffff"),
        permission("𐐨"),
    ),
    ignored=(ignored(5), ignored(LARGE, by=LARGE, at=LATER)),
)


async def code_of(call: Coroutine[Any, Any, Any]) -> Code:
    with pytest.raises(RaveError) as caught:
        await call
    return caught.value.code


async def test_a_new_store_is_empty(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert store.engine in ("embedded", "mongodb")
        assert await store.read() == Contents()


async def test_names_that_are_stored_in_other_spellings_count(make_store: MakeStore) -> None:
    """As earlier versions have written them, and people who write MongoDB's documents by hand."""
    spellings = tuple(
        permission(name, requires_admin=name == "STRASSE") for name in ("STRASSE", "straße", "\uff50ing")
    )

    async with opened(make_store()) as store:
        await store.replace(Contents(permissions=spellings))
        read = await store.read()
        assert {each.command: each.requires_admin for each in read.permissions} == {
            "ping": False,
            "strasse": True,
        }
        await store.set_permission(permission("strasse", requires_admin=False))
        assert permission("strasse", requires_admin=False) in (await store.read()).permissions
        assert await store.remove_permission("ping")
        assert await store.remove_permission("strasse")
        assert not await store.remove_permission("strasse")
        assert await store.read() == Contents()


async def test_everything_comes_back_exactly(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.replace(FULL)
        assert await store.read() == FULL
    async with opened(make_store()) as store:
        assert await store.read() == FULL


async def test_a_replacement_leaves_nothing_of_what_was_there(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.replace(FULL)
        other = Contents(
            credentials=SPARSE,
            admins=(admin(2, at=LATER), admin(3)),
            permissions=(permission("ping", requires_admin=False), permission("set")),
        )
        await store.replace(other)
        assert await store.read() == other
        await store.replace(Contents())
        assert await store.read() == Contents()
        await store.replace(FULL)
        await store.replace(FULL)
        assert await store.read() == FULL


async def test_what_is_read_is_in_order(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        for user in (100, 3, 20):
            await store.add_admin(admin(user))
        for command in ("b", "ä", "a", "𐐨", "\uac00"):
            await store.set_permission(permission(command))
        contents = await store.read()
        assert [each.user_id for each in contents.admins] == [3, 20, 100]
        assert [each.command for each in contents.permissions] == ["a", "b", "ä", "\uac00", "𐐨"]


async def test_dates_are_kept_to_the_millisecond_in_utc(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        elsewhere = WHEN.astimezone(timezone(timedelta(hours=-9, minutes=-30))) + timedelta(microseconds=999)
        await store.add_admin(admin(1, at=elsewhere))
        await store.set_permission(replace(permission("ping"), updated_at=elsewhere))
        await store.save_credentials(replace(ACCOUNT, updated_at=elsewhere))
        contents = await store.read()
        assert contents.credentials
        for date in (
            contents.admins[0].added_at,
            contents.permissions[0].updated_at,
            contents.credentials.updated_at,
        ):
            assert date == WHEN
            assert date.utcoffset() == timedelta(0)


async def test_credentials_take_the_place_of_others_with_all_that_is_not_known(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        for credentials in (
            ACCOUNT,
            SPARSE,
            replace(ACCOUNT, user_id=LARGE),
            replace(ACCOUNT, email="bört@ü.de"),
        ):
            await store.save_credentials(credentials)
            assert await store.read() == Contents(credentials=credentials)


async def test_credentials_are_removed_and_nothing_else(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert await store.remove_credentials() is False
        await store.replace(FULL)
        assert await store.remove_credentials() is True
        assert await store.read() == replace(FULL, credentials=None)
        assert await store.remove_credentials() is False
        await store.save_credentials(ACCOUNT)
        assert await store.read() == FULL


async def test_an_admin_comes_and_goes(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert await store.add_admin(admin(1))
        assert await store.add_admin(admin(2))
        # An active one stays as it is.
        assert not await store.add_admin(admin(1, by=5, at=LATER))
        assert (await store.read()).admins == (admin(1), admin(2))
        assert await store.remove_admin(1)
        assert (await store.read()).admins == (admin(1, active=False), admin(2))
        assert not await store.remove_admin(1)
        assert not await store.remove_admin(3)
        # One who comes again is as good as new.
        assert await store.add_admin(admin(1, by=5, at=LATER))
        assert (await store.read()).admins == (admin(1, by=5, at=LATER), admin(2))


async def test_an_admin_becomes_an_owner_and_nothing_less_again(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert await store.add_admin(admin(2, by=1))
        assert not (await store.read()).admins[0].owner
        assert await store.add_admin(admin(2, by=2, at=LATER))
        assert (await store.read()).admins == (admin(2, by=2, at=LATER),)
        assert (await store.read()).admins[0].owner
        assert not await store.add_admin(admin(2, by=2))
        assert not await store.add_admin(admin(2, by=1))
        assert (await store.read()).admins == (admin(2, by=2, at=LATER),)


async def test_the_last_admin_stays(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert not await store.remove_admin(1), "there is no admin"
        await store.add_admin(admin(1))
        await store.add_admin(admin(2))
        assert await store.remove_admin(2)
        for _ in range(2):
            assert await code_of(store.remove_admin(1)) is Code.LAST_ADMIN
        assert not await store.remove_admin(2), "not an active one"
        assert (await store.read()).admins == (admin(1), admin(2, active=False))
        # What has failed hinders nothing.
        assert await store.add_admin(admin(3))
        assert await store.remove_admin(1)


async def test_permissions_come_and_go(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.set_permission(permission("ping"))
        await store.set_permission(permission("pin"))
        changed = CommandPermission(
            command="ping", requires_admin=False, description="new", updated_at=LATER, updated_by=7
        )
        await store.set_permission(changed)
        await store.set_permission(changed)
        assert (await store.read()).permissions == (permission("pin"), changed)
        assert not await store.remove_permission("pi")
        assert not await store.remove_permission("p%")
        assert await store.remove_permission("ping")
        assert not await store.remove_permission("ping")
        assert (await store.read()).permissions == (permission("pin"),)


async def test_ignored_users_come_and_go(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert await store.ignore_user(ignored(7, by=1))
        assert await store.ignore_user(ignored(3))
        assert not await store.ignore_user(ignored(7, by=2, at=LATER))
        assert (await store.read()).ignored == (ignored(3), ignored(7, by=1))
        assert await store.unignore_user(7)
        assert not await store.unignore_user(7)
        assert await store.read() == Contents(ignored=(ignored(3),))


async def test_many_changes_at_once_are_all_kept(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        added = await asyncio.gather(
            *(store.add_admin(admin(user)) for user in range(1, 11)),
            *(store.set_permission(permission(f"command-{number}")) for number in range(10)),
            store.save_credentials(ACCOUNT),
        )
        assert added[:10] == [True] * 10
        assert await store.read() == Contents(
            credentials=ACCOUNT,
            admins=tuple(admin(user) for user in range(1, 11)),
            permissions=tuple(permission(f"command-{number}") for number in range(10)),
        )
        removed = await asyncio.gather(*(store.remove_admin(user) for user in range(2, 11)))
        assert removed == [True] * 9


async def test_two_removals_at_once_leave_an_admin(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        for _ in range(10):
            await store.replace(Contents(admins=(admin(1), admin(2))))
            results = await asyncio.gather(store.remove_admin(1), store.remove_admin(2), return_exceptions=True)
            left = [each.user_id for each in (await store.read()).admins if each.active]
            removed = [user for user, result in zip((1, 2), results, strict=True) if result is True]
            assert left
            assert not set(left) & set(removed), "who was removed is no admin"
            for result in results:
                assert result is True or (isinstance(result, RaveError) and result.code is Code.LAST_ADMIN)


async def test_what_cannot_be_encoded_is_refused_and_changes_nothing(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.replace(FULL)
        half = "secret-\ud800"
        for call in (
            store.set_permission(permission("ping", description=half)),
            store.save_credentials(replace(ACCOUNT, auth_token=half)),
        ):
            with pytest.raises(RaveError) as caught:
                await call
            assert caught.value.code is Code.BAD_DATA
            assert "secret" not in repr((str(caught.value), caught.value.attributes, caught.value.__cause__))
        assert await store.read() == FULL


async def test_it_may_be_opened_and_closed_in_turn(make_store: MakeStore) -> None:
    store = make_store()
    await store.close()
    assert await code_of(store.read()) is Code.STORE
    for user in (1, 2):
        await store.open()
        await store.add_admin(admin(user))
        await store.close()
        assert await code_of(store.add_admin(admin(9))) is Code.STORE
    await store.close()
    async with opened(store):
        assert (await store.read()).admins == (admin(1), admin(2))


async def test_two_of_them_see_the_same(make_store: MakeStore) -> None:
    async with opened(make_store()) as one, opened(make_store()) as other:
        assert await one.add_admin(admin(1))
        assert not await other.add_admin(admin(1))
        assert await other.add_admin(admin(2))
        assert await one.read() == await other.read() == Contents(admins=(admin(1), admin(2)))


async def test_a_call_that_is_given_up_leaves_it_usable(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.replace(FULL)
        for turns in range(5):
            call = asyncio.create_task(store.read())
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert await store.read() == FULL


async def test_a_dump_moves_from_engine_to_engine(make_store: MakeStore, tmp_path: Path) -> None:
    async with opened(SqliteStore(tmp_path / "other.db")) as embedded, opened(make_store()) as store:
        await embedded.replace(FULL)
        texts = [export.to_json(Export(contents=await embedded.read()))]
        await store.replace(export.from_json(texts[-1]).contents)
        texts.append(export.to_json(Export(contents=await store.read())))
        await embedded.replace(Contents())
        await embedded.replace(export.from_json(texts[-1]).contents)
        texts.append(export.to_json(Export(contents=await embedded.read())))
        assert texts == [texts[0]] * 3
        assert await embedded.read() == await store.read() == FULL


def document(
    mesh: str, name: str, text: str = "[]", *, kind: DocumentKind = DocumentKind.DOCUMENT, at: datetime = WHEN
) -> RoomDocument:
    return RoomDocument(mesh=mesh, kind=kind, name=name, text=text, updated_at=at)


def sizes_of(*documents: RoomDocument) -> list[DocumentSize]:
    return [
        DocumentSize(mesh=each.mesh, kind=each.kind, name=each.name, size=size(each.text), updated_at=each.updated_at)
        for each in documents
    ]


# In the order in which they are listed; those of the mesh "a" come first.
QUEUE = document("a", "queue", '{"entries":[{"title":"日本 🎉 \\u0000 \' \\" $x","user":9223372036854775807}]}')
SETTINGS = document("a", "settings", '{"a.b":{"$set":1}}', at=LATER)
PLAYED = document("a", "queue", "[1,2]", kind=DocumentKind.HISTORY, at=EXTREMES[0])
OTHER_QUEUE = document("b", "queue", "[3]", at=EXTREMES[1])
ROOMS = (QUEUE, SETTINGS, PLAYED, OTHER_QUEUE)


async def test_documents_of_rooms_come_back_exactly_and_are_nothing_of_the_contents(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        assert await store.list_documents() == await store.read_room("a") == []
        assert await store.read_document("a", DocumentKind.DOCUMENT, "queue") is None
        for each in reversed(ROOMS):
            await store.write_document(each)
        assert await store.read() == Contents()
        await store.replace(FULL)
        await store.replace(Contents())
    async with opened(make_store()) as store:
        assert await store.list_documents() == sizes_of(*ROOMS)
        assert await store.read_room("a") == [QUEUE, SETTINGS, PLAYED]
        assert await store.read_room("c") == []
        for each in ROOMS:
            assert await store.read_document(each.mesh, each.kind, each.name) == each
        for name in ("", "que", "queue/", "QUEUE", "%"):
            assert await store.read_document("a", DocumentKind.DOCUMENT, name) is None


async def test_a_document_takes_the_place_of_the_former_one(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        for each in ROOMS:
            await store.write_document(each)
        changed = document("a", "queue", "{}", at=LATER)
        await store.write_document(changed)
        assert await store.read_room("a") == [changed, SETTINGS, PLAYED]
        assert await store.list_documents() == sizes_of(changed, SETTINGS, PLAYED, OTHER_QUEUE)


async def test_the_documents_of_a_room_are_replaced_together(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        for each in ROOMS:
            await store.write_document(each)
        changed, new = document("a", "queue", "{}"), document("a", "hits", "[5]")
        await store.replace_room("a", [changed, new])
        assert await store.read_room("a") == [new, changed]
        await store.replace_room("a", [])
        await store.replace_room("a", [])
        assert await store.list_documents() == sizes_of(OTHER_QUEUE)


async def test_a_document_that_cannot_be_encoded_changes_nothing(make_store: MakeStore) -> None:
    async with opened(make_store()) as store:
        await store.write_document(QUEUE)
        half = document("a", "queue", '["secret-\ud800"]')
        for call in (store.write_document(half), store.replace_room("a", [half])):
            assert await code_of(call) is Code.BAD_DATA
        assert await store.read_room("a") == [QUEUE]


async def test_of_a_user_who_is_forgotten_nothing_stays_but_that_bots_ignore_them_or_listen_to_them(
    make_store: MakeStore,
) -> None:
    by_ann = replace(permission("ping"), updated_by=1)

    async with opened(make_store()) as store:
        former = (
            admin(1, active=False),
            admin(2, by=1),
            admin(3, active=False, by=2),
            admin(4, active=False, by=1),
        )
        await store.replace(
            Contents(
                credentials=ACCOUNT,
                admins=former,
                permissions=(by_ann, permission("a")),
                ignored=(ignored(9, by=1),),
            )
        )
        assert await store.forget_user(1) == 5
        left = Contents(
            credentials=ACCOUNT,
            admins=(admin(2), admin(3, active=False, by=2), admin(4, active=False)),
            permissions=(permission("a"), permission("ping")),
            ignored=(ignored(9),),
        )
        assert await store.read() == left
        assert await store.forget_user(1) == 0
        assert await store.forget_user(9) == 0
        assert await store.forget_user(2) == 1, "who is an admin stays one"
        assert (await store.read()).admins == (admin(2), admin(3, active=False), admin(4, active=False))


async def test_one_host_has_the_account(make_store: MakeStore) -> None:
    first, second = Host(id="1", name="$one"), Host(id="2", name="two")

    async with opened(make_store()) as store, opened(make_store()) as other:
        shared = store.engine == "mongodb"
        holders = await asyncio.gather(store.register_host(first), other.register_host(second))
        assert len(set(holders)) == (1 if shared else 2)
        holder = holders[0]
        assert await store.register_host(holder) == holder
        loser = second if holder == first else first
        await other.release(loser)
        assert await other.register_host(loser) == (holder if shared else loser)
        await other.take_over(loser)
        assert await store.register_host(holder) == (loser if shared else holder)
        await other.release(loser)
        assert await store.register_host(holder) == holder
