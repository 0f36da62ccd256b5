from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.room import address


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("example.test", "example.test", 443),
        ("Example.TEST", "example.test", 443),
        ("localhost", "localhost", 443),
        ("sfu_1.example-host.test:8443", "sfu_1.example-host.test", 8443),
        ("example.test:443", "example.test", 443),
        ("wss://example.test", "example.test", 443),
        ("wss://example.test:8443", "example.test", 8443),
        ("https://example.test/", "example.test", 443),
        ("HTTPS://example.test:1/", "example.test", 1),
        ("127.0.0.1:8443", "127.0.0.1", 8443),
        ("[::1]", "::1", 443),
        ("[::1]:8443", "::1", 8443),
        ("wss://[2001:DB8::1]:8443", "2001:db8::1", 8443),
        ("::1", "::1", 443),
    ],
)
def test_host_and_port(server: str, host: str, port: int) -> None:
    assert address.parse(server) == address.Address(host, port)


@pytest.mark.parametrize(
    "server",
    [
        "",
        " ",
        "example.test ",
        "example.test\n",
        "ws://example.test",
        "http://example.test",
        "ftp://example.test",
        "//example.test",
        "user@example.test",
        "user:secret@example.test",
        "wss://user:secret@example.test",
        "example.test/path",
        "example.test/?roomId=other",
        "example.test?roomId=other",
        "example.test#x",
        "example.test:8443/x",
        "example.test:",
        "example.test:0",
        "example.test:65536",
        "example.test:999999",
        "example.test:+1",
        "example.test:١",
        "example..test",
        ".example.test",
        "-example.test",
        "example.test\r\nX-Evil: 1",
        "exämple.test",
        "exa%6dple.test",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "[fe80::1%eth0]",
        "fe80::1%1",
        "[:::]",
        "1:2:3",
        "a" * 64 + ".test",
        "a." * 127 + "test",
        "a" * 100_000,
    ],
)
def test_anything_else_is_bad_data(server: str) -> None:
    with pytest.raises(RaveError) as caught:
        address.parse(server)
    assert caught.value.code is Code.BAD_DATA
    assert len(str(caught.value)) < 200


def test_the_url_holds_room_and_peer() -> None:
    url = urlsplit(address.parse("[::1]:8443").url("a b&c=d", "5_é"))
    assert (url.scheme, url.hostname, url.port, url.path) == ("wss", "::1", 8443, "/")
    assert parse_qsl(url.query, strict_parsing=True) == [("roomId", "a b&c=d"), ("peerId", "5_é")]
    assert address.parse("h").url("r", "p") == "wss://h:443/?roomId=r&peerId=p"
