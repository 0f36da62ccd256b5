from __future__ import annotations

import pytest

from ravesvc.core.chat_limits import ChangeLimit, ChatRules
from ravesvc.errors import Code, RaveError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limit_of(
    clock: Clock, per_mesh: int = 10, together: int = 30, earlier: tuple[tuple[float, str], ...] = ()
) -> ChangeLimit:
    rules = ChatRules(admins_by_chat="admins", hourly_changes_per_mesh=per_mesh, hourly_changes=together)
    return ChangeLimit(rules, lambda: earlier, clock)


def refusal(limit: ChangeLimit, mesh: str) -> RaveError:
    with pytest.raises(RaveError) as e:
        limit.take(mesh)
    return e.value


def test_one_mesh_leaves_something_for_the_others() -> None:
    limit = limit_of(Clock())
    for _ in range(10):
        limit.take("a")
    for _ in range(100):
        refused = refusal(limit, "a")
        assert (refused.code, refused.message) == (
            Code.RATE_LIMITED,
            "admins have changed as much from this room as they may",
        )
        assert refused.hint == "try again in 60 min, or ask an operator"
    for mesh in "bc":
        for _ in range(10):
            limit.take(mesh)
    assert "from all rooms" in refusal(limit, "d").message


def test_what_was_refused_for_all_is_not_counted_for_the_mesh() -> None:
    clock = Clock()
    limit = limit_of(clock, per_mesh=2, together=2)
    limit.take("a")
    limit.take("a")
    for _ in range(5):
        refusal(limit, "b")
    clock.now += 3600
    limit.take("b")
    limit.take("b")


def test_in_no_hour_there_are_more() -> None:
    clock = Clock()
    limit = limit_of(clock)
    taken: list[float] = []
    for _ in range(3 * 3600):
        clock.now += 1
        try:
            limit.take("a")
        except RaveError:
            continue
        taken.append(clock.now)
    assert len(taken) == 30
    assert all(later - earlier >= 3600 for earlier, later in zip(taken, taken[10:], strict=False))


def test_an_end_of_the_service_gives_no_new_allowance() -> None:
    clock = Clock()
    limit = limit_of(clock, earlier=(*((4000.0, "a"),) * 10, *((1800.0, "a"),) * 9, (0.0, "a")))
    assert refusal(limit, "a").hint == "try again in 30 min, or ask an operator"
    limit.take("b")
    clock.now += 1800
    for _ in range(9):
        limit.take("a")
    refusal(limit, "a")
