"""The way to Rave through an HTTP proxy: how it is named, what it is asked, and every way in which it fails."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest

from ravesvc.api import client, dial, login, tls
from ravesvc.api.transport import HttpRequest, HttpTransport
from ravesvc.config import proxy
from ravesvc.config.worker_options import ClientIdentity, Proxy, Servers, Tls
from ravesvc.errors import Code, RaveError
from ravesvc.room.close import CloseKind
from tests.unit.addresses import GOOD, HOST, handling, name_addresses, say_nothing, swallowing
from tests.unit.api_server import serving
from tests.unit.authority import Authority
from tests.unit.connect_proxy import proxying
from tests.unit.room_server import make_room, mesh_server

Run = Callable[[Any], Any]

ASK = HttpRequest("GET", "/", {}, None)
SECRET = "hush"


def through(port: int, **other: Any) -> Proxy:
    return Proxy(host="127.0.0.1", port=port, user="bot", password=SECRET, **other)


def transport_to(port: int, authority: Authority, way: Proxy, patience: float = 15) -> HttpTransport:
    return HttpTransport(HOST, port, tls.context(Tls(ca_file=str(authority.ca_file)), HOST), patience, way)


async def failure(port: int, authority: Authority, way: Proxy) -> RaveError:
    """How both a request and a socket fail, which is the same."""
    made = transport_to(port, authority, way)
    with pytest.raises(RaveError) as requested:
        await made.send(ASK)
    made.close()
    assert requested.value.attributes["unsent"]
    room = make_room(authority, f"{HOST}:{port}", proxy=way)
    with pytest.raises(RaveError) as opened:
        await room.open()
    assert str(opened.value) == str(requested.value)
    # The server has refused nothing: that would have consequences for the mesh.
    assert "status" not in opened.value.attributes
    assert room.closed
    assert room.closed.kind is CloseKind.LOST
    assert SECRET not in f"{opened.value!r}{opened.value}{opened.value.attributes}{opened.value.__cause__!r}"
    assert opened.value.attributes["proxy"] == f"{way.host}:{way.port}"
    return requested.value


# How it is named.


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("http://proxy.lan:3128", Proxy(host="proxy.lan", port=3128)),
        ("HTTP://Proxy.Lan:3128/", Proxy(host="proxy.lan", port=3128)),
        ("proxy.lan:3128", Proxy(host="proxy.lan", port=3128)),
        ("http://proxy.lan", Proxy(host="proxy.lan", port=80)),
        ("http://[2001:db8::1]:3128", Proxy(host="2001:db8::1", port=3128)),
        ("http://u:p%40ss%3A@proxy.lan:1", Proxy(host="proxy.lan", port=1, user="u", password="p@ss:")),
        ("http://u@proxy.lan:1", Proxy(host="proxy.lan", port=1, user="u")),
    ],
)
def test_a_proxy_is_named_by_a_url(text: str, parsed: Proxy) -> None:
    assert proxy.parse(text) == parsed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"socks5://u:{SECRET}@proxy.lan:1080", "socks5 proxies are not supported"),
        (f"socks5h://u:{SECRET}@proxy.lan", "socks5h proxies are not supported"),
        (f"https://u:{SECRET}@proxy.lan:443", "https proxies are not supported"),
        (f"{SECRET} x://proxy.lan", proxy.WANTED),
        (f"{SECRET}+x://proxy.lan", "such proxies are not supported"),
        ("", proxy.WANTED),
        ("http://", proxy.WANTED),
        ("http://:3128", proxy.WANTED),
        (f"http://u:{SECRET}@proxy.lan:99999", proxy.WANTED),
        (f"http://u:{SECRET}@proxy.lan:0", proxy.WANTED),
        (f"http://u:{SECRET}@[proxy.lan:80", proxy.WANTED),
        (f"http://u:{SECRET}@proxy.lan:80/path", proxy.WANTED),
        (f"http://u:{SECRET}@proxy.lan:80?x", proxy.WANTED),
        (f"http://u:{SECRET}\u00e9@proxy.lan:80", proxy.WANTED),
        (f"http://u:{SECRET}\r\n@proxy.lan:80", proxy.WANTED),
        (f"http://u:{SECRET}@proxy lan:80", proxy.WANTED),
        (f"http://u:{SECRET}@{'x' * 1000}:80", proxy.WANTED),
    ],
)
def test_one_that_cannot_be_used_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^must be ") as caught:
        proxy.parse(text)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"HTTPS_PROXY": " "}, None),
        ({"HTTP_PROXY": "http://other:1"}, None),
        ({"HTTPS_PROXY": "http://a:1"}, Proxy(host="a", port=1)),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "b:2"}, Proxy(host="b", port=2)),
        (
            {"https_proxy": "http://a:1", "NO_PROXY": "localhost, .example.org ,10.0.0.0/8"},
            Proxy(host="a", port=1, bypass=("localhost", ".example.org", "10.0.0.0/8")),
        ),
        ({"https_proxy": "http://a:1", "NO_PROXY": "x", "no_proxy": "y"}, Proxy(host="a", port=1, bypass=("y",))),
    ],
)
def test_the_environment_names_one(environment: dict[str, str], found: Proxy | None) -> None:
    assert proxy.from_environment(environment) == found


def test_the_environment_names_one_that_cannot_be_used() -> None:
    with pytest.raises(RaveError) as caught:
        proxy.from_environment({"HTTPS_PROXY": f"socks5://u:{SECRET}@a:1"})
    assert caught.value.code is Code.CONFIG
    assert "HTTPS_PROXY must be an HTTP proxy" in caught.value.message
    assert SECRET not in str(caught.value)


def test_user_and_password_are_in_no_repr() -> None:
    assert SECRET not in repr(through(1))
    assert "bot" not in repr(through(1))


@pytest.mark.parametrize(
    ("entry", "host", "bypassed"),
    [
        ("*", "api.example.org", True),
        ("example.org", "example.org", True),
        ("example.org", "API.Example.Org.", True),
        (".example.org", "api.example.org", True),
        ("*.example.org", "api.example.org", True),
        ("EXAMPLE.org", "example.org", True),
        ("example.org", "badexample.org", False),
        ("example.org:443", "example.org", True),
        ("example.org:8443", "example.org", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.1/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "ten.example.org", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("[::1]:443", "::1", True),
        ("2001:db8::/32", "2001:db8::5", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.11", False),
        (".", "example.org", False),
        (":443", "example.org", False),
    ],
)
def test_what_is_reached_without_it(entry: str, host: str, *, bypassed: bool) -> None:
    assert proxy.bypasses(through(1, bypass=("other.test", entry)), host, 443) is bypassed


# What it is asked.


def test_requests_and_sockets_go_through_it_and_nothing_goes_direct(run: Run, authority: Authority) -> None:
    async def admit(guest: Any) -> None:
        await guest.admit()
        await guest.hold()

    async def body() -> None:
        async with mesh_server(authority, admit) as rooms:
            made = transport_to(server.port, authority, through(front.port))
            assert (await made.send(ASK)).status == 200
            assert (await made.send(ASK)).status == 200
            made.close()
            room = make_room(authority, rooms, proxy=through(front.port))
            await room.open()
            await room.close()
            targets = [f"{HOST}:{server.port}", f"{HOST}:{rooms.port}"]
            assert [request.split()[1] for request in front.asked] == targets
            return targets

    with serving(authority) as server, proxying() as front:
        run(body())
    for request in front.asked:
        lines = request.split("\r\n")
        target = lines[0].split()[1]
        credentials = base64.b64encode(f"bot:{SECRET}".encode()).decode()
        assert lines == [
            f"CONNECT {target} HTTP/1.1",
            f"Host: {target}",
            f"Proxy-Authorization: Basic {credentials}",
            "",
            "",
        ]


async def test_the_proxy_resolves_the_name(authority: Authority) -> None:
    """A host behind a proxy often can't: the only name that it has to know is the proxy's."""

    with serving(authority) as server, proxying() as front:
        context = tls.context(Tls(insecure_hosts=("api.invalid",)), "api.invalid")
        made = HttpTransport("api.invalid", server.port, context, 15, through(front.port))
        assert (await made.send(ASK)).status == 200
        made.close()
    assert [request.split()[1] for request in front.asked] == [f"api.invalid:{server.port}"]


def test_what_needs_no_user_names_none() -> None:
    asked = proxy.connect_request(Proxy(host="p", port=1), "::1", 443)
    assert asked == b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"
    assert b"CONNECT xn--bcher-kva.test:443 " in proxy.connect_request(Proxy(host="p", port=1), "bücher.test", 443)


async def test_a_host_that_is_reached_without_it(authority: Authority) -> None:
    with serving(authority) as server, proxying() as front:
        made = transport_to(server.port, authority, through(front.port, bypass=(HOST,)))
        assert (await made.send(ASK)).status == 200
        made.close()
    assert front.asked == []


async def test_an_address_of_the_proxy_that_swallows_packets(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(authority) as server, proxying() as front, swallowing("127.0.0.2", front.port):
        name_addresses(monkeypatch, "127.0.0.2", GOOD)
        way = Proxy(host=HOST, port=front.port)
        made = HttpTransport(
            "127.0.0.1", server.port, tls.context(Tls(ca_file=str(authority.ca_file)), GOOD), 15, way
        )
        begun = time.monotonic()
        assert (await made.send(ASK)).status == 200
        assert time.monotonic() - begun < 5
        made.close()


# Ways to fail.


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants to know who we are (HTTP status 407)"),
        (
            b"HTTP/1.0 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            "does not let us connect to localhost:443 (HTTP status 403)",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "can't reach localhost:443 (HTTP status 502)"),
        (b"HTTP/1.1 301 Elsewhere\r\n\r\n", "does not let us connect to localhost:443 (HTTP status 301)"),
        (b"HTTP/1.1 403 Forbidden\r\n", "does not let us connect to localhost:443"),
        (b"SSH-2.0-x\r\n\r\n", "does not answer as an HTTP proxy does"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not answer as an HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n\r\nsomething", "does not answer as an HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n", "does not answer as an HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "does not answer as an HTTP proxy does"),
        (b"x" * 1_000_000, "does not answer as an HTTP proxy does"),
        (b"", "can't be reached: it closed the connection"),
    ],
)
async def test_what_it_answers_instead_of_a_connection(authority: Authority, answer: bytes, words: str) -> None:
    with proxying(answer) as front:
        error = await failure(443, authority, through(front.port))
    assert error.code is Code.NETWORK
    assert error.message.startswith(f"the proxy 127.0.0.1:{front.port} {words}")


async def test_one_that_does_not_run(authority: Authority) -> None:
    with proxying() as front:
        pass
    error = await failure(443, authority, through(front.port))
    assert error.message == f"the proxy 127.0.0.1:{front.port} can't be reached: Connection refused"


async def test_its_name_does_not_exist(authority: Authority) -> None:
    error = await failure(443, authority, Proxy(host="none.invalid", port=3128))
    assert error.message.startswith("the proxy none.invalid:3128 can't be reached: ")


@pytest.mark.slow
async def test_one_that_hangs_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "PROXY_TIMEOUT_S", 0.3)
    with proxying() as free:
        port = free.port
    with handling("127.0.0.1", port, say_nothing):
        error = await failure(443, authority, through(port))
    assert error.code is Code.TIMEOUT
    assert error.message == f"the proxy 127.0.0.1:{port} did not answer within 0.3 s"


def test_the_time_that_it_has_ends_before_that_of_a_request() -> None:
    assert min(client.REQUEST_TIMEOUT_S, login.REQUEST_TIMEOUT_S) > dial.PROXY_TIMEOUT_S


async def test_a_login_goes_through_it_too(authority: Authority) -> None:
    with serving(authority) as server, proxying() as front:
        base = f"https://{HOST}:{server.port}"
        with pytest.raises(RaveError):
            await login.log_in(
                email="bot@example.test",
                device_id="d",
                ssaid="s",
                servers=Servers(api=base, parse=base, mojo=base),
                identity=ClientIdentity(**dict.fromkeys(ClientIdentity.__slots__, "k")),
                tls=Tls(ca_file=str(authority.ca_file)),
                proxy=through(front.port),
                lang="en",
                progress=lambda _step, _seconds: None,
            )
    assert len(server.asked) == len(front.asked) == 1
