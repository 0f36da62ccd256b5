"""A user who is forgotten, in either store as it really is: of the id nothing is left, wherever one looks."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bot.queue import Queue, QueueEntry, QueueLimits
from ravesvc.common.video import Video
from ravesvc.config.database import Database
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.room_memory import RoomMemory
from ravesvc.store import export
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.chat_change_log import ChangeRecord
from ravesvc.store.engines.mongo import MongoStore
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.export import Export
from ravesvc.store.model import Admin, CommandPermission, Contents, IgnoredUser, Store
from ravesvc.store.permissions_cache import PermissionsCache
from tests.unit.fake_store import credentials

pytestmark = pytest.mark.slow

# All that a store and the files beside it hold, as they hold it.
Raw = Callable[[], str]

USERS = [900000100 + number for number in range(6)]
GONE = USERS[0]
MESHES = [str(uuid.UUID(int=number, version=4)) for number in range(3)]
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["embedded", pytest.param("mongodb", marks=pytest.mark.mongo)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Raw]:
    """An engine, not open yet, and a look at what it really holds."""
    if request.param == "embedded":
        path = tmp_path / "state.db"
        return SqliteStore(path, timeout_s=30, lock_timeout_s=30), lambda: _files(tmp_path) + _tables(path)
    server = request.getfixturevalue("mongod")
    name = f"test-{uuid.uuid4().hex}"

    def collections() -> str:
        with server.client() as client:
            database = client[name]
            return repr([list(database[each].find()) for each in database.list_collection_names()])

    store = MongoStore(Database(path="database.json", uri=server.uri(name)))
    return store, lambda: _files(tmp_path) + collections()


def _files(directory: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in directory.iterdir())


def _tables(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


async def nobody(_: str) -> tuple[int, ...]:
    """Who is in a mesh."""
    return ()


@contextlib.asynccontextmanager
async def remembering(store: Store, copy: Path) -> AsyncIterator[tuple[CachedStore, RoomMemory]]:
    async def tell(_: object) -> None:
        pass

    async def tell_forget(_: int) -> tuple[str, ...]:
        return ()

    record = ChangeRecord(copy.with_name("changes.json"))
    state = CachedStore(store, tell, lambda: None, copy=PermissionsCache(copy), record=record, start_timeout_s=30)
    await state.start()
    try:
        yield (
            state,
            RoomMemory(
                state, 90 * 86400.0, in_use=lambda: None, tell_forget=tell_forget, presence=PresenceCheck(nobody)
            ),
        )
    finally:
        await state.close()


def anything(source: random.Random, depth: int = 3) -> Any:
    """JSON in which users occur in every way that there is."""
    if not depth or source.random() < 0.2:
        return source.choice((None, True, "", 7, 0.5))
    inner = [anything(source, depth - 1) for _ in range(source.randint(0, 3))]
    if source.random() < 0.3:
        return inner
    return {
        **dict(zip("abc", inner, strict=False)),
        source.choice(("user", "set_by", "served")): users(source, depth),
    }


def users(source: random.Random, depth: int) -> Any:
    """One, or several, under a key that holds users."""
    user = source.choice(USERS)
    forms = (user, str(user), f"{user}_0123abcd", float(user), {str(user): anything(source, depth - 1)})
    return source.choice((*forms, [source.choice(USERS), anything(source, depth - 1), user]))


def some(source: random.Random) -> Contents:
    def by() -> int:
        return source.choice([0, *USERS])

    admins = [Admin(user_id=user, added_by=by(), added_at=WHEN, active=user != GONE) for user in USERS[:4]]
    permissions = [
        CommandPermission(command=name, requires_admin=True, description="", updated_at=WHEN, updated_by=by())
        for name in ("ping", "info", "play")
    ]
    ignored = [IgnoredUser(user_id=user, added_by=by(), added_at=WHEN) for user in USERS[4:]]
    return Contents(
        credentials=credentials(), admins=tuple(admins), permissions=tuple(permissions), ignored=tuple(ignored)
    )


@pytest.mark.parametrize("seed", range(6))
async def test_the_id_is_nowhere_and_what_is_about_others_is_still_there(
    place: tuple[Store, Raw], tmp_path: Path, seed: int
) -> None:
    store, raw = place
    source = random.Random(seed)
    other = USERS[1]

    async with remembering(store, tmp_path / "permissions.json") as (state, memory):
        await state.replace(some(source))
        for mesh in MESHES:
            for name in ("queue", "settings"):
                text = json.dumps({"x": anything(source), "users": [GONE], "stays": {"user": other}})
                await memory.write_document(mesh, name, text)
            for _ in range(5):
                await memory.append_history(mesh, "played", json.dumps({"x": anything(source), "by": other}))
        actor = ChatUser(other, MESHES[0])
        await state.add_admin(GONE, other, actor=actor)
        await state.remove_admin(GONE, actor=actor)
        assert raw().count(str(GONE)) > 10, "else this test proves nothing"
        assert str(GONE) in (tmp_path / "changes.json").read_text()
        before = await memory.export()
        assert await memory.forget_user(GONE) > 6
        contents, rooms = await state.refresh(), await memory.export()
        for text in (
            raw(),
            export.to_json(Export(contents=contents, rooms=rooms)),
            (tmp_path / "permissions.json").read_text(),
        ):
            assert str(GONE) not in text
        assert state.admins == set(USERS[1:4])
        assert state.ignored == set(USERS[4:])
        assert len(contents.permissions) == 3
        for document, former in zip(rooms, before, strict=True):
            assert (document.mesh, document.name) == (former.mesh, former.name)
            if document.name != "played":
                assert json.loads(document.text)["stays"] == {"user": other}
            elif str(GONE) not in former.text:
                assert document == former
        assert await memory.forget_user(GONE) == 0


@pytest.mark.parametrize("first", [USERS[0], 1, 7])
async def test_the_queue_of_a_room_goes_on_without_them(tmp_path: Path, first: int) -> None:
    """Also when the id is equal to rounds, views and what stands in titles."""

    def entry(number: int, user: int) -> QueueEntry:
        url = f"https://video.example/watch?v={number}"
        video = Video(provider="youtube", id=f"video-{number}", url=url, title=f"{number} of 7", views=7, seconds=7)
        return QueueEntry(video=video, user=user, asked_at=number)

    limits = QueueLimits()
    queue = Queue()
    for number in range(9):
        queue = queue.add(entry(number, first + number % 3), limits)
    # Whose turn it was: an entry that waits for it, and a place among those who had it.
    queue = queue.request_next().choose(entry(9, first + 1), "https://rave.example/7", "")

    async with remembering(SqliteStore(tmp_path / "state.db"), tmp_path / "permissions.json") as (_, memory):
        await memory.write_document(MESHES[0], "queue", queue.to_json())
        assert await memory.forget_user(first) == 4
        left = await memory.read_document(MESHES[0], "queue")
        assert left
        assert Queue.from_json(left, limits) == queue.without_user(first)


async def test_what_is_too_old_goes_from_either_store(place: tuple[Store, Raw], tmp_path: Path) -> None:
    store, raw = place

    async with remembering(store, tmp_path / "permissions.json") as (state, memory):
        await memory.append_history(MESHES[0], "played", '{"title":"an old one"}')
        await memory.write_document(MESHES[1], "queue", '["of a room that was left"]')
        now = datetime.now(UTC)

        async def tell_forget(_: int) -> tuple[str, ...]:
            return ()

        later = RoomMemory(
            state,
            3600.0,
            in_use=lambda: {MESHES[0]},
            tell_forget=tell_forget,
            presence=PresenceCheck(nobody),
            clock=lambda: now + timedelta(days=2),
        )
        await later.expire()
        assert "an old one" not in raw()
        assert "was left" not in raw()
        assert [(each.mesh, each.text) for each in await memory.export()] == [(MESHES[0], "[]")]
