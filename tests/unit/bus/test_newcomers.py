from __future__ import annotations

import asyncio
import os

import pytest

from ravesvc.bus import newcomers
from ravesvc.bus.header import Header, MessageKind
from ravesvc.bus.message import NO_REPLY_EXPECTED
from ravesvc.bus.newcomers import Enter, Newcomers
from ravesvc.common.token_bucket import Rate
from tests.unit.bus_fakes import open_fds
from tests.unit.conftest import until

FRAME = bytes(100)


def call(sender: str, flags: int = 0) -> Header:
    return Header(kind=MessageKind.CALL, serial=1, sender=sender, flags=flags, path="/x", member="Do")


class Door:
    """New connections, whose groups are told only when a test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.entered: list[str] = []
        self.refused: list[str] = []
        self.told = asyncio.Event()
        self.newcomers = Newcomers(self.find, lambda call, *_: self.refused.append(call.sender))

    async def find(self, sender: str) -> Enter:
        self.asked.append(sender)
        await self.told.wait()
        return self.let_in

    def let_in(self, call: Header, frame: bytes, fds: list[int]) -> None:
        while fds:
            os.close(fds.pop())
        self.entered.append(call.sender)


async def test_one_connection_leaves_little_however_large_its_calls() -> None:
    door = Door()
    for _ in range(newcomers._MAX_HELD + 3):
        door.newcomers.enter(call("many"), FRAME, [])
    for _ in range(2):
        door.newcomers.enter(call("large"), bytes(newcomers._MAX_HELD_BYTES - 1), [])
    door.newcomers.enter(call("first"), bytes(newcomers._MAX_HELD_BYTES + 1), [])
    assert door.refused == ["many"] * 3 + ["large", "first"]
    door.newcomers.enter(call("root"), FRAME, [])
    door.told.set()
    await until(lambda: "root" in door.entered)
    assert door.entered == ["many"] * newcomers._MAX_HELD + ["large", "root"]
    assert door.asked == ["many", "large", "root"]


async def test_the_latest_is_asked_for_first_and_the_oldest_is_refused() -> None:
    """Root calls while ever new connections fill what there is: it is not turned away for them."""

    door = Door()
    total = newcomers._MAX_LOOKUPS + newcomers._MAX_WAITING + 3
    for number in range(total):
        door.newcomers.enter(call(f"c{number}"), FRAME, [])
    first = newcomers._MAX_LOOKUPS
    assert door.refused == [f"c{number}" for number in range(first, first + 3)]
    door.newcomers.enter(call("root"), FRAME, [])
    await until(lambda: len(door.asked) == newcomers._MAX_LOOKUPS)
    door.told.set()
    await until(lambda: len(door.entered) == total - 3)
    assert "root" not in door.refused
    assert door.asked[newcomers._MAX_LOOKUPS] == "root"


async def test_refusals_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, none is added meanwhile.
    monkeypatch.setattr(newcomers, "_REFUSAL_RATE", Rate(newcomers._REFUSAL_RATE.burst, 1e-9))
    door = Door()
    for number in range(1000):
        door.newcomers.enter(call(f"c{number}"), bytes(newcomers._MAX_HELD_BYTES + 1), [])
        door.newcomers.enter(call(f"silent{number}", NO_REPLY_EXPECTED), bytes(newcomers._MAX_HELD_BYTES + 1), [])
    assert door.refused == [f"c{number}" for number in range(newcomers._REFUSAL_RATE.burst)]
    assert not door.asked


@pytest.mark.parametrize("told", [True, False])
async def test_descriptors_are_closed_wherever_a_call_ends(told: bool) -> None:
    before = open_fds()
    door = Door()
    for number in range(newcomers._MAX_LOOKUPS + newcomers._MAX_WAITING + 3):
        door.newcomers.enter(call(f"c{number}"), FRAME, [os.dup(0)])
    door.newcomers.enter(call("large"), bytes(newcomers._MAX_HELD_BYTES + 1), [os.dup(0)])
    if told:
        door.told.set()
        await until(lambda: len(door.entered) == newcomers._MAX_LOOKUPS + newcomers._MAX_WAITING)
    await door.newcomers.close()
    assert open_fds() == before
