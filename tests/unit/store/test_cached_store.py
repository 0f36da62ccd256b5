from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement
from ravesvc.store.cached_store import CachedStore, now
from ravesvc.store.chat_change import ChatUser
from ravesvc.store.model import Contents, IgnoredUser
from tests.unit.conftest import until
from tests.unit.fake_store import DAMAGED, DOWN, WHEN, FakeCopy, FakeRecord, FakeStore, admin, credentials, permission
from tests.unit.fake_systemd import MESH

ADMINS, PERMISSIONS, CREDENTIALS = Announcement.ADMINS, Announcement.PERMISSIONS, Announcement.CREDENTIALS
IGNORED = Announcement.IGNORED
BUG = ZeroDivisionError("a bug")
FULL = Contents(
    credentials=credentials(),
    admins=(admin(1), admin(2)),
    permissions=(permission("kick"),),
    ignored=(IgnoredUser(user_id=8, added_by=1, added_at=WHEN),),
)


class Site:
    """A state on a store that a test can break; it notes what is told and shown."""

    def __init__(self, contents: Contents | None = FULL, retry: float = 0.005, patience: float = 5.0) -> None:
        self.store = FakeStore(contents)
        self.told: list[Announcement] = []
        self.shown: list[str | None] = []
        self.telling: asyncio.Event | None = None
        self.failure: RaveError | None = None
        self.copy = FakeCopy()
        self.record = FakeRecord()
        self.state = CachedStore(
            self.store,
            self._tell,
            self._show,
            copy=self.copy,  # type: ignore[arg-type]
            record=self.record,
            clock=lambda: WHEN,
            retry_s=retry,
            start_timeout_s=patience,
        )

    async def _tell(self, announcement: Announcement) -> None:
        self.told.append(announcement)
        if self.telling:
            await self.telling.wait()
        if self.failure:
            raise self.failure

    def _show(self) -> None:
        self.shown.append(self.state.error and self.state.error.message)

    def forget(self) -> None:
        """What was told, shown and called until now is of no interest."""
        self.told.clear()
        self.shown.clear()
        self.store.calls.clear()


@contextlib.asynccontextmanager
async def site(contents: Contents | None = FULL, **options: float) -> AsyncIterator[Site]:
    """A site whose store was good at its start."""
    made = Site(contents, **options)
    await made.state.start()
    await until(lambda: len(made.told) == 4)
    made.forget()
    try:
        yield made
    finally:
        made.store.gate.set()
        await made.state.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("ravesvc")]


async def failure(change: Awaitable[Any]) -> RaveError:
    with pytest.raises(RaveError) as raised:
        await change
    return raised.value


CHANGES: dict[str, Callable[[CachedStore], Awaitable[Any]]] = {
    "add_admin": lambda state: state.add_admin(3, 1),
    "remove_admin": lambda state: state.remove_admin(2),
    "ignore_user": lambda state: state.ignore_user(9, 1),
    "unignore_user": lambda state: state.unignore_user(8),
    "set_permission": lambda state: state.set_permission("leave", False, "", 1),
    "remove_permission": lambda state: state.remove_permission("kick"),
    "save_credentials": lambda state: state.save_credentials(credentials("other@example.test")),
    "remove_credentials": lambda state: state.remove_credentials(),
    "replace": lambda state: state.replace(Contents()),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


async def test_it_reads_everything_at_its_start_and_tells_it_as_news() -> None:
    made = Site()
    assert made.state.error
    assert not made.state.loaded
    assert (made.state.admins, made.state.overrides, made.state.credentials) == (frozenset(), {}, None)
    await made.state.start()
    assert made.state.error is None
    assert made.state.loaded
    assert made.state.engine == "embedded"
    assert made.state.admins == {1, 2}
    assert made.state.overrides == {"kick": True}
    assert made.state.credentials == credentials()
    assert made.shown[-1] is None
    await until(lambda: sorted(made.told) == sorted([ADMINS, CREDENTIALS, IGNORED, PERMISSIONS]))
    await made.state.close()
    assert not made.store.is_open


async def test_ignored_users_come_and_go_and_no_admin_is_one() -> None:
    async with site() as made:
        assert await made.state.ignore_user(9, 1, actor=ChatUser(1, MESH))
        assert not await made.state.ignore_user(9, 1)
        assert made.state.ignored == {8, 9}
        assert made.told == [IGNORED]
        refused = await failure(made.state.ignore_user(2, 1))
        assert refused.code is Code.INVALID_ARGUMENT
        assert "is an admin" in refused.message
        assert (await failure(made.state.ignore_user(5, 9, actor=ChatUser(9, MESH)))).code is Code.ACCESS_DENIED
        assert await made.state.unignore_user(9)
        assert not await made.state.unignore_user(9)
        assert made.state.ignored == {8}


async def test_what_ends_a_recovery_ends_the_work() -> None:
    made = Site()
    made.failure = RaveError(Code.BAD_FILE, "it can't be used")
    await made.state.start()
    # No caller waits for the recovery itself.
    assert await failure(made.state.work()) is made.failure
    await made.state.close()
    assert await failure(made.state.work()) is made.failure


async def test_an_empty_store_is_news_too() -> None:
    async with site(Contents()) as made:
        assert made.state.loaded
        assert made.state.contents == Contents()


def test_the_time_is_in_whole_milliseconds() -> None:
    assert now().microsecond % 1000 == 0
    assert now().utcoffset() is not None


async def test_a_new_admin() -> None:
    async with site() as made:
        assert await made.state.add_admin(3, 1) is True
        assert made.state.admins == {1, 2, 3}
        assert made.store.contents.admins[-1] == dataclasses.replace(admin(3), added_by=1)
        assert made.told == [ADMINS]
        assert made.shown == [None]
        assert made.store.calls == ["add_admin"]


async def test_an_admin_who_is_one_changes_nothing() -> None:
    async with site() as made:
        assert await made.state.add_admin(2, 1) is False
        assert made.told == []
        assert made.state.contents == FULL


async def test_no_change_to_the_store_may_be_news_to_us() -> None:
    async with site() as made:
        # Another program has added them.
        made.store.contents = dataclasses.replace(FULL, admins=(*FULL.admins, admin(3)))
        assert await made.state.add_admin(3, 1) is False
        assert made.state.admins == {1, 2, 3}
        assert made.told == [ADMINS]


async def test_an_admin_is_removed_and_comes_back() -> None:
    async with site() as made:
        assert await made.state.remove_admin(2) is True
        assert made.state.admins == {1}
        assert made.state.contents == made.store.contents
        assert made.told == [ADMINS]
        assert await made.state.remove_admin(2) is False
        assert await made.state.remove_admin(99) is False
        assert made.told == [ADMINS]
        assert await made.state.add_admin(2, 1) is True
        assert made.state.admins == {1, 2}
        assert made.told == [ADMINS, ADMINS]
        assert made.state.contents == made.store.contents


async def test_an_owner_is_removed_by_no_chat_user() -> None:
    async with site() as made:
        assert await made.state.add_admin(3, 3) is True
        assert await made.state.add_admin(4, 3, actor=ChatUser(3, MESH)) is True
        assert await made.state.add_admin(4, 4, actor=ChatUser(4, MESH)) is False
        assert made.state.owners == {3}, "an admin can't make themselves an owner"
        for actor in (3, 4):
            refused = await failure(made.state.remove_admin(3, actor=ChatUser(actor, MESH)))
            assert refused.code is Code.ACCESS_DENIED
            assert str(refused) == "an owner can't be removed from a room (an operator can do it, on the host)"
        assert await made.state.remove_admin(4, actor=ChatUser(3, MESH)) is True
        assert await made.state.remove_admin(3) is True, "an operator does"
        assert made.state.owners == set()


async def test_whether_changes_can_be_saved_is_tried() -> None:
    async with site() as made:
        before = made.store.contents
        await made.state.check_writable()
        assert made.store.contents == before
        assert made.told == []
        made.store.failure = DOWN
        refused = [await failure(made.state.check_writable()) for _ in range(2)]
        assert [str(each) for each in refused] == 2 * [f"changes can't be saved: {DOWN}"]
        assert made.state.error


async def test_what_the_store_refuses_is_no_outage() -> None:
    async with site(Contents(admins=(admin(1),))) as made:
        refused = await failure(made.state.remove_admin(1))
        assert refused.code is Code.LAST_ADMIN
        assert made.state.error is None
        assert made.state.admins == {1}
        assert made.shown == made.told == []


async def test_a_permission_is_set_changed_and_removed() -> None:
    async with site() as made:
        await made.state.set_permission("Leave", False, "go away", 1)
        assert made.state.overrides == {"kick": True, "leave": False}
        assert made.told == [PERMISSIONS]
        saved = made.store.contents.permissions[-1]
        assert (saved.command, saved.description, saved.updated_at, saved.updated_by) == (
            "leave",
            "go away",
            WHEN,
            1,
        )
        await made.state.set_permission("kick", False, "", 1)
        assert made.state.overrides == {"kick": False, "leave": False}
        assert await made.state.remove_permission("KICK") is True
        assert made.state.overrides == {"leave": False}
        assert made.told == [PERMISSIONS] * 3
        assert await made.state.remove_permission("kick") is False
        assert made.told == [PERMISSIONS] * 3
        assert made.state.contents == made.store.contents


async def test_another_description_of_a_permission_is_told_to_nobody() -> None:
    async with site() as made:
        await made.state.set_permission("kick", True, "new words", 7)
        assert made.told == []
        assert made.state.contents == made.store.contents
        assert made.store.contents.permissions[0].description == "new words"


async def test_credentials_are_saved_with_their_date() -> None:
    async with site() as made:
        await made.state.save_credentials(credentials())
        assert made.store.contents.credentials == credentials(updated_at=WHEN) == made.state.credentials
        assert made.told == []  # but for the date they are the same
        await made.state.save_credentials(credentials("other@example.test"))
        assert made.told == [CREDENTIALS]
        assert made.state.credentials == credentials("other@example.test", updated_at=WHEN)


async def test_credentials_fill_an_empty_place_only() -> None:
    async with site(Contents()) as made:
        assert await made.state.fill_credentials(credentials()) is True
        assert made.store.contents.credentials == credentials(updated_at=WHEN)
        assert made.told == [CREDENTIALS]
        assert await made.state.fill_credentials(credentials("other@example.test")) is False
        assert made.state.credentials == credentials(updated_at=WHEN)
        assert made.told == [CREDENTIALS]
        assert made.store.calls == ["save_credentials"]


async def test_credentials_are_removed_before_anybody_is_told() -> None:
    async with site() as made:
        told_then: list[list[Announcement]] = []
        assert await made.state.remove_credentials(lambda: told_then.append([*made.told])) is True
        assert told_then == [[]]
        assert made.told == [CREDENTIALS]
        assert not made.state.has_account
        assert made.store.contents == made.state.contents == dataclasses.replace(FULL, credentials=None)
        assert await made.state.remove_credentials() is False
        assert made.told == [CREDENTIALS]


async def test_everything_is_replaced_and_what_differs_is_told() -> None:
    async with site() as made:
        await made.state.replace(dataclasses.replace(FULL, permissions=(permission("leave"),)))
        assert made.told == [PERMISSIONS]
        made.forget()
        await made.state.replace(Contents(admins=(admin(5),)))
        assert sorted(made.told) == sorted([ADMINS, CREDENTIALS, IGNORED, PERMISSIONS])
        assert made.state.admins == {5}
        assert made.store.contents == made.state.contents


async def test_refresh_reads_what_somebody_else_has_written() -> None:
    async with site() as made:
        assert await made.state.refresh() == FULL
        assert made.told == []
        made.store.contents = dataclasses.replace(FULL, admins=(admin(1),), credentials=None)
        assert await made.state.refresh() == made.store.contents
        assert sorted(made.told) == sorted([ADMINS, CREDENTIALS])
        assert made.state.admins == {1}


async def test_changes_go_one_after_the_other() -> None:
    async with site() as made:
        made.store.gate.clear()
        changes = asyncio.gather(*(change(made.state) for name, change in CHANGES.items() if name != "replace"))
        refresh = asyncio.create_task(made.state.refresh())
        await until(lambda: made.store.waiting_calls == 1)
        assert made.state.admins == {1, 2}  # readers don't wait
        made.store.gate.set()
        assert await changes == [True, True, True, True, None, True, None, True]
        await refresh
        assert made.state.admins == {1, 3}
        assert made.state.overrides == {"leave": False}
        assert made.state.contents == made.store.contents


async def test_many_changes_at_once_are_all_kept() -> None:
    async with site(Contents()) as made:
        await asyncio.gather(*(made.state.set_permission(f"c{n}", True, "", 1) for n in range(100)))
        assert len(made.state.overrides) == 100
        assert made.state.contents == dataclasses.replace(
            made.store.contents,
            permissions=tuple(sorted(made.store.contents.permissions, key=lambda p: p.command)),
        )
        assert made.store.calls == ["set_permission"] * 100


async def test_a_change_returns_when_everybody_was_told_and_the_next_need_not_wait() -> None:
    async with site() as made:
        made.telling = asyncio.Event()
        first = asyncio.create_task(made.state.add_admin(3, 1))
        await until(lambda: made.told == [ADMINS])
        second = asyncio.create_task(made.state.add_admin(4, 1))
        await until(lambda: made.told == [ADMINS, ADMINS])
        assert made.state.admins == {1, 2, 3, 4}
        assert not first.done()
        assert not second.done()
        made.telling.set()
        assert await first
        assert await second


# -- The store is away.


async def test_it_starts_without_its_store_and_finds_it_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = Site()
    made.store.failure = DOWN
    await made.state.start()
    assert made.state.error is DOWN
    assert not made.state.loaded
    assert made.told == []
    assert made.shown == ["the server does not answer"]
    await until(lambda: made.store.calls.count("open") >= 5)
    assert lines(caplog) == [
        "The store can't be used, so nothing can be changed: the server does not answer (start it)"
    ]
    made.store.failure = None
    await until(lambda: made.state.loaded)
    assert made.state.error is None
    assert made.shown[-1] is None
    await until(lambda: sorted(made.told) == sorted([ADMINS, CREDENTIALS, IGNORED, PERMISSIONS]))
    assert lines(caplog)[1:] == ["The store works again"]
    await made.state.close()


async def test_a_store_that_does_not_answer_delays_the_start_for_a_moment_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    made = Site(patience=0.01)
    made.store.gate.clear()
    await made.state.start()
    assert made.state.error
    assert made.state.error.message == "the store has not answered within 0.01 s"
    made.store.gate.set()
    await until(lambda: made.state.loaded)
    assert made.state.error is None
    assert made.store.calls == ["open", "read"]  # the first attempt was not given up
    assert len(lines(caplog)) == 2
    await made.state.close()


async def test_it_can_be_closed_while_it_starts() -> None:
    made = Site()
    made.store.gate.clear()
    start = asyncio.create_task(made.state.start())
    await until(lambda: made.store.waiting_calls)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    await made.state.close()
    assert made.store.calls == ["open", "close"]


async def test_it_can_be_closed_before_it_was_started() -> None:
    await Site().state.close()


@every_change
async def test_no_change_without_a_store_that_was_read(change: Callable[[CachedStore], Awaitable[Any]]) -> None:
    made = Site(retry=60)
    assert (await failure(change(made.state))).message == "changes can't be saved: the store is not open yet"
    made.store.failure = DOWN
    await made.state.start()
    refused = await failure(change(made.state))
    assert refused.code is Code.STORE
    assert str(refused) == "changes can't be saved: the server does not answer (start it)"
    assert made.store.calls == ["open"]
    await made.state.close()
    assert (await failure(change(made.state))).message == "changes can't be saved: the store is closed"


@every_change
async def test_a_change_that_fails_is_an_outage_with_an_unknown_end(
    change: Callable[[CachedStore], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with site() as made:
        made.store.failure = DOWN
        lost = await failure(change(made.state))
        assert lost.code is Code.STORE
        assert str(lost) == "whether the change was saved is not known: the server does not answer (start it)"
        assert made.state.error is DOWN
        assert made.state.contents == FULL  # the last good copy serves on
        assert made.told == []
        assert made.shown == ["the server does not answer"]
        calls = len(made.store.calls)
        assert (await failure(change(made.state))).message.startswith("changes can't be saved")
        assert len(made.store.calls) == calls
        made.store.failure = None
        await until(lambda: made.state.error is None)
        assert made.told == []
        assert "open" not in made.store.calls  # the engine reconnects by itself
        assert len(lines(caplog)) == 2


@every_change
async def test_a_change_that_was_saved_without_an_answer_comes_to_light(
    change: Callable[[CachedStore], Awaitable[Any]],
) -> None:
    async with site() as made:
        made.store.unanswered = DOWN
        await failure(change(made.state))
        assert made.state.contents == FULL
        await until(lambda: made.state.error is None)
        assert made.state.contents == made.store.contents != FULL
        await until(lambda: made.told)


@every_change
@pytest.mark.parametrize("how", ["cancelled", "a bug"])
async def test_a_change_that_is_broken_off_is_looked_after(
    change: Callable[[CachedStore], Awaitable[Any]], how: str
) -> None:
    async with site() as made:
        made.store.gate.clear()
        task = asyncio.ensure_future(change(made.state))
        await until(lambda: made.store.waiting_calls == 1)
        if how == "cancelled":
            task.cancel()
        else:
            made.store.failure = BUG
            made.store.gate.set()
        with pytest.raises((asyncio.CancelledError, ZeroDivisionError)):
            await task
        assert made.state.error
        assert made.state.error.message == "a change was broken off"
        made.store.failure = None
        made.store.contents = dataclasses.replace(FULL, admins=(admin(9),))
        made.store.gate.set()
        await until(lambda: made.state.error is None)
        assert made.state.admins == {9}


async def test_a_change_that_waits_for_another_is_refused_when_that_one_fails() -> None:
    async with site(retry=60) as made:
        made.store.gate.clear()
        first = asyncio.create_task(failure(made.state.add_admin(3, 1)))
        second = asyncio.create_task(failure(made.state.add_admin(4, 1)))
        await until(lambda: made.store.waiting_calls == 1)
        made.store.failure = DOWN
        made.store.gate.set()
        assert (await first).message.startswith("whether the change was saved is not known")
        assert (await second).message.startswith("changes can't be saved")
        assert made.store.calls == ["add_admin"]


async def test_a_change_does_not_wait_for_a_recovery() -> None:
    async with site() as made:
        made.store.failure = DOWN
        await failure(made.state.add_admin(3, 1))
        made.store.gate.clear()
        await until(lambda: made.store.waiting_calls == 1)
        assert (await failure(made.state.add_admin(3, 1))).message.startswith("changes can't be saved")


async def test_the_engine_tells_a_loss_and_the_return(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(retry=60) as made:
        made.state.reachable(True)  # nothing new
        made.state.reachable(False)
        assert made.state.error
        assert made.shown == ["the store's server can't be reached"]
        assert (await failure(made.state.add_admin(3, 1))).message == (
            "changes can't be saved: the store's server can't be reached"
        )
        made.state.reachable(False)
        assert len(made.shown) == 1
        await asyncio.sleep(0.02)
        assert made.store.calls == []  # it knows better
        made.store.contents = dataclasses.replace(FULL, admins=(admin(1),))
        made.state.reachable(True)
        await until(lambda: made.state.error is None)
        assert made.state.admins == {1}
        await until(lambda: made.told == [ADMINS])
        assert lines(caplog) == [
            "The store can't be used, so nothing can be changed: the store's server can't be reached",
            "The store works again",
        ]


async def test_a_return_in_the_middle_of_an_attempt_that_fails_is_not_missed() -> None:
    async with site(retry=60) as made:
        made.store.failure = DOWN
        made.state.reachable(False)
        made.store.gate.clear()
        made.state.reachable(True)
        await until(lambda: made.store.waiting_calls == 1)
        made.state.reachable(True)
        made.store.gate.set()
        await until(lambda: made.store.calls.count("read") == 2)
        made.store.failure = None
        made.state.reachable(True)
        await until(lambda: made.state.error is None)


async def test_a_loss_during_a_change_that_succeeds_keeps_the_change() -> None:
    async with site() as made:
        made.store.gate.clear()
        change = asyncio.create_task(made.state.add_admin(3, 1))
        await until(lambda: made.store.waiting_calls == 1)
        made.state.reachable(False)
        made.store.gate.set()
        assert await change is True
        assert made.state.admins == {1, 2, 3}
        await until(lambda: made.state.error is None)
        assert made.told == [ADMINS]


async def test_a_loss_while_a_recovery_is_told_is_noticed() -> None:
    async with site() as made:
        made.telling = asyncio.Event()
        made.store.contents = Contents()
        made.state.reachable(False)
        await until(lambda: made.told)
        made.state.reachable(False)
        made.telling.set()
        await until(lambda: made.state.error is None)


async def test_after_an_outage_an_empty_place_for_credentials_is_told() -> None:
    async with site(Contents()) as made:
        made.state.reachable(False)
        await until(lambda: made.told == [CREDENTIALS])
        await until(lambda: made.state.error is None)


async def test_refresh_opens_a_store_that_was_not() -> None:
    made = Site(retry=60)
    made.store.failure = DAMAGED
    await made.state.start()
    refused = await failure(made.state.refresh())
    assert refused.code is Code.STORE
    assert str(refused) == "nothing can be read: state.db is damaged (restore a backup)"
    made.store.failure = None
    assert await made.state.refresh() == FULL
    assert made.state.error is None
    assert sorted(made.told) == sorted([ADMINS, CREDENTIALS, IGNORED, PERMISSIONS])
    # The recovery finds that nothing is left to do.
    await until(lambda: made.state._recovery and made.state._recovery.done())
    assert made.store.calls.count("read") == 1
    await made.state.close()
    assert (await failure(made.state.refresh())).message == "nothing can be read: the store is closed"


async def test_a_refresh_that_waits_for_the_last_change_finds_the_store_closed() -> None:
    async with site() as made:
        made.store.gate.clear()
        change = asyncio.create_task(made.state.add_admin(3, 1))
        await until(lambda: made.store.waiting_calls == 1)
        refresh = asyncio.create_task(failure(made.state.refresh()))
        close = asyncio.create_task(made.state.close())
        await asyncio.sleep(0)
        made.store.gate.set()
        assert await change
        assert (await refresh).message == "nothing can be read: the store is closed"
        await close
        assert made.store.calls == ["add_admin", "close"]


async def test_a_damaged_file_is_reopened_but_not_all_the_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(retry=0.05) as made:
        made.store.failure = DAMAGED
        await failure(made.state.add_admin(3, 1))
        assert made.state.error is DAMAGED
        assert not made.store.is_open
        assert made.state.admins == {1, 2}
        # Ten times the time of an outage, which would have been over by now.
        await asyncio.sleep(0.15)
        assert made.store.calls == ["add_admin", "close"]
        made.state.reachable(True)
        await until(lambda: "open" in made.store.calls)
        made.store.failure = None
        made.state.reachable(True)
        await until(lambda: made.state.error is None)
        assert made.store.is_open
        assert len(lines(caplog)) == 2


async def test_a_file_that_is_found_damaged_when_it_is_read_is_let_go() -> None:
    async with site(retry=60) as made:
        made.store.failure = DAMAGED
        await failure(made.state.refresh())
        assert made.store.calls == ["read", "close"]
        await failure(made.state.refresh())
        assert made.store.calls == ["read", "close", "open"]
        made.store.failure = None
        await made.state.refresh()
        assert made.state.error is None


async def test_a_document_that_makes_no_sense_makes_the_store_unusable() -> None:
    async with site(retry=60) as made:
        made.store.failure = RaveError(Code.BAD_DATA, "addedAt must be a date")
        assert (await failure(made.state.refresh())).message == "nothing can be read: addedAt must be a date"
        assert (await failure(made.state.add_admin(3, 1))).code is Code.STORE
        assert made.store.is_open
        made.store.failure = None
        await made.state.refresh()
        assert await made.state.add_admin(3, 1)


async def test_another_kind_of_trouble_is_logged_once_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site(retry=60) as made:
        for trouble in (DOWN, DOWN, DAMAGED, DAMAGED):
            made.store.failure = trouble
            await failure(made.state.refresh())
        assert [line.partition(": ")[2] for line in lines(caplog)] == [str(DOWN), str(DAMAGED)]


async def test_every_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with site() as made:
        for _ in range(2):
            made.store.failure = DOWN
            await failure(made.state.add_admin(3, 1))
            made.store.failure = None
            await until(lambda: made.state.error is None)
        assert [line.partition(",")[0] for line in lines(caplog)] == [
            "The store can't be used",
            "The store works again",
        ] * 2


async def test_a_bug_in_the_store_does_not_end_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    made = Site(retry=0.001)
    made.store.failure = BUG
    await made.state.start()
    assert made.state.error
    assert made.state.error.code is Code.INTERNAL
    assert "a bug" not in str(made.state.error)
    await until(lambda: made.store.calls.count("open") >= 3)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    made.store.failure = None
    await until(lambda: made.state.error is None)
    await made.state.close()


async def test_closing_waits_for_the_change_that_is_under_way() -> None:
    async with site() as made:
        made.store.gate.clear()
        change = asyncio.create_task(made.state.add_admin(3, 1))
        await until(lambda: made.store.waiting_calls == 1)
        close = asyncio.create_task(made.state.close())
        await asyncio.sleep(0)
        assert not close.done()
        made.store.gate.set()
        assert await change is True
        await close
        assert made.store.calls == ["add_admin", "close"]


async def test_closing_ends_the_recovery_and_nothing_begins_another() -> None:
    async with site() as made:
        made.store.failure = DOWN
        made.store.gate.clear()
        change = asyncio.create_task(failure(made.state.add_admin(3, 1)))
        await until(lambda: made.store.waiting_calls == 1)
        close = asyncio.create_task(made.state.close())
        await asyncio.sleep(0)
        made.store.gate.set()
        assert (await change).code is Code.STORE
        await close
        made.state.reachable(False)
        made.state.reachable(True)
        await asyncio.sleep(0.02)
        assert made.store.calls == ["add_admin", "close"]


async def test_nothing_secret_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site() as made:
        said = [repr(made.state.contents), repr(made.state)]
        made.store.unanswered = DOWN
        said.append(repr(await failure(made.state.save_credentials(credentials("other@example.test")))))
        await until(lambda: made.state.error is None)
        for text in (*said, caplog.text):
            for secret in ("example.test", "token-of", "device-of", "ssaid-of"):
                assert secret not in text


async def test_the_right_of_an_actor_is_looked_at_when_the_change_has_its_turn() -> None:
    async with site() as made:
        made.store.gate.clear()
        # One admin removes another, who orders something while that is being written.
        removal = asyncio.create_task(made.state.remove_admin(2, actor=ChatUser(1, MESH)))
        await until(lambda: made.store.calls)
        queued = [
            asyncio.create_task(failure(change))
            for change in (
                made.state.add_admin(666, 2, actor=ChatUser(2, MESH)),
                made.state.remove_admin(1, actor=ChatUser(2, MESH)),
                made.state.set_permission("ping", True, "", 2, actor=ChatUser(2, MESH)),
                made.state.remove_permission("kick", actor=ChatUser(2, MESH)),
            )
        ]
        await asyncio.sleep(0)
        made.store.gate.set()
        assert await removal is True
        assert {(await each).code for each in queued} == {Code.ACCESS_DENIED}
        assert made.state.admins == {1}
        assert made.state.users == {1, 2}
        assert made.state.overrides == {"kick": permission("kick").requires_admin}
        assert made.state.error is None


async def test_a_start_without_the_store_goes_by_the_copy_of_an_earlier_run() -> None:
    made = Site()
    made.store.failure = DOWN
    made.copy.kept = Contents(
        admins=(admin(7), dataclasses.replace(admin(8), active=False)), permissions=(permission("ping"),)
    )
    await made.state.start()
    assert (made.state.loaded, made.state.contents) == (False, None)
    assert made.state.snapshot == made.copy.kept
    assert (made.state.admins, made.state.users) == ({7}, {7, 8})
    assert made.state.overrides == {"ping": permission("ping").requires_admin}
    assert (await failure(made.state.add_admin(9, 9))).code is Code.STORE
    made.store.failure = None
    await until(lambda: made.state.error is None)
    assert made.state.admins == {1, 2}, "the store wins"
    await until(lambda: made.copy.kept == made.state.contents)
    await made.state.add_admin(3, 1)
    assert {each.user_id for each in made.copy.kept.admins} == {1, 2, 3}
    await made.state.remove_permission("kick")
    assert made.copy.kept.permissions == ()
    await made.state.close()
