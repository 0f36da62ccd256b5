from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ravesvc.common.forget import without_users
from ravesvc.core import room_quota
from ravesvc.core.presence_check import PresenceCheck
from ravesvc.core.room_memory import RoomMemory
from ravesvc.errors import Code, RaveError
from ravesvc.names import ALL_MESHES
from ravesvc.store.cached_store import CachedStore
from ravesvc.store.model import Admin, CommandPermission, Contents, IgnoredUser
from ravesvc.store.room_document import DocumentKind, RoomDocument
from tests.unit.conftest import until
from tests.unit.fake_store import DOWN, FakeCopy, FakeRecord, FakeStore, admin, credentials

Run = Callable[[Coroutine[Any, Any, Any]], Any]

A, B = "mesh-a", "mesh-b"
ANN, BOB, EVE = 900000011, 900000012, 900000013
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0
BOTH, ALONE, ONE_LEFT = (
    json.dumps([{"user": user} for user in users], separators=(",", ":")) for users in ((BOB, EVE), (BOB,), (EVE,))
)


class Site:
    """The memory over a store in memory, with a clock that the test sets."""

    def __init__(self, retention: float, contents: Contents) -> None:
        self.store = FakeStore(contents)
        self.copy = FakeCopy()
        self.state = CachedStore(
            self.store,
            self._tell,
            lambda: None,
            copy=self.copy,  # type: ignore[arg-type]
            record=FakeRecord(),
            retry_s=0.005,
        )
        self.now = START
        self.in_use: set[str] | None = {A, B}
        self.unheard: set[str] = set()
        self.told: list[int] = []
        self.present = {A: {ANN, BOB, EVE}, B: {ANN, BOB, EVE}}
        self.asked: list[str] = []
        self.rave_error: RaveError | None = None
        self.telling: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.memory = RoomMemory(
            self.state,
            retention,
            in_use=lambda: self.in_use,
            tell_forget=self._tell_forget,
            presence=PresenceCheck(self._users, self._monotonic),
            clock=lambda: self.now,
            monotonic=self._monotonic,
        )

    def _monotonic(self) -> float:
        return (self.now - START).total_seconds()

    async def _tell(self, what: object) -> None:
        pass

    async def _tell_forget(self, user: int) -> set[str]:
        self.told.append(user)
        if self.telling:
            await self.telling()
        return self.unheard

    async def _users(self, mesh: str) -> set[int]:
        self.asked.append(mesh)
        if self.rave_error:
            raise self.rave_error
        return self.present[mesh]

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def put(self, mesh: str, name: str, text: str, kind: DocumentKind = DocumentKind.DOCUMENT) -> None:
        """Have the store hold a document that no bot has written."""
        document = RoomDocument(mesh=mesh, kind=kind, name=name, text=text, updated_at=self.now)
        self.store.documents[mesh, kind, name] = document

    @property
    def texts(self) -> dict[tuple[str, str], str]:
        """What the store holds, by mesh and name."""
        return {(mesh, name): each.text for (mesh, _, name), each in self.store.documents.items()}


@contextlib.asynccontextmanager
async def site(retention: float = 24 * HOUR, contents: Contents | None = None) -> AsyncIterator[Site]:
    made = Site(retention, contents or Contents(credentials=credentials(), admins=(admin(ANN),)))
    await made.state.start()
    try:
        yield made
    finally:
        made.store.gate.set()
        made.store.failure = None
        await made.state.close()


async def refused(call: Coroutine[Any, Any, Any]) -> RaveError:
    with pytest.raises(RaveError) as caught:
        await call
    return caught.value


async def test_documents_are_kept_for_each_room() -> None:
    async with site() as made:
        assert await made.memory.read_document(A, "queue") is None
        await made.memory.write_document(A, "queue", ' {"a" : [1.0, "\\u00fc"] } ')
        await made.memory.write_document(B, "queue", "[]")
        assert await made.memory.read_document(A, "queue") == '{"a":[1,"ü"]}'
        assert await made.memory.read_document(B, "queue") == "[]"
        assert await made.memory.read_document(B, "hits") is None
        document = made.store.documents[A, DocumentKind.DOCUMENT, "queue"]
        assert document.updated_at == START


@pytest.mark.parametrize("name", ["", "Queue", "1st", "a b", "ü", "a" * 33, "../queue", "queue\n"])
async def test_a_name_is_a_word_in_lower_case(name: str) -> None:
    async with site() as made:
        for call in (
            made.memory.read_document(A, name),
            made.memory.write_document(A, name, "{}"),
            made.memory.append_history(A, name, "{}"),
            made.memory.read_history(A, name, 1),
        ):
            assert (await refused(call)).code is Code.INVALID_ARGUMENT
        assert made.texts == {}


async def test_what_is_no_json_of_ours_is_refused() -> None:
    async with site() as made:
        for text in ("", "{", "1", "[NaN]", '["\\ud800"]', "[" * 50 + "]" * 50):
            assert (await refused(made.memory.write_document(A, "queue", text))).code is Code.INVALID_ARGUMENT
        for text in ("[]", "1", "{", json.dumps({"text": "x" * 4096})):
            assert (await refused(made.memory.append_history(A, "played", text))).code is Code.INVALID_ARGUMENT
        assert made.texts == {}


@pytest.fixture
def small_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room may have 128 KiB."""
    monkeypatch.setattr(room_quota, "_MAX_ROOM_BYTES", 128 * 1024)


@pytest.mark.usefixtures("small_rooms")
async def test_quotas_count_what_was_there_before_the_service_started() -> None:
    async with site() as made:
        made.put(A, "one", '"' + "x" * 60_000 + '"')
        made.put(A, "two", '"' + "x" * 60_000 + '"')
        big = json.dumps(["x" * 20_000])
        assert "keeps 118 KiB already" in (await refused(made.memory.write_document(A, "three", big))).message
        await made.memory.write_document(B, "three", big)
        await made.memory.write_document(A, "one", "[]")
        await made.memory.write_document(A, "three", big)


@pytest.mark.usefixtures("small_rooms")
async def test_a_write_that_fails_leaves_the_quotas_right() -> None:
    async with site() as made:
        await made.memory.write_document(A, "one", json.dumps(["x" * 50_000]))
        await made.memory.write_document(A, "two", json.dumps(["x" * 50_000]))
        made.store.failure = DOWN
        assert (await refused(made.memory.write_document(A, "two", "[]"))).code is Code.STORE
        made.store.failure = None
        await made.state.refresh()
        error = await refused(made.memory.write_document(A, "three", json.dumps(["x" * 50_000])))
        assert "keeps 98 KiB already" in error.message


@pytest.mark.usefixtures("small_rooms")
async def test_a_write_may_have_been_carried_out_although_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as made:
        await made.memory.write_document(A, "one", json.dumps(["x" * 50_000]))
        write = made.store.write_document

        async def unanswered(document: RoomDocument) -> None:
            await write(document)
            raise DOWN

        monkeypatch.setattr(made.store, "write_document", unanswered)
        assert (await refused(made.memory.write_document(A, "two", json.dumps(["x" * 50_000])))).code is Code.STORE
        monkeypatch.setattr(made.store, "write_document", write)
        await made.state.refresh()
        error = await refused(made.memory.write_document(A, "three", json.dumps(["x" * 50_000])))
        assert "keeps 98 KiB already" in error.message


@pytest.mark.usefixtures("small_rooms")
async def test_what_was_forgotten_leaves_place_for_others() -> None:
    async with site() as made:
        text = json.dumps([{"user": BOB, "title": "x" * 50_000}])
        for name in ("one", "two"):
            await made.memory.write_document(A, name, text)
        await made.memory.forget_user(BOB)
        for name in ("three", "four"):
            await made.memory.write_document(A, name, text)


async def test_a_room_that_writes_too_often_has_to_wait_and_others_have_not() -> None:
    async with site() as made:
        for _ in range(20):
            await made.memory.write_document(A, "queue", "[]")
            await made.memory.append_history(A, "played", "{}")
        for call in (made.memory.write_document(A, "queue", "[]"), made.memory.append_history(A, "p", "{}")):
            error = await refused(call)
            assert error.code is Code.RATE_LIMITED
            assert error.hint == "try again in 1 s"
        await made.memory.write_document(B, "queue", "[]")
        assert await made.memory.read_document(A, "queue") == "[]"
        made.later(1)
        await made.memory.write_document(A, "queue", "[]")
        for _ in range(80):
            await made.memory.read_history(A, "played", 1)
        assert (await refused(made.memory.read_document(A, "queue"))).code is Code.RATE_LIMITED


async def test_the_latest_entries_of_a_history_come_back_with_their_times() -> None:
    async with site() as made:
        for number in range(4):
            await made.memory.append_history(A, "played", json.dumps({"n": number, "time": "mine"}))
            made.later(60)
        start = int(START.timestamp())
        found = [json.loads(each) for each in await made.memory.read_history(A, "played", 3)]
        assert found == [{"n": n, "time": start + 60 * n} for n in (1, 2, 3)]
        assert await made.memory.read_history(A, "played", 0) == []
        assert len(await made.memory.read_history(A, "played", 2**32 - 1)) == 4
        assert await made.memory.read_history(B, "played", 3) == []
        assert await made.memory.read_document(A, "played") is None, "a history is no document"


async def test_entries_that_are_too_old_are_neither_read_nor_kept() -> None:
    async with site(retention=HOUR) as made:
        await made.memory.append_history(A, "played", '{"n":1}')
        made.later(HOUR / 2)
        await made.memory.append_history(A, "played", '{"n":2}')
        made.later(HOUR / 2 + 1)
        (entry,) = await made.memory.read_history(A, "played", 10)
        assert json.loads(entry)["n"] == 2
        assert '"n":1' in made.texts[A, "played"]
        await made.memory.append_history(A, "played", '{"n":3}')
        assert '"n":1' not in made.texts[A, "played"]
        made.later(HOUR + 1)
        touched = made.store.documents[A, DocumentKind.HISTORY, "played"].updated_at
        await made.memory.expire()
        assert made.texts == {(A, "played"): "[]"}
        assert made.store.documents[A, DocumentKind.HISTORY, "played"].updated_at == touched


async def test_without_a_retention_no_history_is_kept() -> None:
    async with site(retention=0) as made:
        made.put(A, "played", f'[{{"time":{int(START.timestamp())}}}]', DocumentKind.HISTORY)
        made.put(A, "queue", "[1]")
        await made.memory.append_history(A, "played", "{}")
        assert (await refused(made.memory.append_history(A, "played", "nonsense"))).code is Code.INVALID_ARGUMENT
        made.later(1)
        assert await made.memory.read_history(A, "played", 5) == []
        await made.memory.expire()
        assert made.texts == {(A, "played"): "[]", (A, "queue"): "[1]"}


async def test_rooms_that_are_no_longer_in_use_are_dropped_when_they_were_not_touched_for_long() -> None:
    async with site(retention=48 * HOUR) as made:
        for mesh in (A, B):
            made.put(mesh, "queue", "[]")
            made.put(mesh, "settings", "{}")
        made.later(24 * HOUR)
        made.put(B, "queue", "[1]")
        made.later(24 * HOUR + 1)
        await made.memory.expire()
        made.in_use = None
        await made.memory.expire()
        assert len(made.texts) == 4, "in use, or not known not to be"
        made.in_use = {"another"}
        await made.memory.expire()
        assert made.texts == {(B, "queue"): "[1]", (B, "settings"): "{}"}


async def test_it_expires_for_ever_also_after_the_store_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async with site() as made:

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            made.store.failure = DOWN if len(pauses) == 2 else None
            if len(pauses) > 1:
                with contextlib.suppress(RaveError):
                    await made.state.refresh()
            if len(pauses) == 4:
                raise asyncio.CancelledError

        monkeypatch.setattr("ravesvc.core.room_memory.asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await made.memory.run()
        monkeypatch.undo()
    assert pauses == [600.0, 86400.0, 600.0, 86400.0]


def test_an_expiry_that_fails_unexpectedly_is_logged_and_does_not_end_the_service(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    async def broken() -> None:
        raise TypeError("a fault of ours")

    async def body() -> None:
        async with site() as made:
            monkeypatch.setattr(made.store, "list_documents", broken)
            monkeypatch.setattr("ravesvc.core.room_memory.asyncio.sleep", sleep)
            with pytest.raises(asyncio.CancelledError):
                await made.memory.run()
            monkeypatch.undo()

    run(body())
    assert pauses == [600.0, 86400.0]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "What rooms remember for too long could not be removed"
    ]


async def test_a_time_that_is_a_text_breaks_neither_the_history_nor_the_store() -> None:
    """A database that was edited by hand may have it, or an export that was."""

    async with site() as made:
        made.put(A, "played", '[{"time":"5","n":1}]', DocumentKind.HISTORY)
        await made.memory.expire()
        assert await made.memory.read_history(A, "played", 5) == []
        await made.memory.append_history(A, "played", '{"n":2}')
        (entry,) = await made.memory.read_history(A, "played", 5)
        assert json.loads(entry)["n"] == 2
        assert made.state.error is None


async def test_what_all_rooms_share_has_versions() -> None:
    async with site() as made:
        assert await made.memory.read_shared(A, "plugin-x") == ("", "")
        assert await made.memory.write_shared(A, "plugin-x", '{ "n": 1 }', "")
        text, version = await made.memory.read_shared(B, "plugin-x")
        assert text == '{"n":1}'
        assert not await made.memory.write_shared(A, "plugin-x", '{"n":2}', ""), "B may have read it by now"
        assert await made.memory.write_shared(B, "plugin-x", '{"n":2}', version)
        assert not await made.memory.write_shared(A, "plugin-x", '{"n":3}', version)
        assert made.texts == {(ALL_MESHES, "plugin-x"): '{"n":2}'}
        assert await made.memory.read_document(A, "plugin-x") is None
        assert (await refused(made.memory.write_shared(A, "plugin-x", "1", ""))).code is Code.INVALID_ARGUMENT
        assert (await refused(made.memory.write_shared(A, "queue", "{}", ""))).code is Code.INVALID_ARGUMENT


async def test_of_two_rooms_that_write_at_the_same_time_one_has_to_read_again() -> None:
    async with site() as made:
        both = [made.memory.write_shared(mesh, "plugin-x", '{"n":1}', "") for mesh in (A, B)]
        assert sorted(await asyncio.gather(*both)) == [False, True]


async def test_what_all_rooms_share_stays_and_users_are_forgotten_there_as_well() -> None:
    async with site() as made:
        await made.memory.write_shared(A, "plugin-x", f'{{"users":{{"{BOB}":{{"n":1}},"{EVE}":{{"n":2}}}}}}', "")
        made.later(1000 * HOUR)
        await made.memory.expire()
        assert await made.memory.forget_user(BOB) == 1
        assert made.texts == {(ALL_MESHES, "plugin-x"): f'{{"users":{{"{EVE}":{{"n":2}}}}}}'}


async def test_a_room_that_asks_too_often_for_what_all_share_has_to_wait() -> None:
    async with site() as made:
        for _ in range(40):
            await made.memory.write_document(A, "queue", "[]")
        assert (await refused(made.memory.write_shared(A, "plugin-x", "{}", ""))).code is Code.RATE_LIMITED
        assert await made.memory.write_shared(B, "plugin-x", "{}", "")


async def test_a_user_is_taken_out_of_all_rooms_the_store_and_its_copy() -> None:
    at = START
    contents = Contents(
        credentials=credentials(),
        admins=(
            Admin(user_id=ANN, added_by=BOB, added_at=at),
            Admin(user_id=BOB, added_by=ANN, added_at=at, active=False),
        ),
        permissions=(
            CommandPermission(command="a", requires_admin=True, description="", updated_at=at, updated_by=1),
        ),
        ignored=(IgnoredUser(user_id=5, added_by=ANN, added_at=at),),
    )

    async with site(contents=contents) as made:
        made.copy.write(contents)
        entries = f'[{{"user":{BOB},"title":"x"}},{{"user":{EVE},"served":[{BOB},{ANN}]}}]'
        await made.memory.write_document(A, "queue", f'{{"entries":{entries},"by":{BOB}}}')
        await made.memory.write_document(B, "queue", f"[{ANN}]")
        await made.memory.append_history(B, "played", f'{{"user":"{BOB}_device"}}')
        made.put(B, "broken", f"{{{BOB}")
        made.store.calls.clear()
        # Two entries as an admin, two of the queue's, its field, that of the history, and a document.
        assert await made.memory.forget_user(BOB) == 2 + 3 + 1 + 1
        assert made.told == [BOB]
        assert made.texts == {
            (A, "queue"): f'{{"entries":[{{"user":{EVE},"served":[{ANN}]}}]}}',
            (B, "queue"): f"[{ANN}]",
            (B, "played"): "[]",
        }
        assert str(BOB) not in repr((made.store.contents, made.state.contents, made.copy.kept))
        assert made.state.admins == {ANN}
        assert await made.memory.forget_user(BOB) == 0


async def test_who_is_still_needed_is_not_forgotten() -> None:
    ignored = (IgnoredUser(user_id=EVE, added_by=0, added_at=START),)
    contents = Contents(credentials=credentials(), admins=(admin(ANN),), ignored=ignored)

    async with site(contents=contents) as made:
        made.put(A, "queue", f"[{ANN},{EVE},900000001]")
        for user, why in ((ANN, "an admin"), (EVE, "ignored"), (900000001, "the bot itself")):
            error = await refused(made.memory.forget_user(user))
            assert error.code is Code.INVALID_ARGUMENT
            assert f"user {user} is {why}" in error.message
        assert made.told == []
        assert made.texts == {(A, "queue"): f"[{ANN},{EVE},900000001]"}


async def test_a_bot_writes_back_nobody_who_is_being_forgotten() -> None:
    """What it wrote before it heard of it comes here before its answer, and may have to wait for the disk."""

    async with site() as made:
        writes: list[asyncio.Task[None]] = []

        async def telling() -> None:
            made.store.gate.clear()
            for name in ("queue", "hits"):
                write = made.memory.write_document(A, name, f'[{{"user":{BOB}}},{{"user":{EVE}}}]')
                writes.append(asyncio.create_task(write))
            await asyncio.sleep(0)
            made.store.gate.set()

        made.telling = telling
        made.put(A, "queue", ALONE)
        await made.memory.forget_user(BOB)
        await asyncio.gather(*writes)
        assert made.texts == {(A, "queue"): f'[{{"user":{EVE}}}]', (A, "hits"): f'[{{"user":{EVE}}}]'}
        # What they do from now on is new.
        await made.memory.write_document(A, "queue", f'[{{"user":{BOB}}}]')
        assert made.texts[A, "queue"] == f'[{{"user":{BOB}}}]'


async def test_no_bot_writes_a_user_back_to_a_room_that_is_done_already(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as made:
        forget, writes = made.store.forget_user, []

        async def late(user: int) -> int:
            writes.append(asyncio.create_task(made.memory.write_document(A, "queue", BOTH)))
            await asyncio.sleep(0)
            return await forget(user)

        monkeypatch.setattr(made.store, "forget_user", late)
        await made.memory.forget_user(BOB)
        await asyncio.gather(*writes)
        assert made.texts == {(A, "queue"): ONE_LEFT}


async def test_a_bot_that_has_not_heard_of_it_is_watched_for_a_while() -> None:
    async with site() as made:
        made.unheard = {A}
        await made.memory.forget_user(BOB)
        for mesh in (A, B):
            await made.memory.write_document(mesh, "queue", BOTH)
        assert made.texts == {(A, "queue"): ONE_LEFT, (B, "queue"): BOTH}
        made.later(3601)
        await made.memory.write_document(A, "queue", BOTH)
        assert made.texts[A, "queue"] == BOTH


async def test_users_who_are_watched_are_all_looked_for_in_one_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot chooses what there is to walk, and how many wishes it leaves unanswered."""
    walks: list[set[int]] = []

    def counted(value: Any, users: Collection[int]) -> tuple[Any, int]:
        walks.append(set(users))
        return without_users(value, users)

    async with site() as made:
        made.unheard = {A}
        for user in range(EVE + 1, EVE + 64):
            await made.memory.forget_user(user)
        monkeypatch.setattr("ravesvc.core.forgotten_users.without_users", counted)
        await made.memory.write_document(A, "queue", json.dumps([{"user": EVE + 1}, {"user": EVE + 63}, []]))
        assert walks == [set(range(EVE + 1, EVE + 64))]
        assert made.texts == {(A, "queue"): "[[]]"}
        await made.memory.write_document(B, "queue", BOTH)
        assert len(walks) == 1, "of that bot all have been heard"


async def test_a_bot_that_confirms_no_wish_may_make_no_more() -> None:
    async with site() as made:
        made.unheard = {A}
        for user in range(EVE + 1, EVE + 16):
            await made.memory.forget_user(user)
        await made.memory.forget_at_wish(A, BOB)
        error = await refused(made.memory.forget_at_wish(A, EVE))
        assert error.code is Code.BUSY
        assert "has not confirmed" in error.message
        await made.memory.forget_at_wish(B, EVE)
        made.later(3601)
        await made.memory.forget_at_wish(A, EVE)


async def test_forgetting_that_fails_may_be_repeated_and_leaves_nothing_behind() -> None:
    async with site() as made:
        made.put(A, "queue", ALONE)

        async def telling() -> None:
            made.store.failure = DOWN

        made.telling = telling
        assert (await refused(made.memory.forget_user(BOB))).code is Code.STORE
        made.store.failure, made.telling = None, None
        await made.state.refresh()
        await made.memory.write_document(B, "queue", ALONE)
        assert made.texts[B, "queue"] == ALONE
        assert await made.memory.forget_user(BOB) == 2


async def test_a_room_may_ask_for_it_three_times_at_once() -> None:
    async with site() as made:
        for _ in range(3):
            await made.memory.forget_at_wish(A, BOB)
        assert (await refused(made.memory.forget_at_wish(A, BOB))).code is Code.RATE_LIMITED
        await made.memory.forget_at_wish(B, BOB)
        await made.memory.forget_user(BOB)


async def test_a_bot_has_only_users_forgotten_whom_rave_lists_in_its_room() -> None:
    async with site() as made:
        made.present[A] = {BOB}
        made.put(B, "queue", BOTH)
        error = await refused(made.memory.forget_at_wish(A, EVE))
        assert error.code is Code.ACCESS_DENIED
        assert "Rave does not list you" in error.message
        assert (made.told, made.texts) == ([], {(B, "queue"): BOTH})
        assert await made.memory.forget_at_wish(A, BOB) == 1
        assert made.asked == [A], "its answer is good for seconds"


async def test_without_rave_s_word_no_bot_has_a_user_forgotten() -> None:
    async with site() as made:
        made.put(A, "queue", ALONE)
        made.rave_error = RaveError(Code.NETWORK, "api.test can't be reached")
        error = await refused(made.memory.forget_at_wish(A, BOB))
        assert error.code is Code.NETWORK
        assert "it can't be checked who is in this room" in error.message
        assert made.texts == {(A, "queue"): ALONE}
        # Rave is asked no more often than a room may ask, and not for users whom we refuse ourselves.
        await refused(made.memory.forget_at_wish(A, ANN))
        assert made.asked == [A]
        made.later(1)
        await refused(made.memory.forget_at_wish(A, BOB))
        assert (await refused(made.memory.forget_at_wish(A, BOB))).code is Code.RATE_LIMITED
        assert made.asked == [A, A]
        assert await made.memory.forget_user(BOB) == 1, "an operator needs no word of Rave"


async def test_a_change_whose_caller_gives_up_is_carried_out() -> None:
    async with site() as made:
        made.store.gate.clear()
        write = asyncio.create_task(made.memory.write_document(A, "queue", "[1]"))
        await until(lambda: made.store.waiting_calls == 1)
        write.cancel()
        await asyncio.wait([write])
        made.store.gate.set()
        assert await made.memory.read_document(A, "queue") == "[1]"
        assert made.state.error is None


async def test_reading_that_is_given_up_leaves_the_store_usable() -> None:
    async with site() as made:
        made.store.gate.clear()
        read = asyncio.create_task(made.memory.read_document(A, "queue"))
        await until(lambda: made.store.waiting_calls == 1)
        read.cancel()
        await asyncio.wait([read])
        assert made.state.error is None
        made.store.gate.set()
        await made.memory.write_document(A, "queue", "[1]")


async def test_all_of_it_can_be_taken_out_and_put_back() -> None:
    async with site() as made:
        await made.memory.write_document(A, "queue", "[1]")
        await made.memory.append_history(B, "played", "{}")
        exported = await made.memory.export()
        assert [(each.mesh, each.name) for each in exported] == [(A, "queue"), (B, "played")]
        await made.memory.write_document(A, "settings", "{}")
        await made.memory.write_document("other", "settings", "{}")
        await made.memory.replace(exported)
        assert await made.memory.export() == exported
        await made.memory.replace([dataclasses.replace(exported[0], mesh="new")])
        assert made.texts == {("new", "queue"): "[1]"}
