from __future__ import annotations

from dataclasses import replace

import pytest

from ravesvc.api import signing
from ravesvc.config.worker_options import ClientIdentity
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError

IDENTITY = ClientIdentity(request_hash_key="example-key", user_agent="Rave/1 (1.0)", client_version="8.2.9")
SESSION = Session(device_id="d" * 32, ssaid="5" * 16, user_id=900000001, auth_token="exampletoken")
NOW = 1700000000000


@pytest.mark.parametrize(
    ("body", "length", "expected"),
    [
        (b"", 0, "srWC3MVrjF09fhbjkmYLsUKRL+pFs7tYk0Vh9TgiRkA="),
        ('{"email":"bot@example.test","name":"Zoë"}'.encode(), 42, "f1QUjVt0wcKLMuq6u3fz7I5wuMx1P8uA7rj4azEaVWk="),
        (
            rb'{"email": "bot@example.test", "name": "Zo\u00eb"}',
            49,
            "W4xkUrMakaChwi7UQsIc49rrT4+464c5kNqvQl96C8I=",
        ),
    ],
)
def test_the_known_signatures(body: bytes, length: int, expected: str) -> None:
    assert len(body) == length
    assert signing.request_hash("example-key", "exampletoken", NOW, len(body)) == expected


def test_all_headers_of_a_request_without_a_body() -> None:
    assert signing.headers(IDENTITY, SESSION, None, NOW) == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": "Bearer exampletoken",
        "Client-Version": "8.2.9",
        "Request-Hash": "srWC3MVrjF09fhbjkmYLsUKRL+pFs7tYk0Vh9TgiRkA=",
        "Request-Ts": "1700000000000",
        "Ssaid": "5555555555555555",
        "User-Agent": "Rave/1 (1.0)",
        "Wemesh-Api-Version": "4.0",
        "Wemesh-Platform": "android",
    }


def test_a_body_is_typed_and_its_bytes_are_counted() -> None:
    body = '{"email":"bot@example.test","name":"Zoë"}'.encode()
    made = signing.headers(IDENTITY, SESSION, body, NOW)
    assert made["Content-Type"] == "application/json; charset=UTF-8"
    assert made["Request-Hash"] == "f1QUjVt0wcKLMuq6u3fz7I5wuMx1P8uA7rj4azEaVWk="


@pytest.mark.parametrize("token", ["evil\r\nX-Other: 1", "tokén", "a\x00b"])
def test_a_value_that_no_header_can_hold_is_named_but_not_shown(token: str) -> None:
    with pytest.raises(RaveError) as caught:
        signing.headers(IDENTITY, replace(SESSION, auth_token=token), None, NOW)
    assert caught.value.code is Code.CONFIG
    assert caught.value.attributes == {"header": "Authorization"}
    assert token not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    assert "example-key" not in repr(IDENTITY)
    assert "exampletoken" not in repr(SESSION)
