from __future__ import annotations

import asyncio

import pytest

from ravesvc.core.presence_check import FRESH_S, PresenceCheck
from ravesvc.errors import Code, RaveError

A, B = "mesh a", "mesh b"
ANN, BOB = 101, 102


class Rave:
    """Who is where, and a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.present = {A: {ANN}, B: {BOB}}
        self.asked: list[str] = []
        self.error: RaveError | None = None
        self.presence = PresenceCheck(self._users, lambda: self.now)

    async def _users(self, mesh: str) -> set[int]:
        self.asked.append(mesh)
        users = set(self.present[mesh])
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return users

    async def refusal(self, mesh: str, user: int) -> RaveError:
        with pytest.raises(RaveError) as e:
            await self.presence.insist(mesh, user)
        return e.value


async def test_who_is_in_another_room_is_not_in_this_one() -> None:
    rave = Rave()
    await rave.presence.insist(A, ANN)
    await rave.presence.insist(B, BOB)
    assert (await rave.refusal(B, ANN)).code is Code.ACCESS_DENIED


async def test_rave_is_asked_once_for_those_who_come_within_seconds() -> None:
    rave = Rave()
    await asyncio.gather(*(rave.presence.insist(A, ANN) for _ in range(20)))
    rave.now += FRESH_S - 0.1
    await rave.presence.insist(A, ANN)
    assert rave.asked == [A]
    rave.now += 0.2
    rave.present[A] = set()
    assert (await rave.refusal(A, ANN)).code is Code.ACCESS_DENIED
    assert rave.asked == [A, A]


async def test_who_has_just_come_in_is_found_and_a_bot_can_not_have_rave_asked_all_the_time() -> None:
    rave = Rave()
    await rave.presence.insist(A, ANN)
    for _ in range(50):
        await rave.refusal(A, BOB)
    assert rave.asked == [A]
    rave.present[A].add(BOB)
    rave.now += 1.0
    await rave.presence.insist(A, BOB)
    assert rave.asked == [A, A]


async def test_while_rave_can_not_be_asked_nobody_counts_as_present() -> None:
    rave = Rave()
    rave.error = RaveError(Code.NETWORK, "api.test can't be reached")
    for _ in range(50):
        refused = await rave.refusal(A, ANN)
        assert (refused.code, refused.attributes["refused"]) == (
            Code.NETWORK,
            "it can't be checked who is in this room",
        )
    assert rave.asked == [A]
    rave.error = None
    rave.now += 1.0
    await rave.presence.insist(A, ANN)


async def test_rooms_that_are_asked_about_no_more_are_dropped() -> None:
    rave = Rave()
    for number in range(100):
        rave.present[str(number)] = {ANN}
        await rave.presence.insist(str(number), ANN)
        rave.now += 1.0
    assert len(rave.presence._rooms) <= FRESH_S + 1
