from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from ravesvc.api import client, failures, retry, signing
from ravesvc.api import listing as listing_module
from ravesvc.api.client import Api
from ravesvc.api.listing import ListReader, all_of_it
from ravesvc.api.models import MeshMode, User
from ravesvc.config.worker_options import ClientIdentity, Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, serving
from tests.unit.authority import Authority

IDENTITY = ClientIdentity(request_hash_key="secret-key", user_agent="Rave/1 (1.0)", client_version="8.2.9")
SESSION = Session(device_id="secretdevice", ssaid="secretssaid", user_id=900000001, auth_token="secrettoken")
SECRETS = ("secret-key", "secretdevice", "secretssaid", "secrettoken")
NOW = 1700000000.25

Run = Callable[[Any], Any]


def mesh_id(number: int) -> str:
    return f"{number:08d}-2222-4333-8444-555555555555"


def page(*numbers: int, cursor: str | None = None, host: str = "localhost") -> Reply:
    paging = {"next": f"https://{host}/meshes/self?{urlencode({'cursor': cursor})}"} if cursor else {}
    return Reply(body={"data": [{"mesh": {"id": mesh_id(n)}, "users": []} for n in numbers], "paging": paging})


def failing(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"code": 1, "message": "secrettoken is bad"}}, named)


CUT = Reply(raw=b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"data": [')


class Naps:
    """A sleep that takes no time and remembers."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At every level, of every logger, in every test of this file."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncio")
    yield
    # `caplog.text` is that of the teardown by now.
    logged = "\n".join(map(logging.Formatter().format, caplog.get_records("call")))
    assert not [secret for secret in SECRETS if secret in logged]


@asynccontextmanager
async def opened(server: Server, authority: Authority, naps: Naps, base: str = "") -> AsyncIterator[Api]:
    api = Api(
        servers=Servers(api=server.url + base, parse="", mojo=""),
        identity=IDENTITY,
        session=SESSION,
        tls=Tls(ca_file=str(authority.ca_file)),
        clock=lambda: NOW,
        sleep=naps,
        rng=lambda: 1.0,
    )
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
def ask(authority: Authority, naps: Naps, run: Run) -> Callable[..., Any]:
    """`ask(server, lambda api: api.mesh(...))`: the outcome of one coroutine."""

    def asking(server: Server, question: Callable[[Api], Any], base: str = "") -> Any:
        async def main() -> Any:
            async with opened(server, authority, naps, base) as api:
                return await question(api)

        return run(main())

    return asking


def fails(ask: Callable[..., Any], server: Server, question: Callable[[Api], Any]) -> RaveError:
    with pytest.raises(RaveError) as caught:
        ask(server, question)
    shown = f"{caught.value!r} {caught.value} {caught.value.attributes} {caught.value.__context__!r}"
    assert not [secret for secret in SECRETS if secret in shown]
    return caught.value


def listing(mode: MeshMode = MeshMode.INVITED) -> Callable[[Api], Any]:
    return lambda api: ListReader(partial(api.page, lang="en"), api._sleep).read(mode, 20, all_of_it)


def one_mesh(api: Api) -> Any:
    return api.mesh(mesh_id(1))


def leaving(api: Api) -> Any:
    return api.leave(mesh_id(1))


# The request.


def test_a_request_as_it_arrives(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, page()) as server:
        ask(server, listing(MeshMode.FRIENDS), "/v1/")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/v1/meshes/self")
    assert asked.query == {
        "deviceId": "secretdevice",
        "friends": "true",
        "invited": "false",
        "public": "false",
        "local": "false",
        "lang": "en",
        "limit": "20",
    }
    expected = {
        name.lower(): value for name, value in signing.headers(IDENTITY, SESSION, None, 1700000000250).items()
    }
    assert asked.headers == expected | {"host": f"localhost:{server.port}"}


def test_a_body_is_signed_as_it_is_sent(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, Reply(body={"data": [{"id": 7, "displayName": "Zoë"}, {"id": "8"}]})) as server:
        found = ask(server, lambda api: api.users([8, 7, 7]))
    assert found == {7: User(7, "Zoë"), 8: User(8, "User 8")}
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/users/list")
    assert json.loads(asked.body) == {"deviceId": "secretdevice", "ids": [7, 8], "includeOnline": True}
    assert asked.headers["content-type"] == "application/json; charset=UTF-8"
    signature = signing.request_hash("secret-key", "secrettoken", 1700000000250, len(asked.body))
    assert asked.headers["request-hash"] == signature


def test_users_are_asked_for_in_blocks_of_80(authority: Authority, naps: Naps, ask: Callable[..., Any]) -> None:
    with serving(authority, Reply(body={"data": []})) as server:
        assert ask(server, lambda api: api.users(range(1, 162))) == {}
        assert ask(server, lambda api: api.users([])) == {}
    assert [len(json.loads(asked.body)["ids"]) for asked in server.asked] == [80, 80, 1]
    assert naps.slept == [client.REQUEST_SPACING_S] * 2


async def test_a_new_session_is_used_at_once(authority: Authority, naps: Naps) -> None:
    with serving(authority, Reply(body={"data": {"id": mesh_id(1)}})) as server:
        async with opened(server, authority, naps) as api:
            await one_mesh(api)
            api.set_session(replace(SESSION, auth_token="another", ssaid="5"))
            await one_mesh(api)
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer secrettoken", "Bearer another"]
    assert server.asked[1].headers["ssaid"] == "5"


async def test_one_connection_serves_until_it_is_dropped(authority: Authority, naps: Naps) -> None:
    with serving(authority, Reply(body={"data": {"id": mesh_id(1)}})) as server:
        async with opened(server, authority, naps) as api:
            await one_mesh(api)
            await asyncio.gather(one_mesh(api), one_mesh(api))
            api.drop_idle()
            await one_mesh(api)
    first, second, third, fourth = (asked.connection for asked in server.asked)
    assert first == second == third != fourth


@pytest.mark.parametrize("base", ["http://localhost", "localhost:8443", "https://", "https://h:port", "https://[x"])
def test_no_token_travels_in_clear_text(base: str) -> None:
    with pytest.raises(RaveError) as caught:
        Api(servers=Servers(api=base, parse="", mojo=""), identity=IDENTITY, session=SESSION, tls=Tls())
    assert caught.value.code is Code.CONFIG
    assert caught.value.attributes == {"key": "servers.api"}


def test_a_bad_mesh_id_is_never_sent(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority) as server:
        assert fails(ask, server, lambda api: api.mesh("../users/self")).code is Code.INVALID_ARGUMENT
        assert fails(ask, server, lambda api: api.leave("")).code is Code.INVALID_ARGUMENT
    assert server.asked == []


def test_who_the_session_belongs_to(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, failing(500), Reply(body={"data": {"id": "900000001", "displayName": "Bot"}})) as server:
        assert fails(ask, server, lambda api: api.me()).code is Code.SERVER_ERROR
        assert ask(server, lambda api: api.me()) == 900000001
    asked = [(asked.method, asked.path, asked.query) for asked in server.asked]
    assert asked == [("GET", "/users/self", {})] * 2, "each time once"


def test_a_session_that_is_over(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, failing(401)) as server:
        error = fails(ask, server, lambda api: api.me())
    assert error.code is Code.UNAUTHORIZED
    assert error.message.startswith("checking the session failed: ")
    assert len(server.asked) == 1


# Listings.


def test_all_pages_are_read(authority: Authority, naps: Naps, ask: Callable[..., Any]) -> None:
    pages = page(1, 2, cursor="a&b=/"), page(2, 3, cursor="c", host="stranger.example.test"), page(4)
    with serving(authority, *pages) as server:
        found = ask(server, listing()).meshes
    assert [mesh.id for mesh in found] == [mesh_id(n) for n in (1, 2, 3, 4)]
    assert all(mesh.invited for mesh in found)
    assert [asked.query.get("cursor") for asked in server.asked] == [None, "a&b=/", "c"]
    assert [asked.query["invited"] for asked in server.asked] == ["true"] * 3
    assert naps.slept == [listing_module.REQUEST_SPACING_S] * 2


def test_all_means_each_source_whole_and_invitations_first(
    authority: Authority, naps: Naps, ask: Callable[..., Any]
) -> None:
    pages = page(1, cursor="x"), page(2), page(3), page(2, 4, cursor="x"), page(3, 5)
    with serving(authority, *pages) as server:
        found = ask(server, listing(MeshMode.ALL)).meshes
    assert [(mesh.id, mesh.invited) for mesh in found] == [
        (mesh_id(1), True),
        (mesh_id(2), True),
        (mesh_id(3), False),
        (mesh_id(4), False),
        (mesh_id(5), False),
    ]
    flags = [next(f for f in ("invited", "friends", "public") if a.query[f] == "true") for a in server.asked]
    assert flags == ["invited", "invited", "friends", "public", "public"]
    assert naps.slept == [listing_module.REQUEST_SPACING_S] * 4


def test_half_a_page_is_none(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, page(1, cursor="x"), CUT) as server:
        found = ask(server, listing())
    assert [mesh.id for mesh in found.meshes] == [mesh_id(1)]
    assert found.error.code is Code.NETWORK
    assert len(server.asked) == 1 + retry.ATTEMPTS


def test_a_page_cut_once_is_asked_for_again(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, page(1, cursor="x"), CUT, page(2)) as server:
        assert [mesh.id for mesh in ask(server, listing()).meshes] == [mesh_id(1), mesh_id(2)]
    assert [asked.query.get("cursor") for asked in server.asked] == [None, "x", "x"]


# Failures.


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [
        (400, Code.BAD_REQUEST, 1),
        (401, Code.UNAUTHORIZED, 1),
        (403, Code.FORBIDDEN, 1),
        (404, Code.NOT_FOUND, 1),
        (418, Code.BAD_REQUEST, 1),
        (500, Code.SERVER_ERROR, 4),
        # It concerns all bots.
        (429, Code.RATE_LIMITED, 1),
    ],
)
def test_what_may_pass_is_tried_again_when_reading(
    authority: Authority, naps: Naps, ask: Callable[..., Any], status: int, code: Code, attempts: int
) -> None:
    with serving(authority, failing(status)) as server:
        error = fails(ask, server, one_mesh)
    assert error.code is code
    assert error.attributes["status"] == status
    assert error.message.startswith(f"reading mesh {mesh_id(1)} failed: ")
    assert len(server.asked) == attempts
    assert naps.slept == [1.0, 2.0, 4.0][: attempts - 1]


def test_a_redirect_is_not_followed(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, page(1)) as elsewhere, serving(authority, Reply(302)) as server:
        server.answer = lambda _: Reply(302, headers={"Location": f"{elsewhere.url}/meshes/self"})
        assert fails(ask, server, listing()).code is Code.BAD_DATA
    assert len(server.asked) == 1
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "refusal",
    [
        failing(429, Retry_After="20"),
        Reply(200, {"error": {"code": 2015, "message": "slow down"}}, {"Retry-After": "20"}),
        Reply(400, {"error": {"code": 2015, "message": "slow down"}}, {"Retry-After": "20"}),
    ],
)
def test_the_pause_that_rave_asks_for_is_kept(
    authority: Authority, naps: Naps, ask: Callable[..., Any], refusal: Reply
) -> None:
    with serving(authority, refusal, page(1)) as server:
        assert [mesh.id for mesh in ask(server, listing()).meshes] == [mesh_id(1)]
    assert naps.slept == [pytest.approx(21.0, abs=0.5)]  # what it asks for, and our own jittered second


def test_a_pause_until_a_point_in_time_goes_by_the_clock_of_the_server(
    authority: Authority, naps: Naps, ask: Callable[..., Any]
) -> None:
    """Ours, in these tests, stands years before."""
    until = email.utils.formatdate(time.time() + 20, usegmt=True)
    with serving(authority, failing(429, Retry_After=until), page(1)) as server:
        ask(server, listing())
    assert naps.slept == [pytest.approx(21.0, abs=1.5)]


def test_too_long_a_pause_is_left_to_the_caller(authority: Authority, naps: Naps, ask: Callable[..., Any]) -> None:
    with serving(authority, failing(429, Retry_After="3600")) as server:
        error = fails(ask, server, one_mesh)
    assert error.attributes["retry_after"] == 3600
    assert len(server.asked) == 1
    assert naps.slept == []


def test_a_write_is_repeated_only_if_it_was_not_heard(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority, failing(500)) as server:
        assert fails(ask, server, lambda api: api.users([1])).code is Code.SERVER_ERROR
    assert len(server.asked) == 1
    with serving(authority, CUT) as server:
        assert fails(ask, server, lambda api: api.users([1])).code is Code.NETWORK
    assert len(server.asked) == 1
    with serving(authority, failing(429), Reply(body={"data": [1]})) as server:
        assert ask(server, lambda api: api.users([1])) == {1: User(1, "User 1")}
    assert len(server.asked) == 2


def test_a_refused_connection(authority: Authority, naps: Naps, ask: Callable[..., Any]) -> None:
    with serving(authority) as server:
        pass
    error = fails(ask, server, one_mesh)
    assert error.code is Code.NETWORK
    assert "localhost" in error.message
    assert "refused" in error.message
    assert len(naps.slept) == retry.ATTEMPTS - 1


def test_a_certificate_from_nowhere(authority: Authority, naps: Naps, run: Run) -> None:
    async def main() -> None:
        servers = Servers(api=server.url, parse="", mojo="")
        api = Api(servers=servers, identity=IDENTITY, session=SESSION, tls=Tls(), sleep=naps)
        try:
            await one_mesh(api)
        finally:
            await api.close()

    with serving(authority) as server, pytest.raises(RaveError) as caught:
        run(main())
    assert caught.value.code is Code.TLS
    assert "tls.ca_file" in caught.value.hint
    assert naps.slept == []
    assert server.asked == []


# Leaving.

INVITES = f"/meshes/{mesh_id(1)}/invites"
LEAVE = f"/meshes/{mesh_id(1)}/devices/secretdevice/leave"


@pytest.mark.parametrize("invites", [200, 204, 403, 404, 500])
@pytest.mark.parametrize("leave", [200, 204, 403, 404, 500])
def test_leaving_is_two_steps_that_do_not_depend_on_each_other(
    authority: Authority, ask: Callable[..., Any], caplog: pytest.LogCaptureFixture, invites: int, leave: int
) -> None:
    with serving(authority) as server:
        server.answer = lambda asked: Reply(invites if asked.path == INVITES else leave, b"")
        if leave in (200, 204, 404):
            assert ask(server, leaving) is None
        else:
            assert fails(ask, server, leaving).attributes["status"] == leave
    assert [(asked.method, asked.path) for asked in server.asked] == [("DELETE", INVITES), ("DELETE", LEAVE)]
    warned = [
        record for record in caplog.records if record.levelno == logging.WARNING and record.name == client.__name__
    ]
    assert len(warned) == (invites in (403, 500))


def test_leaving_is_tried_again_if_the_caller_wants_that(
    authority: Authority, ask: Callable[..., Any], naps: Naps
) -> None:
    done = Reply(204, b"")
    with serving(authority, Reply(500), done, Reply(503), Reply(503), done) as server:
        ask(server, lambda api: api.leave(mesh_id(1), may_repeat=lambda _method, error: failures.retryable(error)))
    assert [asked.path for asked in server.asked] == [INVITES] * 2 + [LEAVE] * 3
    assert len(naps.slept) == 3


def test_leaving_that_is_not_granted_is_an_error(authority: Authority, ask: Callable[..., Any]) -> None:
    with serving(authority) as server:
        server.answer = answer_leave_no
        assert fails(ask, server, leaving).code is Code.REFUSED


def answer_leave_no(asked: Asked) -> Reply:
    return Reply(body={"success": asked.path == INVITES})
