from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.mesh.reconnect_policy import ReconnectPolicy
from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.room.close import CloseKind

FINAL = {
    Code.NOT_FOUND: ExitStatus.GONE,
    Code.UNAUTHORIZED: ExitStatus.LOGIN_NEEDED,
    Code.LOGIN_NEEDED: ExitStatus.LOGIN_NEEDED,
    Code.IDENTITY: ExitStatus.LOGIN_NEEDED,
    Code.CLOCK: ExitStatus.LOGIN_NEEDED,
}
LAST = {
    Code.FORBIDDEN: ExitStatus.REJECTED,
    Code.REFUSED: ExitStatus.REJECTED,
    Code.BUSY: ExitStatus.ELSEWHERE,
}


def new(most: int) -> ReconnectPolicy:
    """One for which the number alone decides."""
    return ReconnectPolicy(most, 0.0)


def error(code: Code = Code.NETWORK) -> RaveError:
    return RaveError(code, "no")


@pytest.mark.parametrize("code", Code)
def test_the_last_failure_in_a_row_ends_it(code: Code) -> None:
    attempts = new(3)
    statuses = [attempts.failed(error(code), None) for _ in range(3)]
    if code in FINAL:
        assert statuses == [FINAL[code]] * 3
        assert attempts.failures == 0
    else:
        last = LAST.get(code, ExitStatus.UNREACHABLE)
        assert statuses == [None, None, last]
        assert attempts.failures == 3


def test_failures_of_an_earlier_process_count() -> None:
    attempts = new(3)
    attempts.restore(2, 10.0)
    assert attempts.failed(error(), None) is ExitStatus.UNREACHABLE
    assert attempts.failures == 3
    attempts = new(3)
    attempts.restore(2, 10.0)
    attempts.ended(CloseKind.LOST, 60.0)
    assert attempts.failed(error(), None) is None


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("code", [Code.NETWORK, Code.FORBIDDEN])
def test_failures_within_a_short_while_are_not_the_last(code: Code) -> None:
    """As of a server that is back after eight seconds."""
    clock = Clock()
    attempts = ReconnectPolicy(3, 120.0, clock)
    for _ in range(10):
        assert attempts.failed(error(code), None) is None
        clock.now += 12.0
    assert attempts.failures == 10
    assert attempts.failed(error(code), None) in (ExitStatus.UNREACHABLE, ExitStatus.REJECTED)


def test_a_long_while_with_few_failures_does_not_end_it_either() -> None:
    clock = Clock()
    attempts = ReconnectPolicy(3, 120.0, clock)
    assert attempts.failed(error(), None) is None
    clock.now += 10_000.0
    assert attempts.failed(error(), None) is None
    assert attempts.failed(error(), None) is ExitStatus.UNREACHABLE


def test_the_while_begins_anew_after_a_connection_that_held() -> None:
    clock = Clock()
    attempts = ReconnectPolicy(1, 120.0, clock)
    assert attempts.failed(error(), None) is None
    clock.now += 119.0
    attempts.ended(CloseKind.LOST, 60.0)
    clock.now += 1.0
    assert attempts.failed(error(), None) is None
    clock.now += 120.0
    assert attempts.failed(error(), None) is ExitStatus.UNREACHABLE


@pytest.mark.parametrize(("failing_for", "last"), [(0.0, False), (119.0, False), (120.0, True)])
def test_the_while_of_an_earlier_process_counts(failing_for: float, last: bool) -> None:
    clock = Clock()
    attempts = ReconnectPolicy(3, 120.0, clock)
    attempts.restore(2, failing_for)
    assert (attempts.failed(error(), None) is ExitStatus.UNREACHABLE) is last


def test_without_failures_of_an_earlier_process_there_is_no_while_of_it() -> None:
    attempts = ReconnectPolicy(1, 120.0, Clock())
    attempts.restore(0, 500.0)
    assert attempts.failed(error(), None) is None


def test_a_pause_is_no_failure_and_is_kept() -> None:
    attempts = new(1)
    for _ in range(50):
        assert attempts.paused(600.0) == 600.0
    assert attempts.failures == 0
    assert attempts.delay(0.0) == 600.0
    assert attempts.delay(0.5) == 0.5, "once it is over, everything is as before"


def test_the_ends_of_a_pause_are_spread() -> None:
    attempts = new(1)
    latest = []
    for seconds in (1.0, 100.0, 3600.0):
        attempts.paused(seconds)
        latest.append(attempts.delay(1.0) - seconds)
    assert latest == [1.0, 20.0, 60.0]


def test_pauses_without_a_length_grow_until_we_are_let_in() -> None:
    attempts = new(1)
    assert [attempts.paused(0.0) for _ in range(8)] == [30, 60, 120, 240, 480, 600, 600, 600]
    attempts.opened()
    assert attempts.paused(0.0) == 30


def test_one_attempt_may_be_all_there_is() -> None:
    assert new(1).failed(error(), None) is ExitStatus.UNREACHABLE


def test_a_door_that_is_shown_is_a_rejection_whatever_the_error() -> None:
    assert new(1).failed(error(Code.CLOSED), CloseKind.REJECTED) is ExitStatus.REJECTED
    assert new(1).failed(error(Code.CLOSED), CloseKind.LOST) is ExitStatus.UNREACHABLE


def test_a_kick_ends_it_at_once_also_before_we_are_let_in() -> None:
    assert new(3).ended(CloseKind.KICKED, 1000.0) is ExitStatus.KICKED
    assert new(3).failed(error(Code.CLOSED), CloseKind.KICKED) is ExitStatus.KICKED
    assert new(3).failed(error(Code.NOT_FOUND), CloseKind.KICKED) is ExitStatus.KICKED


def test_messages_that_are_too_large_end_it_at_once() -> None:
    """The next connection would be sent the same."""
    assert new(3).ended(CloseKind.TOO_LARGE, 1000.0) is ExitStatus.TOO_LARGE
    assert new(3).failed(error(Code.TOO_LARGE), CloseKind.TOO_LARGE) is ExitStatus.TOO_LARGE


def test_rejections_after_opening_count_with_failures() -> None:
    attempts = new(3)
    assert attempts.failed(error(), None) is None
    assert attempts.ended(CloseKind.REJECTED, 1.0) is None
    assert attempts.failures == 2
    assert attempts.ended(CloseKind.REJECTED, 1.0) is ExitStatus.REJECTED


@pytest.mark.parametrize("kind", [CloseKind.LOST, CloseKind.LOCAL])
def test_a_connection_that_held_wipes_the_slate(kind: CloseKind) -> None:
    attempts = new(3)
    attempts.failed(error(), None)
    attempts.ended(CloseKind.LOST, 1.0)
    assert attempts.ended(kind, 59.9) is None
    assert attempts.failures == 1
    assert attempts.ended(kind, 60.0) is None
    assert attempts.failures == 0
    assert attempts.delay(0.5) == 0.5


def test_a_connection_that_was_lost_is_no_failure() -> None:
    attempts = new(2)
    for _ in range(50):
        assert attempts.ended(CloseKind.LOST, 1.0) is None
    assert attempts.failures == 0


def test_the_delay_doubles_up_to_a_minute() -> None:
    attempts = new(100)
    delays = []
    for _ in range(9):
        attempts.failed(error(), None)
        delays.append(attempts.delay(0.0))
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_delay_is_jittered_by_half() -> None:
    attempts = new(100)
    for _ in range(3):
        attempts.failed(error(), None)
    assert [attempts.delay(jitter) for jitter in (0.0, 0.5, 0.75)] == [2.0, 3.0, 3.5]


def test_connections_that_are_lost_early_make_the_delay_longer_too() -> None:
    attempts = new(100)
    attempts.ended(CloseKind.LOST, 1.0)
    assert attempts.delay(0.0) == 0.5
    attempts.failed(error(), None)
    assert attempts.delay(0.0) == 1.0
    attempts.ended(CloseKind.LOST, 1.0)
    assert attempts.delay(0.0) == 2.0


def test_an_end_that_we_wanted_does_not() -> None:
    attempts = new(100)
    attempts.ended(CloseKind.LOCAL, 1.0)
    assert attempts.delay(0.25) == 0.25


EVENTS = st.tuples(st.sampled_from(Code), st.none() | st.sampled_from(CloseKind)) | st.tuples(
    st.sampled_from(CloseKind), st.floats(0, 200)
)


@pytest.mark.slow
@hypothesis.settings(deadline=None)
@given(st.integers(1, 5), st.lists(EVENTS, max_size=200), st.floats(0, 1, exclude_max=True))
def test_whatever_happens(most: int, events: list[tuple[object, object]], jitter: float) -> None:
    attempts = new(most)
    for first, second in events:
        if isinstance(first, Code):
            assert second is None or isinstance(second, CloseKind)
            status = attempts.failed(error(first), second)
        else:
            assert isinstance(first, CloseKind)
            assert isinstance(second, float)
            status = attempts.ended(first, second)
        assert 0 <= attempts.delay(jitter) < 60
        if status is not None:
            assert status in FINAL_STATUSES
            return
        assert attempts.failures < most
