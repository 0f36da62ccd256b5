"""The mesh server that Rave names: a host and a port, whatever it says."""

from __future__ import annotations

from urllib.parse import urlsplit

from ravesvc.room.address import parse


def check(data: bytes) -> None:
    """The URL made of it leads to that host and port, and nowhere else."""
    address = parse(data.decode(errors="surrogateescape"))
    url = urlsplit(address.url("mesh", "1_device"))
    assert (url.scheme, url.hostname, url.port, url.path) == ("wss", address.host, address.port, "/")
    assert url.username is None
    assert parse(str(address)) == address
