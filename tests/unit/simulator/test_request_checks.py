"""What is checked of a call and of an opening socket. The three signatures are published test vectors."""

from __future__ import annotations

import pytest

from ravesvc.config.worker_options import ClientIdentity
from ravesvc.simulator.request_checks import (
    CallChecks,
    Checks,
    MojoChecks,
    ParseChecks,
    bearer,
    chat_mistake,
    request_hash,
    socket_mismatches,
)

NOW = 1_700_000_000.0
IDENTITY = ClientIdentity(request_hash_key="example-key", user_agent="Rave/1 (x)", client_version="1.2.3")
CHECKS = CallChecks(IDENTITY, {"exampletoken"})
GOOD = {
    "Client-Version": "1.2.3",
    "Wemesh-Api-Version": "4.0",
    "Wemesh-Platform": "android",
    "User-Agent": "Rave/1 (x)",
    "Authorization": "Bearer exampletoken",
    "Request-Ts": "1700000000000",
    "Request-Hash": "srWC3MVrjF09fhbjkmYLsUKRL+pFs7tYk0Vh9TgiRkA=",
}


def found(changed: dict[str, str], body: bytes = b"", now: float = NOW) -> list[tuple[int, str]]:
    mismatches = CHECKS.mismatches(GOOD | changed, body, now=now, window=300)
    return [(mismatch.status, mismatch.what) for mismatch in mismatches]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "srWC3MVrjF09fhbjkmYLsUKRL+pFs7tYk0Vh9TgiRkA="),
        ('{"email":"bot@example.test","name":"Zoë"}'.encode(), "f1QUjVt0wcKLMuq6u3fz7I5wuMx1P8uA7rj4azEaVWk="),
        (b'{"email": "bot@example.test", "name": "Zo\\u00eb"}', "W4xkUrMakaChwi7UQsIc49rrT4+464c5kNqvQl96C8I="),
    ],
)
def test_the_signature_counts_bytes(body: bytes, expected: str) -> None:
    assert request_hash("example-key", "1700000000000", "exampletoken", len(body)) == expected
    assert found({"Request-Hash": expected, "Content-Type": "application/json; charset=UTF-8"}, body) == []


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"Client-Version": "9"}, 400, "Client-Version"),
        ({"Wemesh-Api-Version": "4"}, 400, "Wemesh-Api-Version"),
        ({"Wemesh-Platform": "ios"}, 400, "Wemesh-Platform"),
        ({"User-Agent": "python"}, 400, "User-Agent"),
        ({"Ssaid": "XYZ"}, 400, "Ssaid"),
        ({"Request-Ts": "now"}, 400, "Request-Ts"),
        ({"Request-Hash": "wrong"}, 401, "Request-Hash"),
        ({"Request-Ts": "1700000000001"}, 401, "Request-Hash"),
    ],
)
def test_each_mismatch_is_named(changed: dict[str, str], status: int, word: str) -> None:
    ((got, what),) = found(changed)
    assert got == status
    assert word in what


def test_a_body_must_be_json_by_its_header() -> None:
    assert (400, "Content-Type is not application/json") in found({"Content-Type": "text/plain"}, b"{}")


@pytest.mark.parametrize(
    "header", ["Bearer r:exampletoken", "Bearer other", "exampletoken", "Basic exampletoken", ""]
)
def test_a_token_counts_only_as_it_stands_after_bearer(header: str) -> None:
    assert (401, "Authorization holds no known bearer token") in found({"Authorization": header})


@pytest.mark.parametrize(("late", "fits"), [(299, True), (301, False), (-299, True), (-301, False)])
def test_the_window_goes_both_ways(late: int, fits: bool) -> None:
    assert (found({}, now=NOW + late) == []) is fits


def test_no_secret_is_in_the_words() -> None:
    every = found(dict.fromkeys(GOOD, "secret-value"), b"{}")
    assert every
    assert "secret-value" not in str(every)
    assert IDENTITY.request_hash_key not in str(every)


SOCKET = {"Sec-WebSocket-Protocol": "protoo", "Authorization": "Bearer t", "API-Version": "4"}
QUERY = {"roomId": "m", "peerId": "1_d"}


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Sec-WebSocket-Protocol": "other"}, {}, 403),
        ({"Authorization": "Bearer x"}, {}, 401),
        ({"API-Version": "4.0"}, {}, 400),
        ({}, {"roomId": ""}, 400),
        ({}, {"peerId": ""}, 400),
    ],
)
def test_an_opening_is_refused_with_the_status_of_its_fault(
    headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    assert [m.status for m in socket_mismatches(SOCKET | headers, QUERY | query, {"t": 1})] == [status]


def test_a_right_opening_passes_with_several_sub_protocols_too() -> None:
    assert socket_mismatches(SOCKET | {"Sec-WebSocket-Protocol": "x, protoo"}, QUERY, {"t": 1}) == []


def test_a_missing_sub_protocol_comes_first() -> None:
    assert [m.status for m in socket_mismatches({}, {}, {})] == [403, 401, 400, 400, 400]


# The other servers.

KEYS = ClientIdentity(
    request_hash_key="k",
    mojo_api_key="mojo-secret",
    parse_application_id="parse-secret",
    parse_installation_id="installation",
    client_version="1.2.3",
    app_build="7",
)
MOJO: dict[str, str] = {"X-Api-Key": "mojo-secret", "Content-Type": "application/json; charset=utf-8"}
PARSE: dict[str, str] = {
    "X-Parse-Application-Id": "parse-secret",
    "X-Parse-App-Build-Version": "7",
    "X-Parse-App-Display-Version": "1.2.3",
    "X-Parse-Os-Version": "9",
    "Content-Type": "application/json",
    "User-Agent": "Parse Android SDK API Level 28",
}


def wrong(checks: Checks, headers: dict[str, str], body: bytes = b"{}") -> list[tuple[int, str]]:
    found = checks.mismatches(headers, body, now=NOW, window=300)
    assert "secret" not in str(found)
    return [(mismatch.status, mismatch.what.partition(" is ")[0]) for mismatch in found]


@pytest.mark.parametrize("more", [{}, {"User-Agent": "okhttp/5.1.0"}])
def test_a_right_call_to_the_magic_link_service(more: dict[str, str]) -> None:
    assert wrong(MojoChecks(KEYS), MOJO | more) == []
    assert wrong(MojoChecks(KEYS), {"X-Api-Key": "mojo-secret"}, b"") == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"X-Api-Key": "other-secret"}, [(401, "X-Api-Key")]),
        ({"X-Api-Key": "schlüssel-secret"}, [(401, "X-Api-Key")]),
        ({"User-Agent": "python-urllib3/2"}, [(400, "User-Agent")]),
        ({"Content-Type": "text/plain"}, [(400, "Content-Type")]),
        ({"Authorization": "Bearer secret"}, [(400, "Authorization")]),
        ({"Request-Hash": "x", "Ssaid": "y"}, [(400, "Request-Hash"), (400, "Ssaid")]),
    ],
)
def test_a_wrong_call_to_the_magic_link_service(changed: dict[str, str], found: list[tuple[int, str]]) -> None:
    assert wrong(MojoChecks(KEYS), MOJO | changed) == found


@pytest.mark.parametrize("more", [{}, {"X-Parse-Installation-Id": "installation"}])
def test_a_right_call_to_parse(more: dict[str, str]) -> None:
    assert wrong(ParseChecks(KEYS), PARSE | more) == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"X-Parse-Application-Id": "other-secret"}, [(403, "X-Parse-Application-Id")]),
        ({"X-Parse-Installation-Id": "other"}, [(400, "X-Parse-Installation-Id")]),
        ({"X-Parse-App-Build-Version": "8"}, [(400, "X-Parse-App-Build-Version")]),
        ({"X-Parse-App-Display-Version": "1a2.3"}, [(400, "X-Parse-App-Display-Version")]),
        ({"X-Parse-Os-Version": "nine"}, [(400, "X-Parse-Os-Version")]),
        ({"User-Agent": "okhttp/5.1.0"}, [(400, "User-Agent")]),
        ({"Content-Type": "text/plain"}, [(400, "Content-Type")]),
        ({"Authorization": "Bearer secret"}, [(400, "Authorization")]),
    ],
)
def test_a_wrong_call_to_parse(changed: dict[str, str], found: list[tuple[int, str]]) -> None:
    assert wrong(ParseChecks(KEYS), PARSE | changed) == found


@pytest.mark.parametrize(
    ("checks", "count"), [(MojoChecks(KEYS), 1), (ParseChecks(KEYS), 5)], ids=["magic link", "parse"]
)
def test_without_headers_all_that_must_be_there_is_missed(checks: Checks, count: int) -> None:
    assert len(wrong(checks, {}, b"")) == count


def test_without_a_header_there_is_no_token() -> None:
    assert bearer({}) == ""


SAID = {"chat": "@ann hi", "id": "i", "detected_lang": "en", "translations": {}}
REACTED = {"chat": "", "id": "i", "detected_lang": None, "translations": None, "emoji": "👍", "reaction": "m"}


@pytest.mark.parametrize(
    "data",
    [
        SAID,
        {**SAID, "user_metas": [{"handle": "ann", "id": 5}], "media": None},
        {**SAID, "user_metas": [{"handle": "ann", "id": "5"}], "reaction": None},
        REACTED,
        {**REACTED, "media": [], "links": [], "reply": None},
    ],
)
def test_a_chat_message_without_a_mistake(data: dict[str, object]) -> None:
    assert chat_mistake(data) == ""


@pytest.mark.parametrize(
    ("data", "mistake"),
    [
        ({**SAID, "chat": None}, "without chat"),
        ({**SAID, "translations": None}, "without translations"),
        ({**SAID, "media": [{"url": "x"}]}, "media"),
        ({**SAID, "user_metas": [{"handle": "bob", "id": 5}]}, "user_metas"),
        ({**SAID, "user_metas": [{"handle": "ann", "id": "me"}]}, "user_metas"),
        ({**SAID, "user_metas": [5]}, "user_metas"),
        ({**REACTED, "emoji": None}, "reaction without emoji"),
        ({**REACTED, "emoji": "two words"}, "reaction without one emoji"),
        ({**REACTED, "reaction": 5}, "reaction without reaction"),
        ({**REACTED, "chat": "hi", "media": [1]}, "reaction with chat, media"),
    ],
)
def test_what_is_wrong_with_a_chat_message(data: dict[str, object], mistake: str) -> None:
    assert mistake in chat_mistake(data)
