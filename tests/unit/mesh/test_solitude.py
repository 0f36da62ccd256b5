from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ravesvc.mesh.solitude import Solitude


def test_a_room_is_left_some_time_after_the_last_human() -> None:
    solitude = Solitude(180.0)
    solitude.look(2, 100.0)
    solitude.look(1, 110.0)
    assert solitude.leave_at is None
    solitude.look(0, 120.0)
    assert solitude.leave_at == 300.0
    # However often one looks, over any number of connections.
    solitude.look(0, 250.0)
    assert solitude.leave_at == 300.0


def test_a_room_that_was_empty_from_the_start_is_not_left() -> None:
    solitude = Solitude(180.0)
    for now in (0.0, 1e6):
        solitude.look(0, now)
        assert solitude.leave_at is None


def test_who_returns_makes_it_begin_anew() -> None:
    solitude = Solitude(180.0)
    solitude.look(1, 0.0)
    solitude.look(0, 10.0)
    solitude.look(1, 20.0)
    assert solitude.leave_at is None
    solitude.look(0, 30.0)
    assert solitude.leave_at == 210.0


def test_it_may_stay_for_ever() -> None:
    solitude = Solitude(0)
    solitude.look(1, 0.0)
    solitude.look(0, 10.0)
    assert solitude.leave_at is None


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 100)), max_size=20))
def test_it_ends_a_grace_after_the_last_company(looks: list[tuple[int, float]]) -> None:
    solitude, now, empty_since, met = Solitude(50.0), 0.0, None, False
    for others, later in looks:
        now += later
        met = met or others > 0
        if others:
            empty_since = None
        elif met and empty_since is None:
            empty_since = now
        solitude.look(others, now)
        assert solitude.leave_at == (None if empty_since is None else empty_since + 50.0)
