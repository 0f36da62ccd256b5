from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api import failures
from ravesvc.api.failures import HttpResponse
from ravesvc.common import backoff
from ravesvc.errors import Code, RaveError

NOW = 1700000000.0


def failure(status: int, body: Any = None, retry_after: str | None = None) -> RaveError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RaveError) as caught:
        failures.document(HttpResponse(status, raw, retry_after), NOW)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (302, Code.BAD_DATA),
        (400, Code.BAD_REQUEST),
        (401, Code.UNAUTHORIZED),
        (403, Code.FORBIDDEN),
        (404, Code.NOT_FOUND),
        (418, Code.BAD_REQUEST),
        (429, Code.RATE_LIMITED),
        (500, Code.SERVER_ERROR),
        (503, Code.SERVER_ERROR),
    ],
)
def test_every_status_has_its_code(status: int, code: Code) -> None:
    error = failure(status, b"<html>sorry</html>")
    assert error.code is code
    assert error.attributes == {"status": status}
    assert f"(HTTP {status})" in error.message


@pytest.mark.parametrize("status", [200, 400, 403, 500])
def test_slow_down_is_known_by_its_code_whatever_the_status(status: int) -> None:
    error = failure(status, {"error": {"code": 2015, "message": "slow down"}}, "7")
    assert error.code is Code.RATE_LIMITED
    assert error.attributes == {"status": status, "error_code": 2015, "retry_after": 7.0}


def test_the_two_keys_may_stand_at_the_top() -> None:
    assert failure(400, {"code": "2015", "message": "slow down"}).code is Code.RATE_LIMITED
    assert failure(200, {"code": 3, "message": "no"}).attributes["error_code"] == 3


def test_a_code_that_is_the_status_is_said_once() -> None:
    assert failure(500, {"error": {"code": 500, "message": "no"}}).message == "the server has a problem (HTTP 500)"
    assert (
        failure(500, {"error": {"code": 7, "message": "no"}}).message
        == "the server has a problem (HTTP 500, error 7)"
    )


def test_parse_has_the_code_beside_the_words() -> None:
    error = failure(404, {"code": 101, "error": "Object exampletoken not found."})
    assert error.attributes == {"status": 404, "error_code": 101}
    assert "exampletoken" not in str(error)
    assert failure(400, {"code": "odd", "error": "x"}).attributes == {"status": 400}


@pytest.mark.parametrize("body", [{"error": "no"}, {"error": {"code": 7}}, {"success": False}])
def test_success_in_status_only_is_a_refusal(body: Any) -> None:
    assert failure(200, body).code is Code.REFUSED


@pytest.mark.parametrize(
    "body", [{"data": []}, {"success": True}, {"error": None, "data": 1}, {"code": 1, "message": "x", "data": []}]
)
def test_success(body: Any) -> None:
    assert failures.document(HttpResponse(200, json.dumps(body).encode()), NOW) == body


@pytest.mark.parametrize("body", [b"", b"OK", b"[]"])
def test_success_without_an_object_is_an_empty_one(body: bytes) -> None:
    assert failures.document(HttpResponse(204, body), NOW) == {}


def test_an_answer_of_too_many_values_is_not_decoded() -> None:
    body = b'{"data":[' + b"[]," * 100_000 + b"0]}"
    with pytest.raises(RaveError, match="the answer has 200002 values, where 75000 are the limit") as caught:
        failures.document(HttpResponse(200, body), NOW)
    assert caught.value.code is Code.BAD_DATA
    with pytest.raises(RaveError, match="the server has a problem"):
        failures.document(HttpResponse(500, body), NOW)


def test_the_servers_words_are_left_out() -> None:
    error = failure(401, {"error": {"code": 5, "message": "bad token exampletoken"}})
    assert "exampletoken" not in f"{error} {error.attributes}"
    assert error.hint


def test_what_may_pass_is_retryable_and_nothing_else() -> None:
    passing = {code for code in Code if failures.retryable(RaveError(code, "x"))}
    assert passing == {Code.NETWORK, Code.TIMEOUT, Code.SERVER_ERROR, Code.RATE_LIMITED}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("12", 12.0),
        (" 0 ", 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("9" * 30, None),
        ("Tue, 14 Nov 99999999999 22:13:50 GMT", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert failures.asked_pause(text, None, NOW) == ({} if seconds is None else {"retry_after": seconds})


@pytest.mark.parametrize("skew", [-86400.0, -30.0, 0.0, 30.0, 86400.0])
def test_a_point_in_time_is_one_of_the_servers_clock(skew: float) -> None:
    until, date = "Tue, 14 Nov 2023 22:23:20 GMT", "Tue, 14 Nov 2023 22:13:20 GMT"
    assert failures.asked_pause(until, date, NOW + skew) == {"retry_after": 600.0}
    assert failures.asked_pause("7", date, NOW + skew) == {"retry_after": 7.0}
    assert failures.asked_pause(until, "noon", NOW) == {"retry_after": 600.0}
    answer = HttpResponse(429, b"", until, date)
    with pytest.raises(RaveError) as caught:
        failures.document(answer, NOW + skew)
    assert caught.value.attributes["retry_after"] == 600.0


@pytest.mark.slow
@given(st.text(), st.none() | st.text())
def test_retry_after_takes_anything(text: str, date: str | None) -> None:
    assert failures.asked_pause(text, date, NOW).get("retry_after", 0) >= 0


@pytest.mark.parametrize(
    ("code", "attributes", "seconds"),
    [
        (Code.RATE_LIMITED, {"retry_after": 60.0}, 60.0),
        (Code.RATE_LIMITED, {}, 0.0),
        (Code.RATE_LIMITED, {"retry_after": 0.0}, 0.0),
        (Code.RATE_LIMITED, {"retry_after": 0.01}, 1.0),
        (Code.RATE_LIMITED, {"retry_after": 1e9}, 3600.0),
        (Code.SERVER_ERROR, {"retry_after": 60.0}, 60.0),
        (Code.SERVER_ERROR, {}, None),
        (Code.FORBIDDEN, {}, None),
    ],
)
def test_the_pause_that_a_failure_asks_for(code: Code, attributes: dict[str, Any], seconds: float | None) -> None:
    assert failures.pause(RaveError(code, "no", **attributes)) == seconds


@pytest.mark.slow
@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), st.integers(100, 999)
)
def test_any_answer_is_an_object_or_an_error_in_words(body: Any, status: int) -> None:
    raw = body if isinstance(body, bytes) else json.dumps({"error": body}).encode()
    outcome: Any
    try:
        outcome = failures.document(HttpResponse(status, raw), NOW)
    except RaveError as e:
        outcome = e.attributes
    assert isinstance(outcome, dict)


def test_the_body_is_in_no_repr() -> None:
    assert "secret" not in repr(HttpResponse(200, b"secret"))


def test_delays_double_up_to_the_most() -> None:
    assert list(itertools.islice(backoff.delays(1.0, 5.0, lambda: 1.0), 5)) == [1, 2, 4, 5, 5]


@given(st.floats(0, 1), st.floats(0.01, 10), st.floats(0.01, 100))
def test_delays_stay_in_the_upper_half(drawn: float, first: float, most: float) -> None:
    for number, delay in enumerate(itertools.islice(backoff.delays(first, most, lambda: drawn), 8)):
        ceiling = min(first * 2**number, most)
        assert ceiling / 2 <= delay <= ceiling * 1.0000001
