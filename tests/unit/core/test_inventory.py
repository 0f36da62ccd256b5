from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Literal

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api.models import Listing, Mesh
from ravesvc.common.log_fields import CAUSE_MESSAGE_IDS, MESSAGE_IDS, LogEvent, message_id
from ravesvc.core import inventory as inventory_module
from ravesvc.core.inventory import ROUNDS_TO_FORGET, ROUNDS_TO_FORGET_MANY, Discovery, Inventory
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import until

Run = Callable[[Coroutine[Any, Any, Any]], Any]

REFUSED = RaveError(Code.SERVER_ERROR, "Rave answered 500", hint="wait")


def mesh(name: str, title: str = "") -> Mesh:
    return Mesh(name, None, title, True, ())


def meshes(names: str) -> list[Mesh]:
    return [mesh(name) for name in names]


def inventory(*rounds: str) -> Inventory:
    made = Inventory()
    for names in rounds:
        made.observe(meshes(names))
    return made


def known(of: Inventory) -> str:
    return "".join(of.meshes or {})


def test_before_the_first_round_nobody_knows() -> None:
    assert Inventory().meshes is None
    assert Inventory().held_back == 0
    assert inventory("").meshes == {}


def test_the_oldest_come_first_and_news_is_taken_over() -> None:
    found = inventory("ba", "dabc")
    assert known(found) == "badc"
    found.observe([mesh("a", "new title"), *meshes("bcd")])
    assert known(found) == "badc"
    assert (found.meshes or {})["a"].title == "new title"


def test_a_mesh_is_gone_after_several_rounds_in_a_row_without_it() -> None:
    assert known(inventory("abc", "bc", "bc")) == "abc"
    assert known(inventory("abc", "bc", "bc", "abc", "bc", "bc")) == "abc"
    assert known(inventory("abc", "bc", "bc", "bc")) == "bc"


def test_the_loss_of_most_is_not_believed() -> None:
    found = inventory("abcd", *[""] * 10)
    assert known(found) == "abcd"
    assert found.held_back == 4
    found.observe(meshes("abcd"))
    assert found.held_back == 0


def test_half_is_not_most() -> None:
    assert inventory("abcd", "ab").held_back == 0
    assert inventory("abcd", "a").held_back == 3
    assert known(inventory("abcd", "ab", "ab", "ab")) == "ab"


def test_while_a_loss_is_held_back_what_is_new_comes_in() -> None:
    assert known(inventory("abc", "x")) == "abcx"


def test_a_round_that_is_held_back_counts_for_nobody() -> None:
    assert known(inventory("abc", "bc", "bc", "", "abc")) == "abc"
    assert known(inventory("abc", "bc", "bc", "")) == "abc"
    assert known(inventory("abc", "bc", "bc", "", "bc")) == "bc"


def test_a_mesh_that_is_seen_in_such_a_round_is_not_missed() -> None:
    found = inventory("abc", "bc", "bc", "a")
    assert found.held_back == 2
    found.observe(meshes("bc"))
    assert known(found) == "abc"


def test_forgetting() -> None:
    found = inventory("abc", "bc", "bc")
    found.forget("a")
    assert known(found) == "bc"
    # It comes back with a clean slate.
    for names in ("abc", "bc", "bc"):
        found.observe(meshes(names))
    assert known(found) == "bca"
    found.forget("z")
    Inventory().forget("a")


def test_what_we_have_left_is_out_at_once_and_lists_may_be_late_with_it() -> None:
    found = inventory("abc")
    found.leave("a")
    assert (known(found), found.held_back, found.left) == ("bc", 0, {"a"})
    found.observe(meshes("abc"))
    assert known(found) == "bc", "a list that is late"
    found.observe(meshes("bc"))
    assert (known(found), found.left) == ("bc", set())
    found.observe(meshes("abc"))
    assert known(found) == "bca", "a new invitation"
    # It may be quicker than any list without the mesh.
    found.leave("a")
    for _ in range(ROUNDS_TO_FORGET - 1):
        found.observe(meshes("abc"))
        assert known(found) == "bc"
    found.observe(meshes("abc"))
    assert known(found) == "bca"


def test_a_list_that_is_not_believed_ends_no_lateness() -> None:
    found = inventory("abc")
    found.leave("a")
    found.observe([])
    found.observe(meshes("abc"))
    assert known(found) == "bc"


def test_what_we_have_left_is_no_loss() -> None:
    found = inventory("abcdef")
    for name in "abcde":
        found.leave(name)
    found.observe(meshes("f"))
    assert (known(found), found.held_back) == ("f", 0)
    found = adopted("abc")
    found.leave("c")
    found.leave("b")
    found.observe(meshes("a"))
    assert (known(found), found.held_back) == ("a", 0)


def test_only_what_the_last_list_has_may_be_started() -> None:
    found = inventory("abc", "ab")
    assert known(found) == "abc"
    assert (found.missing, found.lists("a"), found.lists("c"), found.lists("x")) == ({"c"}, True, False, False)
    assert not Inventory().lists("a")


def glimpsed(found: Inventory, names: str) -> Inventory:
    found.observe_beginning(meshes(names))
    return found


def test_the_beginning_of_a_list_says_nothing_of_what_it_has_not() -> None:
    found = glimpsed(inventory("abcdef"), "cx")
    assert (known(found), found.held_back, found.missing, found.unread) == ("abcdefx", 0, set(), set("abdef"))
    assert all(found.lists(name) for name in "abcdefx")
    for _ in range(50):
        glimpsed(found, "cx")
    assert known(found) == "abcdefx"
    found.observe(meshes("abcdefx"))
    assert found.unread == set()
    assert found.whole
    assert known(glimpsed(Inventory(), "ab")) == "ab"
    assert not glimpsed(Inventory(), "ab").whole
    assert known(glimpsed(adopted("ab"), "bc")) == "abc"


def test_the_beginning_of_a_list_may_end_a_loss_and_not_begin_one() -> None:
    found = inventory("abcd", "")
    assert found.held_back == 4
    glimpsed(found, "ab")
    assert (found.held_back, found.missing) == (2, {"c", "d"})
    glimpsed(found, "abcd")
    assert found.held_back == 0
    found = inventory("abcd", "abc", "abc")
    glimpsed(found, "a")
    assert (known(found), found.missing) == ("abcd", {"d"})
    found.observe(meshes("abc"))
    assert known(found) == "abc"


def test_of_a_list_without_end_only_what_runs_is_kept_for_long() -> None:
    found = inventory("ab")
    for names in ("cd", "ef", "gh"):
        glimpsed(found, names)
        found.forget_unread({"a"})
    assert known(found) == "acdefgh", "b was not read for three rounds"
    found.forget("c")
    assert "c" not in found.unread


def test_the_lists_of_another_scope_lack_nothing() -> None:
    found = adopted("abc")
    assert not found.enter("invitations")
    assert found.scope == ""
    found.observe(meshes("abc"))
    assert found.scope == "invitations"
    assert not found.enter("invitations")
    assert found.enter("public ones")
    assert (found.meshes, found.scope, found.whole) == (None, "", True)
    found.observe(meshes("x"))
    assert (known(found), found.held_back) == ("x", 0)


def test_what_an_earlier_process_ran_in_another_scope_is_not_adopted() -> None:
    found = Inventory()
    found.enter("invitations")
    assert found.enter("public ones")
    found.adopt("abc")
    found.observe(meshes("x"))
    assert (known(found), found.held_back) == ("x", 0)
    # The order may be the other one: whose account it is may be known late.
    found = Inventory()
    found.enter("invitations")
    found.adopt("abc")
    assert found.known == set("abc")
    found.enter("public ones")
    found.observe(meshes("x"))
    assert (known(found), found.held_back) == ("x", 0)


def test_another_accounts_meshes_are_forgotten_at_once() -> None:
    found = inventory("abc", "b", *["c"] * ROUNDS_TO_FORGET_MANY)
    assert found.held_back == 2
    found.forget_all()
    assert (found.meshes, found.held_back) == (None, 0)
    found.observe(meshes("xab"))
    assert (known(found), found.held_back) == ("xab", 0)
    found.observe(meshes("xb"))
    assert known(found) == "xab", "with a clean slate"
    found.observe(meshes("x"))
    assert (known(found), found.held_back) == ("xab", 2), "whose missing begins now"
    found.forget_all()
    assert found.confirm_losses() == 0


# What an earlier process has left running.


def adopted(running: str) -> Inventory:
    made = Inventory()
    made.adopt(running)
    return made


def test_what_runs_already_was_listed_once_so_that_its_loss_is_not_believed() -> None:
    found = adopted("abcd")
    assert (found.meshes, found.held_back) == (None, 0), "nobody knows before the first round"
    found.observe([])
    assert (known(found), found.held_back) == ("abcd", 4)
    found.observe(meshes("abcd"))
    assert (known(found), found.held_back) == ("abcd", 0)


def test_what_runs_already_is_gone_after_several_rounds_without_it_like_any_other() -> None:
    found = adopted("abc")
    for _ in range(ROUNDS_TO_FORGET - 1):
        found.observe(meshes("bcd"))
        assert known(found) == "abcd"
    found.observe(meshes("bcd"))
    assert known(found) == "bcd"


def test_of_what_runs_already_no_more_is_known_than_that_and_a_list_says_more() -> None:
    found = adopted("ab")
    found.observe([mesh("a", "A film")])
    assert found.meshes == {"a": mesh("a", "A film"), "b": Mesh("b", None, "", True, ())}


def test_what_ran_at_the_start_does_not_come_back_later() -> None:
    found = adopted("ab")
    for _ in range(ROUNDS_TO_FORGET):
        found.observe(meshes("a"))
    assert known(found) == "a"
    found.observe(meshes("a"))
    assert known(found) == "a"
    # When the last one is forgotten the inventory is empty, and knows it.
    found.forget("a")
    assert found.meshes == {}
    found.observe(meshes("c"))
    assert (known(found), found.held_back) == ("c", 0)


def test_what_runs_already_of_another_account_is_forgotten_with_it() -> None:
    found = adopted("abc")
    found.forget_all()
    found.observe(meshes("x"))
    assert (known(found), found.held_back) == ("x", 0)


# A great loss that is true after all.


def test_the_loss_of_most_is_believed_when_many_more_rounds_insist_on_it() -> None:
    found = inventory("abcd", "d")
    for _ in range(ROUNDS_TO_FORGET_MANY - 1):
        found.observe(meshes("d"))
        assert (known(found), found.held_back) == ("abcd", 3)
    found.observe(meshes("d"))
    assert (known(found), found.held_back) == ("d", 0)
    found.observe(meshes("d"))
    assert (known(found), found.held_back) == ("d", 0)


def test_rounds_insist_only_by_lacking_the_same() -> None:
    found = inventory("abcde", *["e"] * ROUNDS_TO_FORGET_MANY)
    assert known(found) == "abcde"
    found.observe(meshes("d"))
    for _ in range(ROUNDS_TO_FORGET_MANY):
        assert known(found) == "abcde"
        found.observe(meshes("e"))
    assert known(found) == "abcde", "they begin anew"
    found.observe(meshes("e"))
    assert known(found) == "e"


def test_a_round_that_is_believed_ends_the_insisting() -> None:
    found = inventory("abcd", *["d"] * ROUNDS_TO_FORGET_MANY, "abcd", *["d"] * ROUNDS_TO_FORGET_MANY)
    assert (known(found), found.held_back) == ("abcd", 3)


def test_what_is_new_does_not_disturb_those_who_insist() -> None:
    found = inventory("abcd", *["d"] * ROUNDS_TO_FORGET_MANY)
    found.observe(meshes("dx"))
    assert known(found) == "dx"


def test_that_there_are_no_meshes_at_all_no_number_of_rounds_proves() -> None:
    found = inventory("abcd", *[""] * 100)
    assert (known(found), found.held_back) == ("abcd", 4)
    # Nor do they prove anything for a list that has something, and lacks the same.
    found = inventory("abcd", *[""] * 100, "x")
    assert (known(found), found.held_back) == ("abcdx", 4)


def test_an_operator_may_confirm_a_loss() -> None:
    found = inventory("abcd", "")
    assert found.confirm_losses() == 4
    assert (found.meshes, found.held_back) == ({}, 0)
    assert found.confirm_losses() == 0
    found.observe(meshes("a"))
    assert (known(found), found.held_back) == ("a", 0), "it may come back"


def test_an_operator_confirms_what_the_last_list_lacks_and_no_more() -> None:
    found = inventory("abcdef", "abcdf", "bcde")
    assert found.held_back == 0
    assert found.confirm_losses() == 2
    assert known(found) == "bcde"
    # With a clean slate.
    for names in ("abcdef", "bcdef", "bcdef"):
        found.observe(meshes(names))
    assert known(found) == "bcdeaf"


def test_what_a_bot_has_found_out_meanwhile_is_not_confirmed_again() -> None:
    found = inventory("abcde", *["e"] * ROUNDS_TO_FORGET_MANY)
    found.forget("a")
    # Those that are left insist as before.
    found.observe(meshes("e"))
    assert known(found) == "e"
    found = inventory("abcd", "d")
    found.forget("a")
    assert found.confirm_losses() == 2
    assert known(found) == "d"


def test_before_the_first_round_there_is_nothing_to_confirm() -> None:
    found = adopted("ab")
    assert found.confirm_losses() == 0
    assert found.meshes is None
    found.observe([])
    assert (known(found), found.held_back) == ("ab", 2)


ROUND = st.sets(st.sampled_from("abcdef")).map(sorted).map("".join)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.lists(ROUND, max_size=30))
def test_no_mesh_is_forgotten_before_three_good_rounds_in_a_row_without_it(rounds: list[str]) -> None:
    found = Inventory()
    missed: dict[str, int] = {}
    for names in rounds:
        before = set(known(found))
        lost = before - set(names)
        believed = 2 * len(lost) <= len(before)
        found.observe(meshes(names))
        after = set(known(found))
        assert found.held_back == (0 if believed else len(lost))
        assert after >= set(names)
        for name in set("abcdef"):
            missed[name] = 0 if name in names else missed.get(name, 0) + believed
        if believed:
            assert after == set(names) | {name for name in before if missed[name] < ROUNDS_TO_FORGET}
        else:
            assert after == before | set(names)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rounds follow each other at once."""
    monkeypatch.setattr(inventory_module, "_MIN_INTERVAL_S", 0.0)


class Rave:
    """A list that a test decides on, round by round."""

    def __init__(self) -> None:
        self.rounds = 0
        self.reading = 0
        self.begun = asyncio.Semaphore(0)
        self.answers: asyncio.Queue[Sequence[Mesh] | Listing | BaseException] = asyncio.Queue()

    async def read(self) -> Listing:
        self.rounds += 1
        self.reading += 1
        self.begun.release()
        assert self.reading == 1, "two rounds at a time"
        try:
            answer = await self.answers.get()
        finally:
            self.reading -= 1
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Listing) else Listing(tuple(answer))


class Scene:
    """A running discovery."""

    def __init__(self, interval: float) -> None:
        self.rave = Rave()
        self.ended = asyncio.Semaphore(0)
        self.discovery = Discovery(self.rave.read, interval, self.ended.release)

    async def __aenter__(self) -> Scene:
        self._task = asyncio.create_task(self.discovery.run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def round(self, answer: Sequence[Mesh] | BaseException) -> None:
        """Let a round begin at once and end with `answer`."""
        self.discovery.ask()
        await self.rave.answers.put(answer)
        await self.ended.acquire()


@pytest.mark.usefixtures("_quick")
async def test_a_good_round_is_believed_and_dated() -> None:
    async with Scene(3600) as scene:
        assert scene.discovery.last_good == 0
        before = time.time()
        await scene.round(meshes("ab"))
        assert known(scene.discovery.inventory) == "ab"
        assert before <= scene.discovery.last_good <= time.time()
        assert scene.discovery.error is None


@pytest.mark.usefixtures("_quick")
def test_a_round_that_fails_changes_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with Scene(3600) as scene:
            await scene.round(meshes("ab"))
            good = scene.discovery.last_good
            with caplog.at_level(logging.INFO, "ravesvc"):
                for _ in range(5):
                    await scene.round(REFUSED)
                assert scene.discovery.error is REFUSED
                assert scene.discovery.last_good == good
                assert known(scene.discovery.inventory) == "ab"
                assert not scene.discovery.login_needed
                # Said once, not every minute.
                await scene.round(RaveError(Code.UNAUTHORIZED, "the session is over"))
                assert scene.discovery.login_needed
                await scene.round(meshes("a"))
                await scene.round(meshes("a"))
            assert not scene.discovery.login_needed
            assert scene.discovery.error is None

    run(body())
    assert caplog.messages == [
        "Discovery failed, so nothing changes: Rave answered 500 (wait)",
        "Discovery failed, so nothing changes: the session is over",
        "Discovery works again",
    ]
    other, login = map(message_id, caplog.records[:2])
    assert other == MESSAGE_IDS[LogEvent.DISCOVERY_FAILED]
    assert login == CAUSE_MESSAGE_IDS[LogEvent.DISCOVERY_FAILED, Code.UNAUTHORIZED]


@pytest.mark.usefixtures("_quick")
def test_a_fault_of_ours_is_a_round_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with Scene(3600) as scene:
            await scene.round(meshes("ab"))
            for _ in range(3):
                await scene.round(ValueError("invalid literal for int()"))
            assert scene.discovery.error
            assert scene.discovery.error.code is Code.INTERNAL
            assert "literal" not in str(scene.discovery.error)
            assert known(scene.discovery.inventory) == "ab"
            await scene.round(meshes("abc"))
            assert scene.discovery.error is None
            assert known(scene.discovery.inventory) == "abc"

    run(body())
    # For the log it is a bug, told once.
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("mended_by", ["a good round", "a new session"])
async def test_a_login_is_needed_until_something_says_otherwise(mended_by: str) -> None:
    async with Scene(3600) as scene:
        await scene.round(RaveError(Code.UNAUTHORIZED, "the session is over"))
        await scene.round(REFUSED)
        await scene.round(RaveError(Code.NETWORK, "no route"))
        assert scene.discovery.login_needed, "other failures say nothing about the session"
        if mended_by == "a good round":
            await scene.round([])
        else:
            scene.discovery.session_changed()
            assert not scene.discovery.login_needed
            await scene.rave.answers.put(REFUSED)
            await scene.ended.acquire()
        assert not scene.discovery.login_needed


@pytest.mark.usefixtures("_quick")
async def test_what_is_known_is_stale_since_the_last_good_round() -> None:
    async with Scene(3600) as scene:
        assert scene.discovery.stale_since == 0
        await scene.round(meshes("ab"))
        assert scene.discovery.stale_since == 0
        good = scene.discovery.last_good
        for _ in range(3):
            await scene.round(REFUSED)
            assert scene.discovery.stale_since == good
        await scene.round(meshes("ab"))
        assert scene.discovery.stale_since == 0
        assert scene.discovery.last_good > good


@pytest.mark.usefixtures("_quick")
async def test_when_no_round_was_ever_good_nothing_is_known_since_the_first_failure() -> None:
    async with Scene(3600) as scene:
        before = time.time()
        await scene.round(REFUSED)
        stale = scene.discovery.stale_since
        assert before <= stale <= time.time()
        await scene.round(REFUSED)
        assert scene.discovery.stale_since == stale
        await scene.round([])
        assert scene.discovery.stale_since == 0


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("left", ["", "a"])
async def test_what_is_known_is_stale_while_the_loss_of_most_is_not_believed(left: str) -> None:
    async with Scene(3600) as scene:
        await scene.round(meshes("abc"))
        good = scene.discovery.last_good
        # A failure in between makes nothing fresher.
        for answer in (meshes(left), meshes(left), REFUSED, meshes(left)):
            await scene.round(answer)
            assert scene.discovery.stale_since == good
        assert scene.discovery.last_good > good
        await scene.round(meshes("ab"))
        assert scene.discovery.stale_since == 0
        good = scene.discovery.last_good
        await scene.round(REFUSED)
        await scene.round(meshes(left))
        assert scene.discovery.stale_since == good


@pytest.mark.usefixtures("_quick")
async def test_what_an_operator_has_confirmed_is_not_stale() -> None:
    async with Scene(3600) as scene:
        await scene.round(meshes("abc"))
        await scene.round([])
        assert scene.discovery.stale_since
        scene.discovery.inventory.confirm_losses()
        assert scene.discovery.stale_since == 0
        good = scene.discovery.last_good
        await scene.round(REFUSED)
        assert scene.discovery.stale_since == good


@pytest.mark.usefixtures("_quick")
async def test_a_new_parent_knows_nothing_since_the_first_list_that_it_does_not_believe() -> None:
    async with Scene(3600) as scene:
        scene.discovery.inventory.adopt("abc")
        before = time.time()
        await scene.round([])
        stale = scene.discovery.stale_since
        assert before <= stale <= time.time()
        await scene.round([])
        assert scene.discovery.stale_since == stale


@pytest.mark.usefixtures("_quick")
def test_a_greater_loss_is_reported_again_and_one_that_is_over_is_not(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with Scene(3600) as scene:
            for names in ("abcdef", "ab", "b", "ab", "abcdef", "a"):
                await scene.round(meshes(names))

    with caplog.at_level(logging.WARNING, "ravesvc"):
        run(body())
    assert caplog.messages == [f"The list lacks {lost} meshes at once; that is not believed" for lost in (4, 5, 5)]


@pytest.mark.usefixtures("_quick")
def test_a_sudden_loss_is_reported_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with Scene(3600) as scene:
            await scene.round(meshes("abc"))
            await scene.round([])
            await scene.round([])

    with caplog.at_level(logging.WARNING, "ravesvc"):
        run(body())
    assert caplog.messages == ["The list lacks 3 meshes at once; that is not believed"]


@pytest.mark.usefixtures("_quick")
async def test_asking_during_a_round_brings_another_one() -> None:
    async with Scene(3600) as scene:
        await scene.rave.begun.acquire()
        assert [scene.discovery.ask() for _ in range(3)] == [2] * 3, "this one may have read too early"
        await scene.rave.answers.put([])
        await scene.ended.acquire()
        assert scene.discovery.round == 1
        await scene.rave.answers.put(meshes("a"))
        await scene.ended.acquire()
        assert known(scene.discovery.inventory) == "a"
        assert scene.discovery.round == 2
        # One for all who asked.
        for _ in range(10):
            await asyncio.sleep(0)
        assert scene.rave.rounds == 2


@pytest.mark.usefixtures("_quick")
async def test_a_check_is_answered_by_a_round_that_began_after_it() -> None:
    async with Scene(3600) as scene:
        await scene.rave.begun.acquire()
        check = asyncio.create_task(scene.discovery.check())
        await scene.rave.answers.put([])
        await scene.rave.begun.acquire()
        assert scene.discovery.error is None
        assert not check.done(), "it may have read before the question"
        await scene.rave.answers.put(REFUSED)
        assert await check is False
        await scene.rave.answers.put([])
        assert await scene.discovery.check() is True
        assert scene.rave.rounds == 3


@pytest.mark.usefixtures("_quick")
async def test_many_checks_share_a_round_and_who_no_longer_waits_disturbs_nobody() -> None:
    async with Scene(3600) as scene:
        await scene.round([])
        checks = [asyncio.create_task(scene.discovery.check()) for _ in range(5)]
        rounds = scene.rave.rounds
        await until(lambda: scene.rave.rounds > rounds)
        checks[0].cancel()
        await asyncio.wait(checks[:1])
        await scene.rave.answers.put([])
        assert await asyncio.gather(*checks[1:]) == [True] * 4
        await until(lambda: scene.discovery._asked.is_set() is False)
        assert scene.rave.rounds == rounds + 1


class EnoughError(BaseException):
    """The test has seen what it wanted to see; discovery goes on after any other exception."""


class AtOnce(asyncio.Event):
    """No caller waits for it."""

    async def wait(self) -> Literal[True]:
        return True


class Clock:
    """asyncio as the module sees it, with a time of its own: the real loop must not see its clock jump."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = False
        self.Event = AtOnce

    def get_running_loop(self) -> Clock:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[None]:
        if not self.asked:
            self.now += seconds
            raise TimeoutError
        yield


def beginnings(run: Run, clock: Clock, interval: float, took: list[float]) -> list[float]:
    """When rounds begin that take so long."""
    begun: list[float] = []

    async def read() -> Listing:
        begun.append(clock.now - 1000)
        if len(begun) > len(took):
            raise EnoughError
        clock.now += took[len(begun) - 1]
        return Listing(())

    with pytest.raises(EnoughError):
        run(Discovery(read, interval, lambda: None).run())
    return begun


def test_rounds_begin_an_interval_apart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(inventory_module, "asyncio", clock)
    assert beginnings(run, clock, 60, [0.0, 10.0, 70.0, 0.5]) == [0, 60, 120, 190, 250]


@pytest.mark.parametrize("asked", [True, False])
def test_rounds_begin_no_closer_than_a_second_however_often_somebody_asks(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    clock = Clock()
    clock.asked = asked
    monkeypatch.setattr(inventory_module, "asyncio", clock)
    interval = 60 if asked else 0.1
    assert beginnings(run, clock, interval, [0.0, 0.75, 5.0]) == [0, 1, 2, 7]


@pytest.mark.slow
async def test_the_next_round_comes_without_being_asked_for() -> None:
    async with Scene(1) as scene:
        for _ in range(2):
            await scene.rave.answers.put([])
            await scene.ended.acquire()
        assert scene.rave.rounds == 2


@pytest.mark.usefixtures("_quick")
async def test_no_round_begins_while_something_is_in_the_way() -> None:
    async with Scene(3600) as scene:
        await scene.round(meshes("a"))
        assert scene.discovery.obstacle is None
        for obstacle in REFUSED, RaveError(Code.LOGIN_NEEDED, "there is no session"):
            scene.discovery.suspend(obstacle)
            assert scene.discovery.obstacle is obstacle
        scene.discovery.ask()
        check = asyncio.create_task(scene.discovery.check())
        for _ in range(20):
            await asyncio.sleep(0)
        assert scene.rave.rounds == 1
        # It goes on by itself.
        scene.discovery.resume()
        assert scene.discovery.obstacle is None
        await scene.rave.answers.put(meshes("ab"))
        await scene.ended.acquire()
        assert await check
        assert scene.rave.rounds == 2
        assert known(scene.discovery.inventory) == "ab"


@pytest.mark.usefixtures("_quick")
async def test_a_round_that_is_under_way_ends_whatever_comes_in_the_way() -> None:
    async with Scene(3600) as scene:
        await scene.rave.begun.acquire()
        scene.discovery.suspend(REFUSED)
        await scene.rave.answers.put(meshes("a"))
        await scene.ended.acquire()
        assert known(scene.discovery.inventory) == "a"
        # The next one comes without being asked for.
        scene.discovery.resume()
        await scene.rave.begun.acquire()
        await scene.rave.answers.put(meshes("ab"))
        await scene.ended.acquire()


@pytest.mark.usefixtures("_quick")
async def test_it_ends_also_when_somebody_has_just_asked() -> None:
    scene = Scene(3600)
    async with scene:
        await scene.round(meshes("a"))
        await asyncio.sleep(0.05)
        scene.discovery.ask()
    assert scene._task.cancelled()
