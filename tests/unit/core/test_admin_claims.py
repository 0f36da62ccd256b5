from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import pytest

from ravesvc.core.admin_claims import MAX_WRONG, VALID_S, Claims
from ravesvc.errors import Code, RaveError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock: Clock) -> Claims:
    return Claims("ask the host", clock=clock)


def redeem(claims: Claims, typed: str) -> None:
    with claims.redeeming(typed):
        pass


def refusal(claims: Claims, typed: str) -> RaveError:
    with pytest.raises(RaveError) as raised:
        redeem(claims, typed)
    return raised.value


def test_a_code_is_short_and_no_letter_of_it_looks_like_another(claims: Claims) -> None:
    codes = {claims.issue() for _ in range(200)}
    assert len(codes) == 200
    assert all(re.fullmatch("[A-HJKMNP-TV-Z2-9]{4}-[A-HJKMNP-TV-Z2-9]{4}", code) for code in codes)


@pytest.mark.parametrize("change", [str, str.lower, lambda c: c.replace("-", " "), lambda c: c.replace("-", "")])
def test_case_and_hyphen_do_not_matter(claims: Claims, change: Callable[[str], str]) -> None:
    redeem(claims, change(claims.issue()))


def test_a_full_width_keyboard_will_do(claims: Claims) -> None:
    redeem(claims, "".join(chr(ord(c) + 0xFEE0) for c in claims.issue()))


def test_it_works_once(claims: Claims) -> None:
    code = claims.issue()
    redeem(claims, code)
    assert refusal(claims, code).hint == "ask the host"


def test_a_new_one_replaces_the_old(claims: Claims) -> None:
    old, new = claims.issue(), claims.issue()
    assert "not the code" in str(refusal(claims, old))
    redeem(claims, new)


def test_it_is_over_after_its_minutes(claims: Claims, clock: Clock) -> None:
    code = claims.issue()
    clock.now += VALID_S
    assert refusal(claims, code).code is Code.ACCESS_DENIED
    clock.now -= 1
    assert refusal(claims, code).hint == "ask the host", "over is over"


def test_wrong_ones_are_counted_and_void_it(claims: Claims) -> None:
    code = claims.issue()
    said = [str(refusal(claims, "x" * 1000)) for _ in range(MAX_WRONG)]
    assert "4 more tries" in said[0]
    assert "1 more try," in said[3]
    assert "void (ask the host)" in said[4]
    assert refusal(claims, code).code is Code.ACCESS_DENIED


def test_a_command_without_a_code_is_no_attempt(claims: Claims) -> None:
    assert refusal(claims, "").hint == "ask the host"
    code = claims.issue()
    for _ in range(2 * MAX_WRONG):
        assert refusal(claims, " -").code is Code.INVALID_ARGUMENT
    redeem(claims, code)


def test_only_one_of_two_at_the_same_moment_has_it(claims: Claims) -> None:
    code = claims.issue()
    with claims.redeeming(code):
        assert refusal(claims, code).code is Code.ACCESS_DENIED


def test_it_is_good_again_when_nothing_came_of_it_but_no_better_than_a_newer_one(claims: Claims) -> None:
    code = claims.issue()
    with pytest.raises(OSError, match="full"), claims.redeeming(code):
        raise OSError("full")
    newer = fail_while_another_is_issued(claims, code)
    assert refusal(claims, code).code is Code.ACCESS_DENIED
    redeem(claims, newer)


def fail_while_another_is_issued(claims: Claims, code: str) -> str:
    newer = ""
    with contextlib.suppress(OSError), claims.redeeming(code):
        newer = claims.issue()
        raise OSError("full")
    return newer
