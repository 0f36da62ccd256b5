"""Logging in at the simulator, as a client would, and as the product does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import urllib3
from websockets.exceptions import InvalidStatus

from ravesvc.api.client import Api
from ravesvc.api.login import LoginResult, log_in
from ravesvc.config.worker_options import Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.events import EventLog
from ravesvc.simulator.fault_options import FaultOptions
from ravesvc.simulator.mailbox import Mailbox
from tests.unit.simulator_server import Served, ask, device_body, in_thread

EMAIL = "bot@example.test"
OTHER = "other@example.test"
DEVICE = "d" * 32


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


# The mail.


def test_a_mail_waits_until_its_link_is_followed(served: Served) -> None:
    assert served.control.state()["mail"] == {"sent": 0, "waiting": False, "polls": 0}
    status, answer = served.send_mail()
    assert status == 200
    assert served.control.state()["mail"] == {"sent": 1, "waiting": True, "polls": 0}
    assert served.mail_status(answer["state_id"]) == (200, {"authenticated": False})
    served.control.confirm()
    status, told = served.mail_status(answer["state_id"])
    assert (status, told["authenticated"], told["is_second_factor_login"]) == (200, True, False)
    assert set(told["oauth"]) == {"access_token", "id_token", "refresh_token", "expires_in", "token_type"}
    assert told["oauth"]["expires_in"] == "3600"
    assert told["oauth"]["id_token"].count(".") == 2
    assert set(told["user"]) == {"created_at", "updated_at", "issuer", "user_id", "identifier", "email"}
    assert told["user"]["email"] == told["user"]["identifier"] == EMAIL
    assert served.control.state()["mail"] == {"sent": 1, "waiting": False, "polls": 2}
    assert violations(served) == []


def test_the_address_that_counts_is_in_lower_case(served: Served) -> None:
    state_id = served.send_mail("Bot@Example.Test")[1]["state_id"]
    served.control.confirm("BOT@example.test")
    assert served.mail_status(state_id)[1]["user"]["email"] == EMAIL


@pytest.mark.parametrize("address", ["", "nonsense", "a@b", "a b@c.d", "@c.d", "a@c.", "a@b@c.d"])
def test_an_address_that_is_none(served: Served, address: str) -> None:
    status, answer = served.send_mail(address)
    assert (status, answer["error"]["code"]) == (400, 900)
    assert served.control.state()["mail"]["sent"] == 0
    assert violations(served) == [], "people mistype"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"language": "xx"}, "language must be one of: en, ru, de, fr, es, it, pt, ar, pl, nl, uk"),
        ({"redirect_url": "https://elsewhere.test"}, "redirect_url is not as it should be"),
    ],
)
def test_a_mail_that_is_asked_for_in_a_wrong_way(served: Served, query: dict[str, str], words: str) -> None:
    assert served.send_mail(**query)[0] == 400
    assert violations(served) == [words]


def test_the_magic_link_service_knows_its_clients(served: Served) -> None:
    status, _ = served.mojo("POST", "/users/magiclink", {"email": EMAIL}, X_Api_Key="wrong")
    assert status == 401
    assert served.mojo("GET", "/users/status?state_id=x", Authorization="Bearer x")[0] == 400
    assert violations(served) == [
        "X-Api-Key is not that of the identity",
        "Authorization is no header of this server",
    ]


def test_nobody_knows_the_mail(served: Served) -> None:
    assert served.mail_status("st_nothing")[0] == 404
    assert served.mojo("GET", "/users/status")[0] == 400
    assert violations(served) == ["state_id must be a text, but is missing"]


def test_a_link_is_followed_after_some_looks(served: Served) -> None:
    served.control.option("confirm", 2)
    state_id = served.send_mail()[1]["state_id"]
    assert [served.mail_status(state_id)[1]["authenticated"] for _ in range(4)] == [False, False, True, True]
    served.control.option("confirm", 0)
    assert served.mail_status(served.send_mail()[1]["state_id"])[1]["authenticated"] is True


def test_a_link_does_not_live_for_ever(served: Served) -> None:
    served.control.option("link_life", 0)
    served.control.option("confirm", 0)
    state_id = served.send_mail()[1]["state_id"]
    assert served.mail_status(state_id)[0] == 410
    with pytest.raises(RaveError, match="no mail waits"):
        served.control.confirm()
    assert served.control.state()["mail"] == {"sent": 1, "waiting": False, "polls": 1}
    served.control.option("link_life", "never")
    assert served.mail_status(state_id)[1]["authenticated"] is True
    served.control.option("link_life", 0)
    assert served.mail_status(state_id)[1]["authenticated"] is True, "what is followed stays so"
    assert violations(served) == []


def test_following_takes_the_latest_mail(served: Served) -> None:
    first, second, other = (served.send_mail(email)[1]["state_id"] for email in (EMAIL, EMAIL, OTHER))

    def followed() -> list[bool]:
        return [served.mail_status(state_id)[1]["authenticated"] for state_id in (first, second, other)]

    served.control.confirm(EMAIL)
    assert followed() == [False, True, False]
    served.control.confirm()
    assert followed() == [False, True, True]
    served.control.confirm()
    assert followed() == [True, True, True]
    with pytest.raises(RaveError, match="no mail waits") as raised:
        served.control.confirm()
    assert raised.value.code is Code.NOT_FOUND
    with pytest.raises(RaveError, match="no mail waits"):
        served.control.confirm("nobody@example.test")


def test_a_link_that_was_not_followed_proves_nothing() -> None:
    mailbox = Mailbox(FaultOptions(), EventLog(), lambda: 0.0)
    mail = mailbox.send(EMAIL)
    assert mailbox.email_of(mail.id_token) is None
    mailbox.follow(None)
    assert mailbox.email_of(mail.id_token) == EMAIL


def test_the_life_of_a_link_is_counted_from_its_mail() -> None:
    now = [100.0]
    log = EventLog()
    mailbox = Mailbox(FaultOptions(), log, lambda: now[0])
    mail = mailbox.send("A@b.c")
    now[0] += 899
    assert mailbox.poll(mail.state_id).followed is False
    assert mailbox.waiting
    now[0] += 1
    assert not mailbox.waiting
    with pytest.raises(RaveError) as raised:
        mailbox.poll(mail.state_id)
    assert raised.value.code is Code.NOT_CONFIRMED
    assert [event["type"] for event in log.after(0)] == ["mail", "polled", "polled"]
    assert not any(secret in repr(mail) for secret in (mail.state_id, mail.id_token, "a@b.c"))


# The proof.


@pytest.mark.parametrize(
    ("option", "sent"), [("sent", [True, True]), ("late", [False, True]), ("missing", [False] * 2)]
)
def test_the_proof_may_be_missing(served: Served, option: str, sent: list[bool]) -> None:
    served.control.option("id_token", option)
    served.control.option("confirm", 0)
    state_id = served.send_mail()[1]["state_id"]
    answers = [served.mail_status(state_id)[1] for _ in sent]
    assert ["id_token" in answer["oauth"] for answer in answers] == sent
    assert all(answer["authenticated"] for answer in answers)


def test_parse_takes_the_proof_for_its_own_address_alone(served: Served) -> None:
    served.control.option("confirm", 0)
    tokens = [
        served.mail_status(served.send_mail(email)[1]["state_id"])[1]["oauth"]["id_token"] for email in (EMAIL, OTHER)
    ]
    waiting = served.send_mail()[1]["state_id"]
    for proof in (
        {"id_token": tokens[0], "id": OTHER},
        {"id_token": tokens[1], "id": EMAIL},
        {"id_token": tokens[0], "id": EMAIL.upper()},
        {"id_token": waiting, "id": EMAIL},
        {"id_token": "wröng", "id": EMAIL},
    ):
        assert served.parse({"authData": {"mojo": proof}})[0] == 403
    assert violations(served) == ["id_token was not given out for this address"] * 5
    assert served.parse({"authData": {"mojo": {"id_token": tokens[1], "id": OTHER}}})[0] == 200


@pytest.mark.parametrize("body", [{}, {"authData": {}}, {"authData": {"mojo": {"id_token": 5}}}])
def test_parse_needs_a_proof(served: Served, body: dict[str, Any]) -> None:
    assert served.parse(body)[0] == 400
    assert len(violations(served)) == 1


def test_parse_knows_its_clients(served: Served) -> None:
    assert served.parse({}, X_Parse_Application_Id="wrong")[0] == 403
    assert violations(served) == ["X-Parse-Application-Id is not that of the identity"]


def test_the_token_of_a_login(served: Served) -> None:
    first, second = served.sign_in(), served.sign_in()
    assert re.fullmatch("r:[0-9a-f]{32}", first["sessionToken"])
    assert first["objectId"] == second["objectId"] == served.account.parse_id
    assert first["sessionToken"] != second["sessionToken"]
    assert set(first) == {"objectId", "sessionToken", "createdAt", "username"}
    other = served.sign_in(OTHER)
    assert other["objectId"] == served.sign_in(OTHER)["objectId"] != first["objectId"]
    assert violations(served) == []


# The device.


def test_the_address_of_the_account_is_the_bots(served: Served) -> None:
    token, account = served.log_in(device_id=served.session.device_id)
    assert account["id"] == served.session.user_id
    assert {"handle", "displayName", "acceptTos", "gender", "yearOfBirth", "userScore"} <= set(account)
    assert not any("oken" in key for key in account)
    assert served.call_as(token, "GET", "/users/self")[1]["data"]["id"] == account["id"]
    assert served.call("GET", served.listing())[0] == 200, "the former session stays"
    assert served.call_as(token, "GET", served.listing())[0] == 200
    assert served.control.state()["logins"] == 1
    assert violations(served) == []


def test_another_address_is_another_user(served: Served) -> None:
    (mesh,) = served.control.create()
    _, account = served.log_in(OTHER)
    ids = {user["user_id"] for user in served.control.mesh(mesh)["users"]}
    assert account["id"] not in {served.session.user_id, *ids}
    assert served.log_in(OTHER)[1]["id"] == account["id"]
    assert served.log_in("third@example.test")[1]["id"] != account["id"]
    assert served.control.state()["bot"]["user_id"] == served.session.user_id


def test_a_new_user_is_told_so_once(served: Served) -> None:
    for email, new in ((EMAIL, False), (OTHER, True), (OTHER, False)):
        user = served.sign_in(email)
        body = device_of(user, email)
        answer = served.call_as(user["sessionToken"][2:], "POST", "/auth2/mojo/login", body)[1]["data"]
        assert (answer["isValid"], answer["newUser"]) == (True, new)
        assert isinstance(answer["suggestedHandles"], list)


def device_of(user: dict[str, Any], email: str = EMAIL) -> dict[str, Any]:
    return device_body(user, email, DEVICE)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parseToken": "0" * 32}, "parseToken is not as it should be"),
        ({"parseId": "x"}, "parseId is not as it should be"),
        ({"platId": OTHER}, "platId is not as it should be"),
        ({"email": OTHER}, "email is not that of the session"),
        ({"deviceId": "D" * 32}, "deviceId must be 32 hex digits"),
        ({"name": None}, "name must be a text, but is missing"),
        ({"lang": 5}, "lang must be a text, but is a int"),
    ],
)
def test_a_device_is_registered_with_the_right_words(served: Served, changed: dict[str, Any], words: str) -> None:
    user = served.sign_in()
    token = user["sessionToken"].removeprefix("r:")
    assert served.call_as(token, "POST", "/auth2/mojo/login", device_of(user) | changed)[0] == 400
    assert violations(served) == [words]
    assert served.control.state()["logins"] == 0


def test_the_token_in_the_body_keeps_its_prefix(served: Served) -> None:
    user = served.sign_in()
    token = user["sessionToken"].removeprefix("r:")
    assert served.call_as(token, "POST", "/auth2/mojo/login", device_of(user) | {"parseToken": token})[0] == 400
    assert served.call_as(token, "POST", "/auth2/mojo/login", device_of(user))[0] == 200


def test_somebody_elses_address_is_refused(served: Served) -> None:
    served.log_in(OTHER)
    user = served.sign_in()
    body = device_of(user) | {"email": OTHER, "platId": OTHER}
    assert served.call_as(user["sessionToken"][2:], "POST", "/auth2/mojo/login", body)[0] == 400


def test_a_session_is_of_no_device_before_it_is_registered(served: Served) -> None:
    token = served.sign_in()["sessionToken"].removeprefix("r:")
    assert served.call_as(token, "GET", served.listing())[0] == 403
    opening = {"adId": "a", "carrierCountry": "US", "deviceId": DEVICE, "lang": "en", "storeCountry": "US"}
    assert served.call_as(token, "POST", "/auth/login", opening)[0] == 400
    assert served.call_as(token, "GET", "/users/self")[0] == 200


@pytest.mark.parametrize("key", ["adId", "carrierCountry", "lang", "storeCountry"])
def test_the_account_is_opened_with_all_facts(served: Served, key: str) -> None:
    token, _ = served.log_in()
    opening = {"adId": "a", "carrierCountry": "US", "deviceId": DEVICE, "lang": "en", "storeCountry": "US"}
    assert served.call_as(token, "POST", "/auth/login", opening | {key: ""})[0] == 400
    assert violations(served) == [f"{key} is empty"]


def test_a_push_token_is_accepted(served: Served) -> None:
    token, _ = served.log_in()
    body = {"deviceId": DEVICE, "platform": "android", "token": "placeholder"}
    assert served.call_as(token, "POST", "/users/self/tokens", body) == (200, {"success": True})
    assert served.call_as(token, "POST", "/users/self/tokens", body | {"platform": "ios"})[0] == 400


def test_registering_again_is_the_same_login(served: Served) -> None:
    user = served.sign_in(OTHER)
    for _ in range(2):
        answer = served.call_as(
            user["sessionToken"].removeprefix("r:"), "POST", "/auth2/mojo/login", device_of(user, OTHER)
        )
        assert answer[0] == 200
    assert served.control.state()["logins"] == 1


async def test_each_session_has_its_own_device(served: Served) -> None:
    (mesh,) = served.control.create()
    served.control.invite(mesh)
    token, account = served.log_in()
    old, new = served.session.peer_id, f"{account['id']}_{DEVICE}"
    assert served.control.state()["bot"]["peer_id"] == new

    for peer_id, bearer, right in (
        (new, served.session.auth_token, False),
        (old, token, False),
        (new, token, True),
        (old, served.session.auth_token, True),
    ):
        opening = served.open(
            mesh, query={"roomId": mesh, "peerId": peer_id}, headers={"Authorization": f"Bearer {bearer}"}
        )
        if right:
            async with opening as ws:
                assert (await ask(ws, "fullyJoined"))["ok"] is True
        else:
            with pytest.raises(InvalidStatus, match="403"):
                await opening
    assert violations(served) == ["peerId is not of the token's user and device"] * 2


# The end of a session.


async def test_sessions_expire_and_sockets_stay(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await in_thread(served.control.expire)
        assert (await in_thread(served.call, "GET", "/users/self"))[0] == 401
        assert (await ask(ws, "clientPing", 2))["ok"] is True
        (other,) = await in_thread(served.control.create, kinds=["public"])
        with pytest.raises(InvalidStatus, match="401"):
            await served.open(other)
        await in_thread(served.control.expire, close=True)
        await ws.wait_closed()
        assert ws.close_code == 4000
    assert violations(served) == [], "to lose a session is no mistake"
    token, _ = served.log_in(device_id=served.session.device_id)
    assert served.call_as(token, "GET", served.listing())[0] == 200
    assert served.call("GET", served.listing())[0] == 401


def test_an_expired_token_excuses_nothing_else(served: Served) -> None:
    served.control.expire()
    assert served.raw("GET", "/users/self", Client_Version="0").status == 400
    assert len(violations(served)) == 1


# Failures.


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("magiclink", lambda s: s.send_mail()),
        ("status", lambda s: s.mail_status("x")),
        ("parse", lambda s: s.parse({})),
        ("auth2", lambda s: s.call("POST", "/auth2/mojo/login", {})),
        ("auth", lambda s: s.call("POST", "/auth/login", {})),
        ("tokens", lambda s: s.call("POST", "/users/self/tokens", {})),
    ],
)
def test_each_call_of_a_login_can_fail(
    served: Served, target: str, call: Callable[[Served], tuple[int, dict[str, Any]]]
) -> None:
    for mode, status, code in (("503", 503, 503), ("2015", 400, 2015)):
        served.control.fail(target, mode, times=1)
        got, answer = call(served)
        assert (got, answer["error"]["code"]) == (status, code)
    served.control.fail(target, "reset", times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        call(served)
    assert served.control.state()["faults"] == {}


def test_a_call_that_is_refused_does_nothing(served: Served) -> None:
    served.control.fail("magiclink", "403", times=1)
    served.send_mail()
    assert served.control.state()["mail"]["sent"] == 0
    served.control.fail("magiclink", "half-page", times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        served.send_mail()
    assert served.control.state()["mail"]["sent"] == 1


# Looking and waiting.


async def test_mails_and_looks_are_awaited(served: Served) -> None:
    waiting = asyncio.create_task(in_thread(served.control.wait, mail=True, timeout=5))
    state_id = (await in_thread(served.send_mail))[1]["state_id"]
    assert (await waiting)["mail"]["waiting"] is True
    waiting = asyncio.create_task(in_thread(served.control.wait, polls=2, timeout=5))
    for _ in range(2):
        await in_thread(served.mail_status, state_id)
    assert (await waiting)["mail"]["polls"] == 2
    served.control.confirm()
    with pytest.raises(RaveError, match="still waiting for 2: a mail, polls"):
        served.control.wait(mail=True, polls=3, timeout=0)


def test_no_secret_is_shown(served: Served) -> None:
    state_id = served.send_mail()[1]["state_id"]
    user = served.sign_in()
    token, _ = served.log_in(OTHER)
    proof = served.mail_status(state_id)[1]
    assert proof == {"authenticated": False}
    served.parse({"authData": {"mojo": {"id_token": state_id, "id": EMAIL}}})
    served.call_as(token, "POST", "/auth2/mojo/login", device_of(user))
    served.control.expire()
    shown = json.dumps([served.control.state(), served.control.events(), served.control.violations()])
    for secret in (state_id, user["sessionToken"].removeprefix("r:"), token, EMAIL, OTHER, served.session.auth_token):
        assert secret not in shown
    assert {"mail", "polled", "followed", "login", "expired"} <= {event["type"] for event in served.control.events()}


async def test_users_are_mentioned(served: Served) -> None:
    (mesh,) = served.control.create(kinds=["public"])

    async with served.open(mesh) as ws:
        await ask(ws, "fullyJoined")
        await in_thread(served.control.chat, mesh, "?admin @bea", mentions=["bea", "botty", "ann"])
        frame: dict[str, Any] = {}
        while frame.get("method") != "chatMessage":
            frame = json.loads(await ws.recv())
        mentioned = {meta["handle"]: meta["id"] for meta in frame["data"]["user_metas"]}
        assert list(mentioned) == ["bea", "botty", "ann"]
        assert mentioned["botty"] == served.session.user_id
        await in_thread(served.control.join, mesh, "bea")
        ids = {user["handle"]: user["user_id"] for user in (await in_thread(served.control.mesh, mesh))["users"]}
        assert mentioned == {handle: ids[handle] for handle in mentioned}


# The product's own client: neither may find a mistake in the other.


def product(served: Served, **changed: Any) -> Coroutine[Any, Any, LoginResult]:
    base = f"https://{served.server}"
    arguments: dict[str, Any] = {
        "email": EMAIL,
        "device_id": DEVICE,
        "ssaid": "a" * 16,
        "servers": Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        "identity": served.account.identity,
        "tls": Tls(ca_file=str(served.state_dir.ca_file)),
        "lang": "en",
        "progress": lambda step, seconds: None,
        "poll": 0.01,
        **changed,
    }
    return log_in(**arguments)


@pytest.mark.parametrize("option", ["sent", "late"])
async def test_the_product_logs_in(served: Served, option: str) -> None:
    served.control.option("confirm", 2)
    served.control.option("id_token", option)
    served.control.option("user_ids", "text")

    login = await product(served, email="Bot@Example.Test")
    assert (login.email, login.user_id) == (EMAIL, served.session.user_id)
    assert login.parse_id == served.account.parse_id
    session = Session(device_id=DEVICE, ssaid="a" * 16, user_id=login.user_id, auth_token=login.auth_token)
    base = f"https://{served.server}"
    api = Api(
        servers=Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        identity=served.account.identity,
        session=session,
        tls=Tls(ca_file=str(served.state_dir.ca_file)),
    )
    try:
        assert await api.me() == login.user_id
    finally:
        await api.close()
    assert violations(served) == []


@pytest.mark.parametrize(
    ("arrange", "code"),
    [
        (lambda c: c.option("link_life", 0), Code.NOT_CONFIRMED),
        (lambda c: c.option("confirm", "never"), Code.NOT_CONFIRMED),
        (lambda c: c.option("id_token", "missing"), Code.NOT_CONFIRMED),
        (lambda c: c.fail("magiclink", "403"), Code.FORBIDDEN),
        (lambda c: c.fail("parse", "403"), Code.FORBIDDEN),
        (lambda c: c.fail("auth2", "400"), Code.BAD_REQUEST),
    ],
)
async def test_the_product_fails_to_log_in(served: Served, arrange: Callable[[Any], None], code: Code) -> None:
    served.control.option("confirm", 0)
    arrange(served.control)

    with pytest.raises(RaveError) as raised:
        await product(served, link_timeout_s=0.2)
    assert raised.value.code is code
    assert violations(served) == []
