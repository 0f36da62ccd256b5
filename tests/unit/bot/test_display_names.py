from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from ravesvc.bot import display_names as module
from ravesvc.bot.display_names import DisplayNames
from ravesvc.errors import Code, RaveError


class Directory:
    """A look-up that notes what it was asked."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.asked: list[list[int]] = []
        self.error: RaveError | None = None
        self.now = 0.0

    async def lookup(self, ids: Sequence[int]) -> Mapping[int, str]:
        self.asked.append(list(ids))
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return {i: self.names[i] for i in ids if i in self.names}

    def people(self) -> DisplayNames:
        return DisplayNames(self.lookup, clock=lambda: self.now)


def test_names_are_looked_up_once_an_hour() -> None:
    async def run() -> None:
        directory = Directory({1: "Ann"})
        people = directory.people()
        assert [await people.name(1), await people.name(1)] == ["Ann", "Ann"]
        assert directory.asked == [[1]]
        directory.names[1] = "Anna"
        directory.now = 3601
        assert await people.name(1) == "Anna"

    asyncio.run(run())


def test_many_are_asked_for_in_one_go_and_only_the_unknown() -> None:
    async def run() -> None:
        directory = Directory({1: "Ann", 2: "Bob", 3: "Cid"})
        people = directory.people()
        await people.name(2)
        await people.prefetch([1, 2, 3])
        assert [await people.name(i) for i in (1, 2, 3)] == ["Ann", "Bob", "Cid"]
        assert directory.asked == [[2], [1, 3]]

    asyncio.run(run())


def test_simultaneous_questions_are_one_request() -> None:
    async def run() -> None:
        directory = Directory({1: "Ann"})
        people = directory.people()
        assert await asyncio.gather(*(people.name(1) for _ in range(5))) == ["Ann"] * 5
        assert directory.asked == [[1]]

    asyncio.run(run())


def test_failures_are_remembered_for_a_minute_only() -> None:
    async def run() -> None:
        directory = Directory({1: "Ann"})
        directory.error = RaveError(Code.NETWORK, "no route")
        people = directory.people()
        assert [await people.name(1), await people.name(1)] == ["User 1", "User 1"]
        assert directory.asked == [[1]]
        directory.error = None
        directory.now = 61
        assert await people.name(1) == "Ann"

    asyncio.run(run())


def test_a_slow_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def never(ids: Sequence[int]) -> Mapping[int, str]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "_LOOKUP_TIMEOUT_S", 0.01)
    assert asyncio.run(DisplayNames(never).name(1)) == "User 1"
    assert "no answer in time" in caplog.text


def test_names_are_made_plain_and_the_nameless_have_a_stand_in() -> None:
    async def run() -> None:
        people = Directory({1: "**A**\nnn\u202e", 2: "\u200b", 3: "x" * 500}).people()
        assert await people.name(1) == "A nn"
        assert await people.name(2) == "User 2"
        assert len(await people.name(3)) == 40
        assert await people.name(None) == "a user"

    asyncio.run(run())


def test_memory_is_bounded_and_keeps_those_asked_for_last() -> None:
    async def run() -> None:
        directory = Directory({i: f"N{i}" for i in range(1000)})
        people = directory.people()
        await people.prefetch([0, 1])
        await people.prefetch(range(2, 512))
        await people.name(0)
        await people.name(512)
        directory.asked.clear()
        await people.prefetch([0])
        assert directory.asked == []
        await people.prefetch([1])
        assert directory.asked == [[1]]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("?leave", "leave"),
        ("  !kick @Bob", "kick @Bob"),
        ("？ skip", "skip"),
        ("★ Ann ★", "Ann ★"),
        ("?!", "User 1"),
        ("Öl", "Öl"),
    ],
)
def test_a_text_that_begins_with_a_name_does_not_begin_as_a_command(given: str, shown: str) -> None:
    assert asyncio.run(Directory({1: given}).people().name(1)) == shown
