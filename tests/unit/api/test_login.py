from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api import login_messages, retry, signing
from ravesvc.api.client import Api
from ravesvc.api.login import LoginResult, Step, log_in
from ravesvc.config.worker_options import ClientIdentity, Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, playing
from tests.unit.authority import Authority
from tests.unit.conftest import until
from tests.unit.simulator_server import Served, in_thread

pytestmark = pytest.mark.slow

Run = Callable[[Any], Any]
Parts = dict[str, list[Reply]]

IDENTITY = ClientIdentity(
    request_hash_key="secret-hash-key",
    mojo_api_key="secret-mojo-key",
    mojo_redirect_url="https://app.example.test/mojoauth?a=b",
    parse_application_id="secret-parse-id",
    parse_installation_id="secret-installation",
    user_agent="Rave/1 (1.0)",
    client_version="8.2.9",
    app_build="2149",
)
TYPED, EMAIL = "secret.Typed@example.test", "secret.name@example.test"
STATE_ID = "secret/state&id"
TOKEN = "secret0123456789"
ID = 900000001
NOW = 1700000000.25

MAIL, STATUS, USERS = "/mojo/users/magiclink", "/mojo/users/status", "/parse/users"
DEVICE, ACCOUNT, SELF = "/auth2/mojo/login", "/auth/login", "/users/self"
# Below the api base come all paths but these.
OTHERS = ("/mojo/", "/parse/")

NOT_YET = Reply(body={"authenticated": False})
FOLLOWED = Reply(
    body={
        "authenticated": True,
        "oauth": {"id_token": "secret-id-token", "expires_in": "3600"},
        "user": {"email": EMAIL},
    }
)
CUT = Reply(raw=b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"authenticated": ')


def parts(**changed: list[Reply]) -> Parts:
    """What the servers say in a login that succeeds, but for what is `changed`."""
    replies = {
        "mail": [Reply(body={"state_id": STATE_ID})],
        "status": [FOLLOWED],
        "users": [Reply(201, {"objectId": "AbCdEf1234", "sessionToken": f"r:{TOKEN}", "username": "x"})],
        "device": [Reply(body={"data": {"isValid": True, "suggestedHandles": []}})],
        "account": [Reply(body={"data": {"id": ID, "name": "bot"}})],
        "own": [Reply(body={"data": {"id": ID}})],
    } | changed
    paths = (MAIL, STATUS, USERS, DEVICE, ACCOUNT, SELF)
    return dict(zip(paths, replies.values(), strict=True))


def failing(status: int, code: int = 1, **headers: str) -> Reply:
    """A failure that quotes what was sent."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"code": code, "message": f"{EMAIL} {TYPED} {TOKEN} {STATE_ID}"}}, named)


class Clock:
    """Time that passes at once while a caller sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[tuple[Step, float]]:
    """What `progress` was called with."""
    return []


def secret_in(text: str) -> str | None:
    """The first secret in a text: all of them have the word in them, or the host of the addresses."""
    found = re.search(r"secret.{0,20}|@example", text)
    return found and found[0]


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At every level, of every logger, in every test of this file."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncio")
    yield
    # `caplog.text` is that of the teardown by now.
    logged = "\n".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert not secret_in(logged)


@pytest.fixture
def attempt(authority: Authority, clock: Clock, told: list[tuple[Step, float]]) -> Callable[..., Any]:
    """`attempt(server)`: the coroutine of a login at it; `changed` replaces arguments."""

    async def logging_in(server: Server, **changed: Any) -> LoginResult:
        arguments: dict[str, Any] = {
            "email": TYPED,
            "device_id": "secretdevice",
            "ssaid": "secretssaid",
            "servers": Servers(api=server.url, parse=f"{server.url}/parse", mojo=f"{server.url}/mojo"),
            "identity": IDENTITY,
            "tls": Tls(ca_file=str(authority.ca_file)),
            "lang": "de",
            "progress": lambda step, seconds: told.append((step, seconds)),
            "clock": clock,
            "now": lambda: NOW,
            "sleep": clock.sleep,
            "rng": lambda: 1.0,
        } | changed
        return await log_in(**arguments)

    return logging_in


@pytest.fixture
def succeed(authority: Authority, run: Run, attempt: Callable[..., Any]) -> Callable[..., tuple[LoginResult, Server]]:
    """A login among these parts, and who was asked what."""

    def succeeding(played: Parts, **changed: Any) -> tuple[LoginResult, Server]:
        with playing(authority, played) as server:
            return run(and_hang_up(server, attempt(server, **changed))), server

    return succeeding


@pytest.fixture
def fail(authority: Authority, run: Run, attempt: Callable[..., Any]) -> Callable[..., tuple[RaveError, list[Asked]]]:
    """The error of a login among these parts, and what was asked."""

    def failed(played: Parts, **changed: Any) -> tuple[RaveError, list[Asked]]:
        with playing(authority, played) as server, pytest.raises(RaveError) as caught:
            run(and_hang_up(server, attempt(server, **changed)))
        error = caught.value
        assert not secret_in(f"{error!r} {error} {error.attributes} {error.__cause__!r}")
        assert not str(error).endswith(".")
        return error, server.asked

    return failed


async def and_hang_up(server: Server, login: Awaitable[LoginResult]) -> LoginResult:
    """The outcome of a login, once all its connections are closed."""
    try:
        return await login
    finally:
        await until(lambda: not server.open)


def paths(asked: list[Asked]) -> list[str]:
    return [each.path for each in asked]


# What is sent.


def test_every_step_as_it_arrives(succeed: Callable[..., Any], told: list[Any], clock: Clock) -> None:
    login, server = succeed(parts(status=[NOT_YET, FOLLOWED]))
    assert login == LoginResult(email=EMAIL, parse_id="AbCdEf1234", parse_token=TOKEN, auth_token=TOKEN, user_id=ID)
    mail, early, status, users, device, account = server.asked

    # The magic-link service.
    mojo = {"x-api-key": "secret-mojo-key", "user-agent": "okhttp/5.1.0", **plain(server)}
    assert (mail.method, mail.path) == ("POST", MAIL)
    assert mail.query == {"language": "de", "redirect_url": IDENTITY.mojo_redirect_url}
    assert json.loads(mail.body) == {"email": TYPED}
    assert mail.headers == {
        **mojo,
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(mail.body)),
    }
    for each in (early, status):
        assert (each.method, each.path, each.query) == ("GET", STATUS, {"state_id": STATE_ID})
        assert each.headers == mojo
        assert each.body == b""
    assert mail.connection == early.connection == status.connection

    # Parse.
    assert (users.method, users.path, users.query) == ("POST", USERS, {})
    assert json.loads(users.body) == {"authData": {"mojo": {"id_token": "secret-id-token", "id": EMAIL}}}
    assert users.headers == {
        "x-parse-application-id": "secret-parse-id",
        "x-parse-installation-id": "secret-installation",
        "x-parse-app-build-version": "2149",
        "x-parse-app-display-version": "8.2.9",
        "x-parse-os-version": "9",
        "content-type": "application/json",
        "content-length": str(len(users.body)),
        "user-agent": "Parse Android SDK API Level 28",
        **plain(server),
    }

    # Rave's own server.
    assert (device.method, device.path, device.query) == ("POST", DEVICE, {})
    assert json.loads(device.body) == {
        "deviceId": "secretdevice",
        "email": EMAIL,
        "lang": "de",
        "name": "secret.name",
        "parseId": "AbCdEf1234",
        "parseToken": f"r:{TOKEN}",
        "platId": EMAIL,
    }
    assert (account.method, account.path, account.query) == ("POST", ACCOUNT, {})
    opening = json.loads(account.body)
    assert re.fullmatch("[0-9a-f]{32}", opening.pop("adId"))
    assert opening == {"carrierCountry": "US", "deviceId": "secretdevice", "lang": "de", "storeCountry": "US"}
    session = Session(device_id="secretdevice", ssaid="secretssaid", user_id=0, auth_token=TOKEN)
    for each in (device, account):
        signed = signing.headers(IDENTITY, session, each.body, 1700000000250)
        assert each.headers["authorization"] == f"Bearer {TOKEN}"
        assert each.headers == {name.lower(): value for name, value in signed.items()} | {
            "host": f"localhost:{server.port}",
            "content-length": str(len(each.body)),
        }

    assert clock.slept == [2.0]
    assert told == [(Step.SENDING, 600), (Step.WAITING, 600), (Step.WAITING, 598), (Step.SIGNING_IN, 598)]


def plain(server: Server) -> dict[str, str]:
    """What the HTTP library adds."""
    return {"host": f"localhost:{server.port}", "accept-encoding": "identity"}


def test_no_push_token_is_registered(succeed: Callable[..., Any]) -> None:
    _, server = succeed(parts())
    assert paths(server.asked) == [MAIL, STATUS, USERS, DEVICE, ACCOUNT]


def test_the_advertising_id_is_a_new_one_each_time() -> None:
    first, second = (login_messages.account_body("d", "en")["adId"] for _ in range(2))
    assert first != second


def test_what_is_not_configured_is_not_sent_to_parse(succeed: Callable[..., Any]) -> None:
    identity = replace(IDENTITY, parse_installation_id="", app_build="", client_version="")
    _, server = succeed(parts(), identity=identity)
    sent = {name for name in server.asked[2].headers if name.startswith("x-parse")}
    assert sent == {"x-parse-application-id", "x-parse-os-version"}


def test_a_language_that_the_mail_is_not_written_in(succeed: Callable[..., Any]) -> None:
    _, server = succeed(parts(), lang="ja")
    assert server.asked[0].query["language"] == "en"
    assert json.loads(server.asked[3].body)["lang"] == "ja"


def test_base_urls_may_have_a_path_and_a_slash(succeed: Callable[..., Any], authority: Authority) -> None:
    played = {("" if path.startswith(OTHERS) else "/v1") + path: replies for path, replies in parts().items()}
    with playing(authority, played) as other:
        servers = Servers(api=f"{other.url}/v1/", parse=f"{other.url}/parse/", mojo=f"{other.url}/mojo/")
        login, _ = succeed({}, servers=servers)
    assert login.user_id == ID


# What is answered.


@pytest.mark.parametrize("spelt", [f"r:{TOKEN}", f"r: {TOKEN}", TOKEN, f" r:{TOKEN}\n"])
def test_the_token_loses_its_prefix_but_in_one_message(succeed: Callable[..., Any], spelt: str) -> None:
    login, server = succeed(parts(users=[Reply(body={"objectId": "a", "sessionToken": spelt})]))
    assert (login.parse_token, login.auth_token) == (TOKEN, TOKEN)
    assert json.loads(server.asked[3].body)["parseToken"] == spelt.strip()
    assert server.asked[3].headers["authorization"] == f"Bearer {TOKEN}"


def test_the_token_is_parses_whatever_the_account_says(succeed: Callable[..., Any]) -> None:
    account = Reply(body={"data": {"id": ID, "token": "r:other", "authToken": "other"}, "accessToken": "other"})
    login, _ = succeed(parts(account=[account]))
    assert login.auth_token == TOKEN


@pytest.mark.parametrize("user", [None, {}, {"email": None}, {"email": 5}, {"email": ""}, {"email": "a b@c"}, "x"])
def test_without_a_confirmed_address_the_typed_one_counts(succeed: Callable[..., Any], user: Any) -> None:
    login, server = succeed(parts(status=[Reply(body={**FOLLOWED.body, "user": user})]))
    assert login.email == TYPED
    assert json.loads(server.asked[2].body)["authData"]["mojo"]["id"] == TYPED


@pytest.mark.parametrize(
    "odd",
    [
        {"authenticated": True},
        {"authenticated": True, "oauth": None},
        {"authenticated": True, "oauth": []},
        {"authenticated": True, "oauth": {}},
        {"authenticated": True, "oauth": {"id_token": ""}},
        {"authenticated": True, "oauth": {"id_token": 5}},
        {"authenticated": "yes", "oauth": {"id_token": "x"}},
        {"authenticated": False, "oauth": {"id_token": "x"}},
        {},
        [],
        b"<html>",
    ],
)
def test_an_odd_status_is_asked_for_again(succeed: Callable[..., Any], clock: Clock, odd: Any) -> None:
    login, _ = succeed(parts(status=[Reply(body=odd), FOLLOWED]))
    assert login.user_id == ID
    assert clock.slept == [2.0]


@pytest.mark.parametrize("account", [{}, {"data": {}}, {"data": []}, {"data": {"id": "x"}}, {"data": {"id": 0}}, b""])
def test_an_account_without_an_id_is_asked_for_it(succeed: Callable[..., Any], account: Any) -> None:
    login, server = succeed(parts(account=[Reply(body=account)]))
    assert login.user_id == ID
    own = server.asked[-1]
    assert (own.method, own.path, own.query, own.body) == ("GET", SELF, {}, b"")
    session = Session(device_id="secretdevice", ssaid="secretssaid", user_id=0, auth_token=TOKEN)
    assert own.headers["request-hash"] == signing.headers(IDENTITY, session, None, 1700000000250)["Request-Hash"]


def test_no_id_is_no_login(fail: Callable[..., Any]) -> None:
    error, asked = fail(parts(account=[Reply(body={})], own=[Reply(body={"data": {"name": "x"}})]))
    assert error.code is Code.BAD_DATA
    assert error.message == "asking who we are failed: id must be an integer, but is missing"
    assert paths(asked)[-2:] == [ACCOUNT, SELF]


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        ("mail", {}),
        ("mail", {"state_id": ""}),
        ("mail", {"state_id": 5}),
        ("mail", {"state_id": "\ud800"}),
        ("mail", {"state_id": "x" * 20_000}),
        ("users", {"sessionToken": TOKEN}),
        ("users", {"objectId": "", "sessionToken": TOKEN}),
        ("users", {"objectId": "a"}),
        ("users", {"objectId": "a", "sessionToken": "r:"}),
        ("users", {"objectId": "a", "sessionToken": "r: secret1 secret2"}),
        ("users", {"objectId": "a", "sessionToken": "r:secret\r\nX: y"}),
        ("users", {"objectId": "a", "sessionToken": "r:secretä"}),
    ],
)
def test_an_answer_of_no_use_ends_the_login(fail: Callable[..., Any], part: str, bad: Any) -> None:
    error, asked = fail(parts(**{part: [Reply(body=bad)]}))
    assert error.code is Code.BAD_DATA
    what = {"mail": "sending the mail", "users": "exchanging the confirmation for a token"}[part]
    assert error.message.startswith(f"{what} failed: ")
    assert paths(asked)[-1] == {"mail": MAIL, "users": USERS}[part]


# The address.


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "nonsense",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b ",
        "a@b\n",
        "a\0@b",
        "a@\ud800",
        "a\u2028@b",
        "a" * 253 + "@b",
    ],
)
def test_an_address_that_is_none_is_not_sent(fail: Callable[..., Any], typed: str, told: list[Any]) -> None:
    error, asked = fail(parts(), email=typed)
    assert error.code is Code.WRONG_ADDRESS
    assert "address" in error.message
    assert asked == []
    assert told == []


def test_the_longest_address(succeed: Callable[..., Any]) -> None:
    typed = "a" * 252 + "@b"
    _, server = succeed(parts(), email=typed)
    assert json.loads(server.asked[0].body) == {"email": typed}


@pytest.mark.parametrize(
    "answer",
    [
        failing(400, 900),
        failing(422, 900),
        Reply(400, {"code": 900, "message": TYPED}),
        Reply(200, {"code": "900", "message": TYPED}),
    ],
)
def test_an_address_that_the_service_does_not_take(fail: Callable[..., Any], answer: Reply) -> None:
    error, asked = fail(parts(mail=[answer]))
    assert error.code is Code.WRONG_ADDRESS
    assert error.message == "the magic-link service does not accept this address"
    assert paths(asked) == [MAIL]


def test_the_code_of_a_bad_address_means_nothing_later(fail: Callable[..., Any]) -> None:
    error, _ = fail(parts(users=[failing(400, 900)]))
    assert error.code is Code.BAD_REQUEST


# Configuration.


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        (["mojo_api_key"], r"client_identity\.mojo_api_key \(.*\) is not set"),
        (
            ["parse_application_id", "request_hash_key"],
            r"client_identity\.request_hash_key \(.*\), client_identity\.parse_application_id \(.*\) are not set",
        ),
        (["mojo_redirect_url"], r"client_identity\.mojo_redirect_url \(an https URL .*\) is not set"),
    ],
)
def test_keys_that_are_missing(fail: Callable[..., Any], lacking: list[str], message: str) -> None:
    error, asked = fail(parts(), identity=replace(IDENTITY, **dict.fromkeys(lacking, "")))
    assert error.code is Code.CONFIG
    assert re.fullmatch(message, error.message)
    assert asked == []


@pytest.mark.parametrize("key", ["mojo_api_key", "parse_application_id", "app_build"])
def test_a_key_that_no_header_holds(fail: Callable[..., Any], key: str) -> None:
    error, asked = fail(parts(), identity=replace(IDENTITY, **{key: "secret\r\nX: y"}))
    assert error.code is Code.CONFIG
    assert asked == []


@pytest.mark.parametrize("key", ["mojo", "parse", "api"])
def test_nothing_travels_in_clear_text(fail: Callable[..., Any], authority: Authority, key: str) -> None:
    with playing(authority, parts()) as server:
        good = Servers(api=server.url, parse=f"{server.url}/parse", mojo=f"{server.url}/mojo")
        error, _ = fail({}, servers=replace(good, **{key: f"http://localhost:{server.port}"}))
    assert error.code is Code.CONFIG
    assert error.attributes == {"key": f"servers.{key}"}
    assert server.asked == []


def test_a_certificate_from_nowhere(fail: Callable[..., Any], clock: Clock) -> None:
    error, asked = fail(parts(), tls=Tls())
    assert error.code is Code.TLS
    assert error.message.startswith("sending the mail failed: ")
    assert asked == []
    assert clock.slept == []


# Waiting for the link.


def test_a_link_that_is_not_followed(fail: Callable[..., Any], clock: Clock, told: list[Any]) -> None:
    error, asked = fail(parts(status=[NOT_YET]), link_timeout_s=7.0, poll=2.0)
    assert error.code is Code.NOT_CONFIRMED
    assert error.message == "the link in the mail was not followed in time"
    assert paths(asked) == [MAIL] + [STATUS] * 5
    assert clock.slept == [2.0, 2.0, 2.0, 1.0]
    assert [seconds for step, seconds in told if step is Step.WAITING] == [7, 5, 3, 1, 0]


def test_a_link_that_is_followed_at_the_last_moment(succeed: Callable[..., Any]) -> None:
    login, _ = succeed(parts(status=[NOT_YET] * 4 + [FOLLOWED]), link_timeout_s=7.0)
    assert login.user_id == ID


def test_without_patience_it_is_looked_once(fail: Callable[..., Any], clock: Clock) -> None:
    error, asked = fail(parts(status=[NOT_YET]), link_timeout_s=0)
    assert error.code is Code.NOT_CONFIRMED
    assert paths(asked) == [MAIL, STATUS]
    assert clock.slept == []


def test_the_time_runs_from_the_mail_on(succeed: Callable[..., Any], clock: Clock, told: list[Any]) -> None:
    succeed(parts(mail=[failing(429, Retry_After="30"), *parts()[MAIL]], status=[NOT_YET, FOLLOWED]))
    assert clock.slept == [31.0, 2.0]
    assert told[:2] == [(Step.SENDING, 600), (Step.WAITING, 600)]


@pytest.mark.parametrize("status", [404, 410])
def test_a_link_that_the_service_has_forgotten(fail: Callable[..., Any], status: int) -> None:
    error, asked = fail(parts(status=[NOT_YET, failing(status)]))
    assert error.code is Code.NOT_CONFIRMED
    assert paths(asked) == [MAIL, STATUS, STATUS]


def test_what_may_pass_while_waiting_is_not_the_end(
    succeed: Callable[..., Any], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = [failing(500), CUT, failing(503), NOT_YET, failing(502), failing(200, 2015), FOLLOWED]
    login, _ = succeed(parts(status=trouble))
    assert login.user_id == ID
    assert clock.slept == [2.0] * 6
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2, "each spell of trouble is told once"
    assert warnings[0].startswith("asking whether the link was followed failed: the server has a problem (HTTP 500")


async def test_a_server_that_is_away_while_waiting(
    authority: Authority, attempt: Callable[..., Any], clock: Clock
) -> None:
    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) == 1:
            server.close()

    with playing(authority, parts(status=[NOT_YET])) as server, pytest.raises(RaveError) as caught:
        await attempt(server, sleep=sleep, link_timeout_s=9.0)
    assert caught.value.code is Code.NETWORK
    assert caught.value.message.startswith("asking whether the link was followed failed: localhost can't be reached")
    assert clock.slept == [2.0, 2.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (400, Code.BAD_REQUEST, "Rave does not understand the request (HTTP 400, error 1)"),
        (401, Code.REFUSED, "the magic-link service refuses the login (HTTP 401)"),
        (403, Code.FORBIDDEN, "the magic-link service refuses the login (HTTP 403)"),
        (200, Code.REFUSED, "the magic-link service refuses the login (HTTP 200)"),
    ],
)
def test_what_does_not_pass_ends_the_waiting(fail: Callable[..., Any], status: int, code: Code, words: str) -> None:
    error, asked = fail(parts(status=[NOT_YET, failing(status)]))
    assert error.code is code
    assert error.message == f"asking whether the link was followed failed: {words}"
    assert paths(asked) == [MAIL, STATUS, STATUS]


def test_the_pause_that_is_asked_for_while_waiting_is_kept(succeed: Callable[..., Any], clock: Clock) -> None:
    trouble = [failing(429, Retry_After="20"), failing(503, Retry_After="1"), FOLLOWED]
    succeed(parts(status=trouble))
    assert clock.slept == [20.0, 2.0]


def test_a_pause_beyond_the_deadline_is_not_waited_for(fail: Callable[..., Any], clock: Clock) -> None:
    error, asked = fail(parts(status=[failing(429, Retry_After="601")]))
    assert error.code is Code.RATE_LIMITED
    assert paths(asked) == [MAIL, STATUS]
    assert clock.slept == []


# Failures of the other steps.

STEPS = [
    ("mail", MAIL, "sending the mail", "the magic-link service", "mojo"),
    ("users", USERS, "exchanging the confirmation for a token", "Rave", "parse"),
    ("device", DEVICE, "registering the device", "Rave", "api"),
    ("account", ACCOUNT, "opening the account", "Rave", "api"),
    ("own", SELF, "asking who we are", "Rave", "api"),
]


def with_part(part: str, *replies: Reply) -> Parts:
    """A login in which every step comes, and this one so."""
    return parts(**{"account": [Reply(body={})], part: list(replies)})


@pytest.mark.parametrize(("part", "path", "what", "who", "server"), STEPS)
@pytest.mark.parametrize(("status", "code"), [(401, Code.REFUSED), (403, Code.FORBIDDEN), (200, Code.REFUSED)])
def test_a_refusal_says_at_which_step(
    fail: Callable[..., Any], part: str, path: str, what: str, who: str, server: str, status: int, code: Code
) -> None:
    error, asked = fail(with_part(part, failing(status, 7)))
    # With a token that is new it is the signature that is not accepted.
    signed = server == "api" and status == 401
    assert error.code is (Code.IDENTITY if signed else code)
    refused = "the signature" if signed else "the login"
    assert error.message == f"{what} failed: {who} refuses {refused} (HTTP {status})"
    assert f"servers.{server} " in error.hint
    assert error.attributes == {"status": status, "error_code": 7}
    assert paths(asked)[-1] == path
    assert paths(asked).count(path) == 1


@pytest.mark.parametrize(("part", "path", "what", "who", "server"), STEPS)
def test_other_failures_say_so_too(
    fail: Callable[..., Any], part: str, path: str, what: str, who: str, server: str
) -> None:
    error, asked = fail(with_part(part, Reply(400, {"code": 101, "error": f"{TOKEN} is bad"})))
    assert error.code is Code.BAD_REQUEST
    assert error.message == f"{what} failed: Rave does not understand the request (HTTP 400, error 101)"
    assert paths(asked).count(path) == 1


@pytest.mark.parametrize(("part", "path", "what", "who", "server"), STEPS[1:])
@pytest.mark.parametrize("trouble", [failing(500), CUT, failing(429, Retry_After="5")])
def test_what_may_pass_is_tried_again(
    fail: Callable[..., Any],
    succeed: Callable[..., Any],
    clock: Clock,
    part: str,
    path: str,
    what: str,
    who: str,
    server: str,
    trouble: Reply,
) -> None:
    good = parts()[path]
    login, served = succeed(with_part(part, trouble, trouble, *good))
    assert login.user_id == ID
    assert paths(served.asked).count(path) == 3
    extra = 5.0 if trouble.status == 429 else 0.0
    assert clock.slept == [1.0 + extra, 2.0 + extra]
    error, asked = fail(with_part(part, trouble))
    assert error.message.startswith(f"{what} failed: ")
    assert paths(asked).count(path) == retry.ATTEMPTS


def test_each_attempt_is_signed_anew(succeed: Callable[..., Any]) -> None:
    times = iter(range(1000, 2000))
    _, server = succeed(parts(device=[failing(500), *parts()[DEVICE]]), now=lambda: float(next(times)))
    stamps = [asked.headers["request-ts"] for asked in server.asked if asked.path == DEVICE]
    assert len(set(stamps)) == 2


@pytest.mark.parametrize("trouble", [failing(500), CUT])
def test_no_mail_is_sent_twice(fail: Callable[..., Any], trouble: Reply) -> None:
    error, asked = fail(parts(mail=[trouble]))
    assert error.code in (Code.SERVER_ERROR, Code.NETWORK)
    assert error.message.startswith("sending the mail failed: ")
    assert "unsent" not in error.attributes, "it may be on its way"
    assert paths(asked) == [MAIL]


def test_a_mail_that_was_refused_for_its_rate_is_asked_for_again(succeed: Callable[..., Any], clock: Clock) -> None:
    _, server = succeed(parts(mail=[failing(429), failing(400, 2015), *parts()[MAIL]]))
    assert paths(server.asked).count(MAIL) == 3
    assert clock.slept == [1.0, 2.0]


async def test_a_refused_connection(authority: Authority, attempt: Callable[..., Any]) -> None:
    with playing(authority, {}) as server:
        pass
    with pytest.raises(RaveError) as caught:
        await attempt(server)
    assert caught.value.code is Code.NETWORK
    assert caught.value.message.startswith("sending the mail failed: localhost can't be reached: ")
    assert caught.value.attributes["unsent"], "there is no mail"


# Cancelling.


@pytest.mark.parametrize("path", [MAIL, STATUS, USERS, DEVICE, ACCOUNT, SELF])
async def test_cancelling_in_a_request_ends_everything_at_once(
    authority: Authority, attempt: Callable[..., Any], path: str
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == path:
            reached.set()
            go_on.wait(10)
        return play(asked)

    reached, go_on = threading.Event(), threading.Event()
    with playing(authority, parts(account=[Reply(body={})])) as server:
        play, server.answer = server.answer, answer
        task = asyncio.create_task(attempt(server))
        await until(reached.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await until(lambda: not server.open)
    assert paths(server.asked)[-1] == path


async def test_cancelling_between_two_looks(authority: Authority, attempt: Callable[..., Any]) -> None:
    with playing(authority, parts(status=[NOT_YET])) as server:
        task = asyncio.create_task(attempt(server, sleep=asyncio.sleep, poll=500.0))
        await until(lambda: len(server.asked) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not server.open)
    assert paths(server.asked) == [MAIL, STATUS]


# The simulator.


def at(served: Served, **changed: Any) -> dict[str, Any]:
    """The arguments of a login at the simulator, of a new device."""
    account = served.account
    base = f"https://{served.server}"
    return {
        "email": account.email.upper(),
        "device_id": secrets.token_hex(16),
        "ssaid": secrets.token_hex(8),
        "servers": Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        "identity": account.identity,
        "tls": Tls(ca_file=str(served.state_dir.ca_file)),
        "lang": "en",
        "progress": lambda _step, _seconds: None,
        "poll": 0.01,
    } | changed


async def test_a_login_at_the_simulator(served: Served) -> None:
    arguments = at(served)
    task = asyncio.create_task(log_in(**arguments))
    await in_thread(served.control.wait, mail=True, polls=3)
    assert not task.done()
    await in_thread(served.control.confirm, served.account.email)
    login = await task
    assert login.user_id == served.session.user_id
    assert login.email == served.account.email, "as it was confirmed, not as it was typed"
    assert login.parse_id == served.account.parse_id
    session = Session(
        device_id=arguments["device_id"],
        ssaid=arguments["ssaid"],
        user_id=login.user_id,
        auth_token=login.auth_token,
    )
    api = Api(servers=arguments["servers"], identity=served.account.identity, session=session, tls=arguments["tls"])
    assert await api.me() == login.user_id
    await api.close()
    assert served.control.violations() == []


async def test_trouble_at_the_simulator(served: Served) -> None:
    served.control.option("confirm", "2")
    served.control.option("id_token", "late")
    for target in ("status", "parse", "auth2", "auth"):
        served.control.fail(target, "reset", times=1)
    login = await log_in(**at(served, sleep=lambda _: asyncio.sleep(0.01)))
    assert login.user_id == served.session.user_id
    assert served.control.violations() == []


async def test_a_link_that_is_too_old_at_the_simulator(served: Served) -> None:
    served.control.option("link_life", "0")
    with pytest.raises(RaveError) as caught:
        await log_in(**at(served))
    assert caught.value.code is Code.NOT_CONFIRMED


async def test_an_address_that_the_simulator_does_not_take(served: Served) -> None:
    with pytest.raises(RaveError) as caught:
        await log_in(**at(served, email="bot@nowhere"))
    assert caught.value.code is Code.WRONG_ADDRESS


# What is shown.


def test_a_result_shows_no_secret(succeed: Callable[..., Any]) -> None:
    login, _ = succeed(parts())
    assert not secret_in(repr(login))
    assert not secret_in(repr(login_messages.confirmation(FOLLOWED.body, TYPED)))
    assert not secret_in(repr(login_messages.parse_user({"objectId": "a", "sessionToken": TOKEN})))


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    if login_messages.is_address(text):
        assert text.count("@") == 1
        assert text.isprintable()


@pytest.mark.slow
@given(
    st.dictionaries(
        st.sampled_from(
            ["authenticated", "oauth", "user", "state_id", "objectId", "sessionToken", "id_token", "email"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.text(),
            lambda inner: st.dictionaries(st.sampled_from(["id_token", "email"]), inner),
            max_leaves=5,
        ),
    )
)
def test_any_answer_is_typed_or_bad_data(answer: Any) -> None:
    login_messages.confirmation(answer, "a@b")
    login_messages.account_id(answer)
    for read in (login_messages.state_id, login_messages.parse_user):
        code = Code.BAD_DATA
        try:
            read(answer)
        except RaveError as e:
            code = e.code
        assert code is Code.BAD_DATA
