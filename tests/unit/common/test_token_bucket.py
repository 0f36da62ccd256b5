from __future__ import annotations

import pytest

from ravesvc.common.token_bucket import Rate, TokenBucket


def test_a_bucket_gives_a_burst_then_a_steady_rate() -> None:
    bucket = TokenBucket(Rate(3, 0.5), 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 2.0]
    assert bucket.take(1.5) == pytest.approx(0.5)
    assert bucket.take(2.0) == 0.0
    assert bucket.take(2.0) == pytest.approx(2.0)


def test_asking_for_the_wait_takes_nothing() -> None:
    bucket = TokenBucket(Rate(1, 0.5), 0.0)
    assert [bucket.wait(0.0), bucket.wait(0.0), bucket.take(0.0)] == [0.0, 0.0, 0.0]
    assert [bucket.wait(0.0), bucket.wait(1.0), bucket.take(2.0)] == [2.0, 1.0, 0.0]


def test_a_bucket_does_not_save_more_than_its_burst() -> None:
    bucket = TokenBucket(Rate(2, 1.0), 0.0)
    assert [bucket.take(1e6) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_waiting_as_long_as_told_is_enough_in_spite_of_rounding() -> None:
    now = 123456.789
    bucket = TokenBucket(Rate(1, 0.3), now)
    for _ in range(100):
        assert bucket.take(now) == 0.0
        now += bucket.take(now)


def test_another_rate_counts_from_now_on() -> None:
    bucket = TokenBucket(Rate(10, 1.0), 0.0)
    bucket.change(Rate(2, 0.5), 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, 2.0]
    bucket.change(Rate(10, 1.0), 1.0)
    assert bucket.take(1.0) == pytest.approx(0.5), "the second before was refilled at the rate of then"


def test_what_is_given_back_can_be_taken_again_and_fills_no_more_than_the_bucket() -> None:
    bucket = TokenBucket(Rate(2, 1.0), 0.0)
    bucket.refund(0.0)
    assert [bucket.take(0.0) > 0 for _ in range(3)] == [False, False, True]
    bucket.refund(0.0)
    assert [bucket.take(0.0) > 0 for _ in range(2)] == [False, True]
