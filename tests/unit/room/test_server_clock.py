"""What the server's clock says, learned from messages that reach us sooner or later."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.room.server_clock import ServerClock

HOUR_S = 3600.0


class Times:
    """A machine that is up for a while, and a server; `wrong`: seconds by which the machine's clock is ahead."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.server = 1_000_000.0
        self.up = 500.0
        self.wrong = wrong
        self.clock = ServerClock(steady=lambda: self.up, wall=lambda: self.server + self.wrong)

    def pass_(self, seconds: float) -> None:
        self.server += seconds
        self.up += seconds

    @property
    def error(self) -> float:
        return self.clock.now() - self.server


def test_the_first_message_may_be_old_and_teaches_nothing() -> None:
    times = Times()
    times.clock.observe(times.server - 5 * HOUR_S)
    assert not times.clock.known
    assert times.error == 0


def test_a_change_while_we_listen_teaches_whatever_our_own_clock_says() -> None:
    for wrong in (-10 * 60.0, 10 * 60.0):
        times = Times(wrong)
        times.clock.observe(times.server - 5 * HOUR_S)
        assert times.error == wrong
        times.pass_(30)
        times.clock.observe(times.server)
        assert times.clock.known
        assert times.error == 0
        times.pass_(HOUR_S)
        assert times.error == 0


def test_our_own_clock_is_behind_if_the_first_message_is_from_its_future() -> None:
    times = Times(wrong=-10 * 60.0)
    times.clock.observe(times.server - 60)
    assert times.error == -60
    times.pass_(HOUR_S)
    assert times.error == -60


def test_a_message_that_says_the_same_again_teaches_nothing() -> None:
    times = Times()
    times.clock.observe(times.server)
    times.pass_(30)
    times.clock.observe(times.server - 30)
    times.clock.observe(times.server - 40)
    assert not times.clock.known


def test_a_message_that_was_held_up_does_not_set_the_clock_back() -> None:
    times = Times()
    times.clock.observe(times.server)
    times.pass_(30)
    times.clock.observe(times.server)
    times.pass_(8 * HOUR_S)
    times.clock.observe(times.server - 7 * HOUR_S)
    assert times.error == 0


def test_a_server_whose_clock_was_put_right_is_believed_after_a_while() -> None:
    times = Times()
    times.clock.observe(times.server + HOUR_S)
    times.clock.observe(times.server + HOUR_S + 1)
    assert times.error == HOUR_S + 1
    for _ in range(10):
        times.pass_(60)
        times.clock.observe(times.server)
    assert times.error == 0


def test_a_time_far_in_the_future_teaches_nothing_not_even_the_next_connection() -> None:
    times = Times()
    times.clock.observe(5e9)
    assert times.error == 0
    times.clock.observe(times.server)
    times.clock.observe(5e9)
    times.pass_(30)
    times.clock.observe(times.server)
    assert times.clock.known
    assert times.error == 0
    times.clock.connected()
    assert times.error == 0


def test_after_a_reconnection_the_first_message_is_old_again_but_what_was_learned_holds() -> None:
    times = Times(wrong=300.0)
    times.clock.observe(times.server - HOUR_S)
    times.pass_(10)
    times.clock.observe(times.server)
    times.pass_(HOUR_S)
    times.clock.connected()
    times.clock.observe(times.server - 60)
    assert times.error == 0


def test_a_later_connection_learns_nothing_from_what_changed_while_we_were_away() -> None:
    times = Times(wrong=300.0)
    times.clock.observe(times.server - HOUR_S)
    times.pass_(10)
    times.clock.connected()
    times.clock.observe(times.server - 5)
    assert not times.clock.known


def test_the_real_clocks_go_on() -> None:
    clock = ServerClock()
    clock.observe(1000.0)
    assert clock.now() > 1_600_000_000
    clock.observe(2000.0)
    assert 2000.0 <= clock.now() < 2060.0


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 2)), min_size=2, max_size=20))
def test_the_estimate_is_never_ahead_and_as_late_as_the_fastest_message_at_most(
    messages: list[tuple[float, float]],
) -> None:
    times = Times(wrong=-600.0)
    for gap, delay in messages:
        times.pass_(gap + delay + 0.001)
        times.clock.observe(times.server - delay)
    if times.clock.known:
        assert -2.001 <= times.error <= 0.001
