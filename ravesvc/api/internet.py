"""URLs that others name, and where they lead: a bot may reach what those who name a URL can't.

So a URL has to be https, and unless its host is that of Rave's API, it has to lead to the public internet.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from ravesvc.api import tls
from ravesvc.api.dial import Ports
from ravesvc.api.transport import HttpTransport
from ravesvc.common.translation import gettext as _
from ravesvc.config import proxy as proxies
from ravesvc.config.worker_options import Proxy, Tls
from ravesvc.errors import Code, RaveError

_MAX_URL_CHARS = 4000
# Where a network translates IPv6 addresses to the IPv4 addresses in their last 32 bits (RFC 6052), and where it does
# so as it likes (RFC 8215).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_HOST = re.compile(r"[a-z0-9][a-z0-9._-]{0,252}|[0-9a-f:.]{2,45}")


class Place(NamedTuple):
    """Where an https URL leads: `target` is path and query."""

    host: str
    port: int
    target: str


def parse(text: str) -> Place | None:
    """Where an https URL leads; None for what is none, or has a user, a space or a character that is not ASCII."""
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", 443 if url.port is None else url.port
    except ValueError:
        return None
    bounded = len(text) <= _MAX_URL_CHARS and text.isascii() and text.isprintable() and " " not in text
    if not bounded or not text.startswith("https://") or not port or "@" in url.netloc or not _HOST.fullmatch(host):
        return None
    return Place(host, port, (url.path or "/") + (f"?{url.query}" if url.query else ""))


class Internet:
    """Connections to the hosts of such URLs; `api_host` is the host of Rave's API."""

    def __init__(self, settings: Tls, proxy: Proxy | None, api_host: str, ports: Ports) -> None:
        self._tls = settings
        self._proxy = proxy
        self._api_host = api_host
        self._ports = ports

    def transport(self, place: Place, timeout: float) -> HttpTransport:
        """A connection, which a request will open, of at most `timeout` seconds each.

        Raises `RaveError` (Network) for a port that bots may not connect to. A request raises Forbidden, before
        anything is sent, where the host is none of the public internet.
        """
        host, port, _ = place
        self._ports.require(host, port, self._proxy)
        return HttpTransport(host, port, tls.context(self._tls, host), timeout, self._proxy, self._check(host, port))

    def _check(self, host: str, port: int) -> Callable[[socket.socket], None]:
        through = self._proxy is not None and not proxies.bypasses(self._proxy, host, port)
        # A proxy resolves names, and decides itself what may be reached.
        may_be_anywhere = through or host == self._api_host

        def check(connected: socket.socket) -> None:
            # The address that was reached, not one that the name had before. Nothing has been sent there yet.
            if not may_be_anywhere and not is_public(connected.getpeername()[0]):
                raise RaveError(Code.FORBIDDEN, _("{host} is not of the public internet", host=host), host=host)

        return check


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.is_site_local or found in _LOCAL_NAT64:
            return False
        found = _within(found) or found
    return found.is_global and not found.is_multicast


def _within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
