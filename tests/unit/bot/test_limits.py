from __future__ import annotations

import pytest

from ravesvc.bot.limits import CommandLimits, Cooldown, Cooldowns, RateLimited, Throttle
from ravesvc.common.token_bucket import Rate

ANN, BOB = 2, 3


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_user_over_the_rate_is_refused_and_warned_once_per_burst() -> None:
    clock = Clock()
    throttle = Throttle(CommandLimits(user_rate=Rate(2, 0.1), room_rate=Rate(100, 1.0)), clock)
    assert [throttle.count_command(7) for _ in range(4)] == [
        None,
        None,
        RateLimited(10.0, True),
        RateLimited(10.0, False),
    ]
    assert throttle.count_command(8) is None
    clock.now += 10
    assert throttle.count_command(7) is None
    assert throttle.count_command(7) == RateLimited(10.0, True)


def test_the_room_has_a_rate_for_everybody_together() -> None:
    throttle = Throttle(CommandLimits(user_rate=Rate(9, 1.0), room_rate=Rate(3, 0.25)), Clock())
    assert [throttle.count_command(user) for user in (1, 2, None)] == [None, None, None]
    assert throttle.count_command(4) == RateLimited(4.0, True)
    assert throttle.count_command(5) == RateLimited(4.0, False)


def test_a_refused_user_does_not_use_up_the_room() -> None:
    throttle = Throttle(CommandLimits(user_rate=Rate(1, 0.1), room_rate=Rate(2, 0.1)), Clock())
    for _ in range(50):
        throttle.count_command(1)
    assert throttle.count_command(2) is None


def test_few_users_are_remembered_those_heard_last() -> None:
    throttle = Throttle(CommandLimits(user_rate=Rate(2, 0.001), room_rate=Rate(10_000, 1.0)), Clock())
    throttle.count_command(1)
    throttle.count_command(2)
    for user in range(1000, 1254):
        throttle.count_command(user)
    throttle.count_command(1)
    throttle.count_command(9999)  # the 257th: user 2 is forgotten
    assert throttle.count_command(1) is not None
    assert [throttle.count_command(2), throttle.count_command(2)] == [None, None]


def test_the_room_does_not_keep_an_admin_waiting() -> None:
    throttle = Throttle(CommandLimits(user_rate=Rate(2, 0.1), room_rate=Rate(2, 0.001)), Clock())
    assert [throttle.count_command(user) for user in (1, 2)] == [None, None]
    assert throttle.count_command(3) is not None
    assert [throttle.count_admin_command(4), throttle.count_admin_command(4)] == [None, None]
    assert throttle.count_admin_command(4) == RateLimited(10.0, True), "an admin's own rate holds"


def test_a_cooldown_is_for_each_user_and_command_and_told_once() -> None:
    now = [100.0]
    cooldowns = Cooldowns(lambda: now[0])
    assert cooldowns.count_run("ping", Cooldown(0.0), ANN) is None
    assert cooldowns.count_run("ping", Cooldown(0.0), ANN) is None, "not every command has one"
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) is None
    assert cooldowns.count_run("dice", Cooldown(30.0), BOB) is None
    assert cooldowns.count_run("coin", Cooldown(30.0), ANN) is None
    now[0] += 10
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) == RateLimited(pytest.approx(20.0), first_in_burst=True)
    now[0] += 10
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) == RateLimited(pytest.approx(10.0), first_in_burst=False)
    assert cooldowns.count_run("dice", Cooldown(5.0), ANN) is None, "it was declared anew"
    now[0] += 10
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) is None


def test_of_many_cooldowns_the_oldest_are_forgotten() -> None:
    cooldowns = Cooldowns(lambda: 100.0)
    for user in range(257):
        assert cooldowns.count_run("dice", Cooldown(30.0), user) is None
    assert cooldowns.count_run("dice", Cooldown(30.0), 256)
    assert cooldowns.count_run("dice", Cooldown(30.0), 0) is None


def test_a_run_that_is_taken_back_does_not_count() -> None:
    cooldowns = Cooldowns(lambda: 100.0)
    cooldowns.undo_count("dice", Cooldown(30.0), ANN)
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) is None
    cooldowns.undo_count("dice", Cooldown(30.0), ANN)
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN) is None
    assert cooldowns.count_run("dice", Cooldown(30.0), ANN)
