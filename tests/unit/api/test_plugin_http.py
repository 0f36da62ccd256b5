"""What plugins ask of other servers, against a real HTTPS server."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ravesvc.api.dial import Ports
from ravesvc.api.internet import Internet
from ravesvc.api.plugin_http import PluginHttp
from ravesvc.api.web_response import WebResponse
from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, serving
from tests.unit.authority import Authority
from tests.unit.conftest import until

pytestmark = pytest.mark.slow

Ask = Callable[[PluginHttp], Coroutine[Any, Any, Any]]


class Site:
    """A server with pages, and plugins that ask for them. To a bot, the host of Rave's API may be anywhere."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self.server = server
        self.url = server.url
        self.pages: dict[str, Reply] = {}
        self.api_host = "localhost"
        self.ports: tuple[int, ...] = (443, server.port)
        self.now = 1000.0
        self._tls = Tls(ca_file=str(authority.ca_file))

    def answer(self, asked: Asked) -> Reply:
        return self.pages.get(asked.path, Reply(404))

    def do(self, *asks: Ask) -> list[Any]:
        async def main() -> list[Any]:
            hosts = Internet(self._tls, None, self.api_host, Ports(self.ports, "read it again"))
            http = PluginHttp(hosts, lambda: self.now)
            return await asyncio.gather(*(ask(http) for ask in asks))

        return asyncio.run(main())

    def get(self, path: str, **options: Any) -> WebResponse:
        (found,) = self.do(lambda http: http.get(self.url + path, **options))
        assert isinstance(found, WebResponse)
        return found

    def fails(self, ask: Ask) -> RaveError:
        with pytest.raises(RaveError) as caught:
            self.do(ask)
        assert "secret" not in f"{caught.value!r} {caught.value} {caught.value.attributes}"
        return caught.value


@pytest.fixture
def site(authority: Authority) -> Iterator[Site]:
    with serving(authority) as server:
        made = Site(server, authority)
        server.answer = made.answer
        yield made


def test_a_page_is_got(site: Site) -> None:
    site.pages["/facts"] = Reply(body={"fact": "ä"})
    found = site.get("/facts?about=cats", headers={"Authorization": "Bearer x"})
    assert (found.status, found.ok, found.json()) == (200, True, {"fact": "ä"})
    (asked,) = site.server.asked
    assert (asked.method, asked.query, asked.headers["authorization"]) == ("GET", {"about": "cats"}, "Bearer x")
    assert asked.headers["user-agent"].startswith("ravesvc/")


def test_a_page_is_decompressed(site: Site) -> None:
    site.pages["/facts"] = Reply(body=gzip.compress("größer".encode()), headers={"Content-Encoding": "gzip"})
    assert site.get("/facts").text == "größer"


def test_json_is_posted(site: Site) -> None:
    site.pages["/ask"] = Reply(201, {"answer": 42})
    (found,) = site.do(lambda http: http.post(f"{site.url}/ask", json={"question": "ä?"}))
    assert (found.status, found.ok, found.json()) == (201, True, {"answer": 42})
    (asked,) = site.server.asked
    assert (asked.method, json.loads(asked.body)) == ("POST", {"question": "ä?"})
    assert asked.headers["content-type"] == "application/json"


def test_an_answer_of_failure_is_an_answer(site: Site) -> None:
    found = site.get("/none")
    assert (found.status, found.ok) == (404, False)
    with pytest.raises(RaveError, match="no JSON"):
        WebResponse(200, b"<html>").json()
    with pytest.raises(RaveError, match="no JSON"):
        WebResponse(200, b"[" * 100_000).json()


def test_redirects_are_followed(site: Site) -> None:
    site.pages |= {"/a": Reply(302, headers={"Location": "b"}), "/b": Reply(body={"b": 1})}
    assert site.get("/a", headers={"Authorization": "Bearer x"}).json() == {"b": 1}
    assert [asked.headers.get("authorization") for asked in site.server.asked] == ["Bearer x", "Bearer x"]


def test_another_server_does_not_see_the_headers(site: Site, authority: Authority) -> None:
    with serving(authority) as other:
        other.answer = lambda _: Reply(body={"b": 1})
        site.ports += (other.port,)
        site.pages["/a"] = Reply(302, headers={"Location": f"{other.url}/b"})
        assert site.get("/a", headers={"Authorization": "Bearer x"}).json() == {"b": 1}
        (asked,) = other.asked
        assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("location", "code", "words"),
    [
        ("/a", Code.BAD_DATA, "localhost redirects us more than 3 times"),
        ("http://localhost/b", Code.BAD_DATA, "no https URL"),
        ("file:///etc/passwd", Code.BAD_DATA, "no https URL"),
        ("https://[", Code.BAD_DATA, "no https URL"),
        ("https://localhost:1/secret", Code.NETWORK, "can't connect to localhost:1: bots connect to"),
        ("https://127.0.0.1:{port}/", Code.FORBIDDEN, "127.0.0.1 is not of the public internet"),
    ],
)
def test_redirects_that_are_not_followed(site: Site, location: str, code: Code, words: str) -> None:
    site.pages["/a"] = Reply(302, headers={"Location": location.format(port=site.server.port)})
    error = site.fails(lambda http: http.get(f"{site.url}/a"))
    assert (error.code, words in error.message) == (code, True), error.message


def test_no_redirect_of_a_post_is_followed(site: Site) -> None:
    site.pages["/a"] = Reply(302, headers={"Location": "/b"})
    (found,) = site.do(lambda http: http.post(f"{site.url}/a", json=None))
    assert found.status == 302
    assert len(site.server.asked) == 1


def test_a_host_that_is_not_public_hears_nothing(site: Site) -> None:
    site.api_host = "api.example"
    error = site.fails(lambda http: http.get(f"{site.url}/secret"))
    assert (error.code, error.message) == (Code.FORBIDDEN, "localhost is not of the public internet")
    assert site.server.asked == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda http: http.get("http://example.org/secret"),
        lambda http: http.get("https://user:secret@example.org/"),
        lambda http: http.get(7),
        lambda http: http.get("https://example.org/", headers={"X": "secret\r\nY: 1"}),
        lambda http: http.get("https://example.org/", headers={"X ": "secret"}),
        lambda http: http.get("https://example.org/", headers={"Host": "secret"}),
        lambda http: http.get("https://example.org/", headers={"X": 7}),
        lambda http: http.get("https://example.org/", headers={f"X-{n}": "secret" for n in range(33)}),
        lambda http: http.get("https://example.org/", timeout=0),
        lambda http: http.get("https://example.org/", timeout=61),
        lambda http: http.get("https://example.org/", timeout=float("nan")),
        lambda http: http.post("https://example.org/", json=float("nan")),
        lambda http: http.post("https://example.org/", json=object()),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(site: Site, ask: Ask) -> None:
    assert site.fails(ask).code is Code.INVALID_ARGUMENT


def test_there_are_limits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    too_large = site.fails(lambda http: http.post(f"{site.url}/a", json="x" * (256 << 10)))
    assert (too_large.code, too_large.message) == (Code.TOO_LARGE, "a request has at most 256 KiB")
    site.pages["/a"] = Reply(body=b"x" * ((1 << 20) + 1))
    too_long = site.fails(lambda http: http.get(f"{site.url}/a"))
    assert (too_long.code, too_long.message) == (Code.BAD_DATA, "the answer is longer than 1024 KiB")
    site.pages["/a"] = Reply(body=b"x" * (1 << 20))
    assert len(site.get("/a").body) == 1 << 20


def test_an_author_who_asks_without_an_end_is_told(site: Site) -> None:
    async def many(http: PluginHttp) -> None:
        for _ in range(20):
            await http.get(f"{site.url}/none")
        with pytest.raises(RaveError, match=r"asked other servers too often \(try again in 1 s\)"):
            await http.get(f"{site.url}/none")
        site.now += 1
        await http.get(f"{site.url}/none")

    site.do(many)
    assert len(site.server.asked) == 21


def test_four_requests_run_at_once_and_the_others_wait(site: Site) -> None:
    site.server.hang()

    async def six(http: PluginHttp) -> None:
        tasks = [asyncio.create_task(http.get(f"{site.url}/none")) for _ in range(4)]
        await until(lambda: len(site.server.open) == 4)
        with pytest.raises(RaveError, match="did not answer in time"):
            await http.get(f"{site.url}/none", timeout=0.1)
        assert len(site.server.open) == 4, "the fifth has not begun"
        tasks.append(asyncio.create_task(http.get(f"{site.url}/none")))
        site.server.release()
        assert {each.status for each in await asyncio.gather(*tasks)} == {404}

    site.do(six)
    assert len(site.server.asked) == 5


def test_a_server_that_hangs_is_given_up(site: Site) -> None:
    site.server.hang()
    error = site.fails(lambda http: http.get(f"{site.url}/secret", timeout=0.2))
    assert (error.code, error.message) == (Code.TIMEOUT, "localhost did not answer in time")
