"""Changes that were made from rooms, noted and undone: over CachedStore, in the embedded store and on disk."""

from __future__ import annotations

import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ravesvc.config.database import Database
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store import chat_change_log
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.chat_change_log import ChangeRecord, NotRecordedError
from ravesvc.store.engines.mongo import MongoStore
from ravesvc.store.engines.sqlite import SqliteStore
from ravesvc.store.model import Admin, CommandPermission, Contents, IgnoredUser, Store
from ravesvc.store.permissions_cache import PermissionsCache
from tests.unit.fake_store import DOWN, WHEN, FakeRecord, FakeStore
from tests.unit.fake_systemd import MESH, OTHER

pytestmark = pytest.mark.slow

Run = Callable[[Any], Any]

OWNER, ANN, BOB, EVE = 100, 101, 102, 103
AT_FIRST = Contents(
    admins=(
        Admin(user_id=OWNER, added_by=OWNER, added_at=WHEN),
        Admin(user_id=ANN, added_by=OWNER, added_at=WHEN + timedelta(hours=1)),
        Admin(user_id=BOB, added_by=ANN, added_at=WHEN, active=False),
    ),
    permissions=(
        CommandPermission(command="leave", requires_admin=True, description="x", updated_at=WHEN, updated_by=OWNER),
    ),
    ignored=(IgnoredUser(user_id=EVE, added_by=ANN, added_at=WHEN),),
)
ACTOR = ChatUser(ANN, MESH)

# What a room may change, and the words for it.
CHANGES: dict[str, Callable[[CachedStore], Awaitable[Any]]] = {
    f"made user {BOB} an admin": lambda state: state.add_admin(BOB, ANN, actor=ACTOR),
    "made user 555 an admin": lambda state: state.add_admin(555, ANN, actor=ACTOR),
    f"removed the admin {ANN}": lambda state: state.remove_admin(ANN, actor=ChatUser(OWNER, MESH)),
    f"made user {ANN} an owner by a code": lambda state: state.claim_admin(ACTOR),
    f"made user {EVE} an owner by a code": lambda state: state.claim_admin(ChatUser(EVE, MESH)),
    "had user 555 ignored": lambda state: state.ignore_user(555, ANN, actor=ACTOR),
    f"had user {EVE} no longer ignored": lambda state: state.unignore_user(EVE, actor=ACTOR),
    "set the command ping to be for admins only": lambda state: state.set_permission(
        "ping", True, "", ANN, actor=ACTOR
    ),
    "set the command leave to be for all users": lambda state: state.set_permission(
        "leave", False, "y", ANN, actor=ACTOR
    ),
    "reset the command leave to its default permission": lambda state: state.remove_permission("leave", actor=ACTOR),
}
every_change = pytest.mark.parametrize("words", CHANGES)


@contextlib.asynccontextmanager
async def opened(place: Path, store: Store | None = None) -> AsyncIterator[CachedStore]:
    """The service's hold on a store and its record, as a new process has it."""

    async def tell(_: Announcement) -> None:
        pass

    record = ChangeRecord(place / "changes.json")
    copy = PermissionsCache(place / "permissions.json")
    state = CachedStore(
        store or SqliteStore(place / "state.db"), tell, lambda: None, copy=copy, record=record, start_timeout_s=30
    )
    await state.start()
    try:
        yield state
    finally:
        await state.close()


def effective(contents: Contents | None) -> Contents:
    """Without former admins, of whom a store may keep an entry."""
    assert contents
    return Contents(
        admins=tuple(admin for admin in contents.admins if admin.active),
        permissions=contents.permissions,
        ignored=contents.ignored,
    )


async def refusal(change: Awaitable[Any]) -> RaveError:
    with pytest.raises(RaveError) as e:
        await change
    return e.value


@pytest.fixture(params=["embedded", pytest.param("mongodb", marks=pytest.mark.mongo)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "embedded":
        return SqliteStore(tmp_path / "state.db", timeout_s=30, lock_timeout_s=30)
    server = request.getfixturevalue("mongod")
    return MongoStore(Database(path="database.json", uri=server.uri(f"test-{uuid.uuid4().hex}")))


@every_change
async def test_each_change_is_undone_also_by_the_next_process_and_once(
    tmp_path: Path, store: Store, words: str
) -> None:
    async with opened(tmp_path, store) as state:
        await state.replace(AT_FIRST)
        await CHANGES[words](state)
        assert effective(state.contents) != effective(AT_FIRST)
    async with opened(tmp_path, store) as state:
        (change,) = state.chat_changes
        assert (change.number, change.words, change.mesh, change.undone) == (1, words, MESH, False)
        assert await state.undo(1) is True
        assert effective(state.contents) == effective(AT_FIRST), "to the moment and author of each entry"
        assert state.chat_changes[0].undone
        assert await state.undo(1) is False
        assert effective(await state.refresh()) == effective(AT_FIRST)


@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("made user 555 an admin", lambda state: state.add_admin(555, 555)),
        (f"removed the admin {ANN}", lambda state: state.add_admin(ANN, ANN)),
        (f"had user {EVE} no longer ignored", lambda state: state.ignore_user(EVE, 0)),
        (f"had user {EVE} no longer ignored", lambda state: state.add_admin(EVE, EVE)),
        ("set the command ping to be for admins only", lambda state: state.set_permission("ping", True, "", 0)),
        (
            "reset the command leave to its default permission",
            lambda state: state.set_permission("leave", True, "", 0),
        ),
    ],
)
async def test_what_was_changed_again_on_the_host_stays(
    tmp_path: Path, words: str, again: Callable[[CachedStore], Awaitable[Any]]
) -> None:
    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        await CHANGES[words](state)
        await again(state)
        before = await state.refresh()
        error = await refusal(state.undo(1))
        assert error.code is Code.CONFLICT
        assert error.hint
        assert await state.refresh() == before
        assert state.error is None, "the store is not to blame"


@pytest.mark.parametrize(
    ("words", "back"),
    [
        ("made user 555 an admin", lambda state: state.remove_admin(555)),
        ("had user 555 ignored", lambda state: state.unignore_user(555)),
        ("set the command ping to be for admins only", lambda state: state.remove_permission("ping")),
    ],
)
async def test_what_an_operator_has_taken_back_is_undone_already(
    tmp_path: Path, words: str, back: Callable[[CachedStore], Awaitable[Any]]
) -> None:
    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        await CHANGES[words](state)
        await back(state)
        assert await state.undo(1) is False
        await CHANGES[words](state)
        assert await state.undo(1) is False, "it means what was done then, not what is done now"
        assert await state.undo(2) is True


async def test_changes_of_one_entry_are_undone_from_the_last_to_the_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        for number in range(4):
            await state.set_permission("leave", number % 2 == 0, str(number), ANN, actor=ACTOR)
        assert (await refusal(state.undo(2))).code is Code.CONFLICT
        assert [await state.undo(number) for number in (4, 3, 2, 1)] == [True] * 4
        assert effective(state.contents) == effective(AT_FIRST)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_after_all_is_undone_it_is_as_it_was(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    # An ignored user who becomes an admin, and is listened to again after that, is not ignored again.
    changes = [change for words, change in CHANGES.items() if f"user {EVE} an owner" not in words]

    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        for _ in range(30):
            with contextlib.suppress(RaveError):
                await source.choice(changes)(state)
        numbers = [each.number for each in state.chat_changes]
        assert len(numbers) >= 5
        for number in reversed(numbers):
            await state.undo(number)
        assert effective(await state.refresh()) == effective(AT_FIRST)


async def test_what_is_refused_or_changes_nothing_is_not_noted(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        for change, code in (
            (state.remove_admin(OWNER, actor=ACTOR), Code.ACCESS_DENIED),
            (state.ignore_user(OWNER, ANN, actor=ACTOR), Code.INVALID_ARGUMENT),
            (state.add_admin(EVE, EVE, actor=ChatUser(EVE, MESH)), Code.ACCESS_DENIED),
        ):
            assert (await refusal(change)).code is code
        assert await state.add_admin(OWNER, ANN, actor=ACTOR) is False
        assert await state.remove_admin(BOB, actor=ACTOR) is False
        assert await state.remove_permission("ping", actor=ACTOR) is False
        assert await state.unignore_user(BOB, actor=ACTOR) is False
        # What operators do is theirs to undo.
        assert await state.add_admin(BOB, BOB) is True
        assert state.chat_changes == ()


def state_in_memory(store: FakeStore, record: FakeRecord) -> CachedStore:
    async def tell(_: Announcement) -> None:
        pass

    class NoCopy:
        def read(self) -> None: ...

        def write(self, _: Contents) -> None: ...

    return CachedStore(store, tell, lambda: None, copy=NoCopy(), record=record, retry_s=0.005)  # type: ignore[arg-type]


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_change_of_which_nobody_knows_the_end_can_be_undone(carried_out: bool) -> None:
    store, record = FakeStore(AT_FIRST), FakeRecord()
    state = state_in_memory(store, record)
    await state.start()
    if carried_out:
        store.unanswered = DOWN
    else:
        record.hook = lambda: setattr(store, "failure", DOWN)
    assert (await refusal(state.add_admin(555, ANN, actor=ACTOR))).code is Code.STORE
    store.failure, record.hook = None, lambda: None
    await state.refresh()
    assert (555 in state.admins) is carried_out
    assert await state.undo(1) is carried_out
    assert effective(state.contents) == effective(AT_FIRST)
    await state.close()


FULL = NotRecordedError(Code.STORE, "/x/changes.json can't be written: No space left", file="/x/changes.json")


def test_what_can_not_be_noted_is_not_done_and_the_store_is_not_lost(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        store, record = FakeStore(AT_FIRST), FakeRecord()
        state = state_in_memory(store, record)
        await state.start()
        record.failure = FULL
        assert await refusal(state.add_admin(555, ANN, actor=ACTOR)) is FULL
        assert "add_admin" not in store.calls
        assert state.error is None
        assert await state.add_admin(556, 556) is True, "by an operator"
        record.failure = None
        assert await state.add_admin(555, ANN, actor=ACTOR) is True
        await state.close()

    run(body())
    assert caplog.text == ""


async def test_what_is_done_and_can_not_be_noted_is_known_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    store, record = FakeStore(AT_FIRST), FakeRecord()
    state = state_in_memory(store, record)
    await state.start()
    await state.add_admin(555, ANN, actor=ACTOR)
    await state.add_admin(556, ANN, actor=ACTOR)
    await state.remove_admin(556)
    record.failure = FULL
    error = await refusal(state.undo(1))
    assert error.message.startswith("change 1 is undone, but still listed: /x/changes.json can't be written")
    assert 555 not in state.admins
    assert await refusal(state.forget_user(556)) is FULL, "it may be asked for again"
    assert 556 not in state.users
    assert state.error is None
    # Noted, and then refused.
    record.failure, record.hook = None, lambda: setattr(record, "failure", FULL)
    assert (await refusal(state.remove_admin(OWNER, actor=ACTOR))).code is Code.ACCESS_DENIED
    assert "Change 3 was not made, but is still listed: /x/changes.json" in caplog.text
    record.failure, record.hook = None, lambda: None
    assert await state.undo(3) is False
    await state.close()


async def test_nobody_who_is_an_admin_by_now_is_ignored_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.replace(AT_FIRST)
        await state.unignore_user(EVE, actor=ACTOR)
        await state.add_admin(EVE, EVE)
        error = await refusal(state.undo(1))
        assert (error.code, error.hint) == (Code.CONFLICT, "take that right away first")


async def test_the_last_admin_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as state:
        await state.claim_admin(ChatUser(EVE, MESH))
        assert (await refusal(state.undo(1))).code is Code.LAST_ADMIN
        assert state.admins == {EVE}


# The file.


def noted(record: ChangeRecord, user: int = ANN, mesh: str = MESH, about: int = 555) -> int:
    entry = Admin(user_id=about, added_by=user, added_at=WHEN)
    return record.add(ChatUser(user, mesh), WHEN, None, entry).number


def test_the_latest_are_kept_in_a_file_for_the_service_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_change_log, "_MAX_CHANGES", 20)
    record = ChangeRecord(tmp_path / "changes.json")
    assert [noted(record, mesh=OTHER) for _ in range(30)] == list(range(1, 31))
    again = ChangeRecord(tmp_path / "changes.json")
    again.load()
    assert [each.number for each in again.changes] == list(range(11, 31))
    assert again.changes == record.changes
    assert (tmp_path / "changes.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RaveError, match="there is no change 10"):
        again.find(10)


def test_a_number_is_never_used_again(tmp_path: Path) -> None:
    record = ChangeRecord(tmp_path / "changes.json")
    record.remove(noted(record))
    again = ChangeRecord(tmp_path / "changes.json")
    again.load()
    assert (again.changes, noted(again)) == ((), 2)


def test_a_user_who_is_forgotten_is_nowhere(tmp_path: Path) -> None:
    record = ChangeRecord(tmp_path / "changes.json")
    noted(record, user=777)
    noted(record, about=777)
    noted(record, about=556)
    record.forget_user(777)
    assert "777" not in (tmp_path / "changes.json").read_text()
    assert [(each.number, each.user) for each in record.changes] == [(1, 0), (3, ANN)]


@pytest.mark.parametrize(
    "change",
    [
        lambda top: top | {"version": 2},
        lambda top: top | {"next": 1},
        lambda top: top | {"changes": top["changes"] * 2},
        lambda top: top | {"changes": [top["changes"][0] | {"meshId": "../etc"}]},
        lambda top: top | {"changes": [top["changes"][0] | {"after": None}]},
        lambda top: top | {"changes": [top["changes"][0] | {"userId": -1}]},
        lambda top: top | {"changes": [{}]},
        lambda top: [],
    ],
)
def test_a_file_that_makes_no_sense_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[dict[str, Any]], object]
) -> None:
    file = tmp_path / "changes.json"
    noted(ChangeRecord(file))
    text = json.dumps(change(json.loads(file.read_text())))
    file.write_text(text)
    record = ChangeRecord(file)
    record.load()
    assert record.changes == ()
    (kept,) = tmp_path.glob("changes.json.damaged-*")
    assert kept.read_text() == text
    assert f"{file}, with the changes made from rooms, can't be used: " in caplog.text
    noted(record)


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    record = ChangeRecord(tmp_path / "missing" / "changes.json")
    record.load()
    with pytest.raises(RaveError, match=r"changes\.json can't be written: No such file"):
        noted(record)
    assert record.changes == ()
