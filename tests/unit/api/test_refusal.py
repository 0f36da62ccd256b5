"""What a refusal is about: the session, the client identity, or the clock."""

from __future__ import annotations

import json

import pytest

from ravesvc.api import failures
from ravesvc.api.failures import HttpResponse
from ravesvc.api.refusal import diagnose
from ravesvc.errors import Code, RaveError

NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


def refused(status: int, words: str = "", *, ahead: float = 0.0, date: str | None = DATE) -> RaveError:
    body = json.dumps({"error": {"code": status, "message": words}}).encode()
    with pytest.raises(RaveError) as caught:
        failures.document(HttpResponse(status, body, None, date), NOW + ahead)
    error = caught.value
    assert not words or words not in str(error), "the server may quote what we have sent"
    assert error.attributes["status"] == status
    return error


@pytest.mark.parametrize(
    ("status", "words", "key"),
    [
        (401, "Request-Hash is not the hash of this call", "request_hash_key"),
        (403, "invalid request hash", "request_hash_key"),
        (403, "Signature mismatch", "request_hash_key"),
        (401, "HMAC verification failed", "request_hash_key"),
        (400, "bad Request-Hash header", "request_hash_key"),
        (400, "Client-Version is not '8.2.9'", "client_version"),
        (403, "unsupported client version", "client_version"),
        (403, "User-Agent not allowed", "user_agent"),
    ],
)
def test_a_refused_identity_names_the_key_to_check(status: int, words: str, key: str) -> None:
    error = refused(status, words)
    assert error.code is Code.IDENTITY
    assert error.message == f"Rave refuses the client identity (HTTP {status})"
    assert f"client_identity.{key} " in error.hint
    assert not failures.retryable(error)


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (401, "the session has expired", Code.UNAUTHORIZED),
        (401, "invalid token signature", Code.UNAUTHORIZED),
        (401, "Please log in", Code.UNAUTHORIZED),
        (401, "Unauthorized", Code.UNAUTHORIZED),
        (401, "", Code.UNAUTHORIZED),
        (403, "no access to this mesh", Code.FORBIDDEN),
        (403, "", Code.FORBIDDEN),
        (400, "the hash of the video is missing", Code.BAD_REQUEST),
        (404, "no such hash", Code.NOT_FOUND),
        (500, "signature service down", Code.SERVER_ERROR),
    ],
)
def test_every_other_refusal_stays_what_it_is(status: int, words: str, code: Code) -> None:
    assert refused(status, words).code is code


def test_whether_it_is_the_session_for_certain() -> None:
    assert "session_named" in refused(401, "the session has expired").attributes
    assert "session_named" not in refused(401, "Unauthorized").attributes
    assert "session_named" not in refused(403, "no access for this token").attributes


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (61, "is 1 minute ahead"),
        (-420, "is 7 minutes behind"),
        (3 * 3600, "is 3 hours ahead"),
        (-365 * 86400, "is 365 days behind"),
    ],
)
def test_a_clock_that_is_off_is_what_a_refusal_without_a_reason_is_about(ahead: float, words: str) -> None:
    error = refused(401, ahead=ahead)
    assert error.code is Code.CLOCK
    assert f"the clock of this machine {words}" in error.message
    assert "timedatectl" in error.hint
    # The signature holds the time.
    assert refused(401, "Request-Hash is not the hash of this call", ahead=ahead).code is Code.CLOCK
    # But a session that has expired has, and a room that is closed is.
    assert refused(401, "the session has expired", ahead=ahead).code is Code.UNAUTHORIZED
    assert refused(403, ahead=ahead).code is Code.FORBIDDEN


@pytest.mark.parametrize("date", [None, "", "nonsense", "Tue, 14 Nov 99999999999999 22:13:20 GMT"])
def test_without_a_date_nothing_is_known_of_the_clock(date: str | None) -> None:
    assert refused(401, ahead=86400, date=date).code is Code.UNAUTHORIZED
    error = refused(401, "Request-Ts is too far from the server's clock", ahead=86400, date=date)
    assert error.code is Code.CLOCK
    assert "the clock of this machine is wrong" in error.message


def test_a_slow_answer_is_no_clock_that_is_off() -> None:
    assert refused(401, ahead=-30).code is Code.UNAUTHORIZED


def test_however_long_the_words_are() -> None:
    assert diagnose(401, "x" * 10_000_000 + "hash", None) is None
