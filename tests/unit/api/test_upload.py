"""Pictures on their way to where Rave says, against real HTTPS servers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api import upload
from ravesvc.api.client import Api
from ravesvc.api.dial import Ports
from ravesvc.api.internet import Internet
from ravesvc.api.room_api import HttpRoomApi
from ravesvc.api.upload import Uploads, place
from ravesvc.common.picture import Media, Picture
from ravesvc.config.worker_options import ClientIdentity, Proxy, Servers, Tls, UnconfirmedCalls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, serving
from tests.unit.authority import Authority
from tests.unit.common.test_picture import PNG
from tests.unit.connect_proxy import proxying

pytestmark = pytest.mark.slow

MESH = "11111111-2222-4333-8444-555555555555"
ASKED = f"/meshes/{MESH}/images/upload"
SEEN = "https://pictures.example/seen/1.png"

Run = Callable[[Any], Any]


def answer(upload_url: object, posting_url: object = SEEN) -> Reply:
    entry = {"index": 0, "mime": "image/png", "fileName": "1.png", "uploadUrl": upload_url, "postingUrl": posting_url}
    return Reply(body={"data": [entry]})


class Site:
    """Rave and a store of pictures in one server, and a bot that sends a picture there.

    `url` is where Rave has pictures sent, and `stored` what the store answers.
    """

    def __init__(self, server: Server, authority: Authority, run: Run) -> None:
        self.server = server
        self.url = f"{server.url}/store/1?signature=secret%2Fsignature"
        self.stored = Reply(body=b"")
        self.api_host = "localhost"
        self.proxy: Proxy | None = None
        self.ports: tuple[int, ...] = (443, server.port)
        self._tls = Tls(ca_file=str(authority.ca_file))
        self._run = run

    def answer(self, asked: Asked) -> Reply:
        if asked.path == ASKED:
            return answer(self.url)
        return self.stored if asked.path == "/store/1" else Reply(404)

    def send(self, source: bytes | int = PNG) -> Media:
        async def main() -> Any:
            api = Api(
                servers=Servers(api=self.server.url, parse="", mojo=""),
                identity=ClientIdentity(request_hash_key="k", user_agent="u", client_version="1"),
                session=Session(device_id="d", ssaid="s", user_id=1, auth_token="secrettoken"),
                tls=self._tls,
                proxy=self.proxy,
            )
            hosts = Internet(self._tls, self.proxy, self.api_host, Ports(self.ports, "read it again"))
            with Picture(source) as picture:
                try:
                    return await HttpRoomApi(api, MESH, UnconfirmedCalls(), Uploads(hosts)).upload(picture)
                finally:
                    await api.close()

        sent: Media = self._run(main())
        return sent

    def fails(self, source: bytes | int = PNG) -> RaveError:
        with pytest.raises(RaveError) as caught:
            self.send(source)
        assert (
            "secret" not in f"{caught.value!r} {caught.value} {caught.value.attributes} {caught.value.__context__!r}"
        )
        return caught.value


@pytest.fixture
def site(authority: Authority, run: Run) -> Iterator[Site]:
    with serving(authority) as server:
        made = Site(server, authority, run)
        server.answer = made.answer
        yield made


def test_a_picture_as_it_is_sent(site: Site) -> None:
    assert site.send() == Media(SEEN, "image/png", "0.56")
    asked, put = site.server.asked
    assert asked.body == b'{"media": [{"index": 0, "mime": "image/png", "isExplicit": false}]}'
    assert (put.method, put.path, put.query) == ("PUT", "/store/1", {"signature": "secret/signature"})
    assert put.body == PNG
    assert put.headers == {
        "host": f"localhost:{site.server.port}",
        "accept-encoding": "identity",
        "content-type": "image/png",
        "content-length": str(len(PNG)),
    }


def test_no_picture_goes_to_a_port_that_bots_may_not_connect_to(site: Site) -> None:
    site.ports = (443, 8443)
    error = site.fails()
    assert error.message.endswith(f"localhost:{site.server.port}: bots connect to the ports 443, 8443 alone")
    assert error.hint == f"add {site.server.port} to connect_ports in rave.yaml, then read it again"
    assert len(site.server.asked) == 1, "the store was not"


def test_a_file_is_sent_in_parts(site: Site) -> None:
    contents = PNG + os.urandom(300_000)
    descriptor = os.memfd_create("picture")
    os.write(descriptor, contents)
    site.send(descriptor)
    assert site.server.asked[1].body == contents


def test_a_store_that_says_created(site: Site) -> None:
    site.stored = Reply(201, b"<xml/>")
    assert site.send().url == SEEN


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (Reply(403, b"<Error><Code>SignatureDoesNotMatch secret</Code></Error>"), Code.FORBIDDEN, "does not let"),
        (Reply(401), Code.FORBIDDEN, "does not let the bot store it (HTTP 401)"),
        (Reply(413), Code.TOO_LARGE, "finds it too large (HTTP 413)"),
        (Reply(404), Code.REFUSED, "does not take it (HTTP 404)"),
        (Reply(500), Code.SERVER_ERROR, "has a problem (HTTP 500)"),
        (Reply(503, headers={"Retry-After": "1"}), Code.SERVER_ERROR, "has a problem (HTTP 503)"),
        (Reply(307, headers={"Location": "https://localhost/other"}), Code.BAD_DATA, "wants to redirect us"),
    ],
)
def test_what_the_store_refuses_is_told_and_tried_once(site: Site, reply: Reply, code: Code, words: str) -> None:
    site.stored = reply
    error = site.fails()
    assert error.code is code
    assert error.message.startswith(f"sending a picture failed: localhost {words}")
    assert (error.attributes["status"], error.attributes["host"]) == (reply.status, "localhost")
    assert [asked.method for asked in site.server.asked] == ["POST", "PUT"]


def test_a_store_that_cuts_the_connection(site: Site) -> None:
    site.stored = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    error = site.fails()
    assert (error.code, error.message) == (
        Code.NETWORK,
        "sending a picture failed: localhost can't be reached: the connection was cut",
    )


def test_a_store_that_hangs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "UPLOAD_TIMEOUT_S", 0.3)
    over = threading.Event()

    def hang(asked: Asked) -> Reply:
        if asked.method == "PUT":
            over.wait()
        return site.answer(asked)

    site.server.answer = hang
    error = site.fails()
    over.set()
    assert (error.code, error.message) == (
        Code.TIMEOUT,
        "sending a picture failed: localhost did not answer in time",
    )


def test_a_picture_that_gets_shorter_while_it_is_sent(site: Site) -> None:
    descriptor = os.memfd_create("picture")
    os.write(descriptor, PNG + bytes(300_000))

    def shorten(asked: Asked) -> Reply:
        os.ftruncate(descriptor, 1000)
        return site.answer(asked)

    site.server.answer = shorten
    error = site.fails(descriptor)
    assert (error.code, error.message) == (
        Code.BAD_DATA,
        "sending a picture failed: the picture was cut short while it was sent",
    )


def test_rave_may_refuse_pictures(site: Site) -> None:
    site.server.answer = lambda _: Reply(403, {"error": {"code": 1, "message": "no"}})
    error = site.fails()
    assert error.message == "sending a picture failed: Rave does not let the bot show pictures in this room"
    assert len(site.server.asked) == 1


# Where a server may have a picture sent.


def test_a_host_of_ours_that_is_not_raves_gets_nothing(site: Site) -> None:
    site.api_host = "api.example"
    error = site.fails()
    assert (error.code, error.message) == (
        Code.FORBIDDEN,
        "sending a picture failed: localhost is not of the public internet",
    )
    assert [asked.method for asked in site.server.asked] == ["POST"], "the store has been asked for nothing"


def test_behind_a_proxy_the_proxy_decides_what_can_be_reached(site: Site) -> None:
    site.api_host = "api.example"
    with proxying() as proxy:
        site.proxy = Proxy(host="127.0.0.1", port=proxy.port)
        everywhere, site.ports = site.ports, (proxy.port,)
        assert site.send().url == SEEN
        site.proxy = Proxy(host="127.0.0.1", port=proxy.port, bypass=("localhost",))
        assert site.fails().code is Code.NETWORK
        site.ports = everywhere
        assert site.fails().code is Code.FORBIDDEN


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "http://store.example/1",
        "HTTPS://store.example/1",
        "ftp://store.example/1",
        "https:///1",
        "https://user@store.example/1",
        "https://user:secret@store.example/1",
        "https://@store.example/1",
        "https://store.example:0/1",
        "https://store.example:99999/1",
        "https://store.example:x/1",
        "https://[::1/1",
        "https://[fe80::1%25eth0]/1",
        "https://store_.example$/1",
        "https://-store.example/1",
        "https://store.example/1\r\nX: y",
        "https://store.example/1 2",
        "https://störe.example/1",
        "https://store.example/" + "x" * 4000,
    ],
)
def test_urls_that_are_not_used(url: object) -> None:
    for key, other in (("uploadUrl", "postingUrl"), ("postingUrl", "uploadUrl")):
        with pytest.raises(RaveError) as caught:
            place({"data": [{key: url, other: SEEN}]})
        assert caught.value.code is Code.BAD_DATA
        assert key in caught.value.message
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://store.example", ("store.example", 443, "/")),
        ("https://Store.Example:8443/a%20b?X=1&y=%2F#top", ("store.example", 8443, "/a%20b?X=1&y=%2F")),
        ("https://[2606:2800::1]/1", ("2606:2800::1", 443, "/1")),
        ("https://10.1.2.3/1", ("10.1.2.3", 443, "/1")),
    ],
)
def test_urls_that_are(url: str, found: tuple[str, int, str]) -> None:
    assert place({"data": [{"uploadUrl": url, "postingUrl": SEEN}, "more"]}) == (found, SEEN)


@pytest.mark.parametrize("data", [None, {}, [], [7], [{}], "x"])
def test_an_answer_that_names_no_place(data: object) -> None:
    with pytest.raises(RaveError) as caught:
        place({"data": data})
    assert caught.value.code is Code.BAD_DATA


@given(st.text(), st.text())
def test_any_url_is_used_or_refused(before: str, after: str) -> None:
    for url in (before, f"https://{before}", f"https://{before}@{after}", f"https://store.example/{after}"):
        try:
            (host, port, target), _ = place({"data": [{"uploadUrl": url, "postingUrl": SEEN}]})
        except RaveError:
            continue
        assert 0 < port < 65536
        assert "@" not in host
        assert target.startswith("/")
        assert f"{host}{target}".isascii()
        assert f"{host}{target}".isprintable()
