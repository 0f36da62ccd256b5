"""Sending a picture to where Rave says: a store of files that is not Rave's own, by a URL that allows just that.

The URL comes from a server, and a bot may reach what the server can't: so it has to be https, and unless the host is
that of Rave's API, it has to be one of the public internet. It is a secret: it alone gives the right to write there.
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
from ravesvc.api.transport import HttpRequest, HttpTransport
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.picture import Picture
from ravesvc.config import proxy as proxies
from ravesvc.config.worker_options import Proxy, Tls
from ravesvc.errors import Code, RaveError

# Seconds for the whole picture.
UPLOAD_TIMEOUT_S = 30.0
_MAX_URL_CHARS = 4000
# Where a network translates IPv6 addresses to the IPv4 addresses in their last 32 bits (RFC 6052), and where it does
# so as it likes (RFC 8215).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_HOST = re.compile(r"[a-z0-9][a-z0-9._-]{0,252}|[0-9a-f:.]{2,45}")


class Place(NamedTuple):
    """Where a picture goes: host, port and `target` (path and query) of that URL, and the URL where others see it."""

    host: str
    port: int
    target: str
    posting_url: str


def place(answer: Object) -> Place:
    """What Rave's answer to the wish to send one picture says; raises `RaveError` (BadData), which quotes no URL."""
    entries = json_fields.get_list(answer, "data")
    entry = json_fields.as_object(entries[0] if entries else None, "the place for the picture")
    # Others see it wherever it is: only what we reach ourselves is a matter of trust.
    _url(entry, "postingUrl")
    return Place(*_url(entry, "uploadUrl"), json_fields.get_str(entry, "postingUrl"))


class Uploads:
    """Sends pictures; `api_host` is the host of Rave's API."""

    def __init__(self, settings: Tls, proxy: Proxy | None, api_host: str, ports: Ports) -> None:
        self._tls = settings
        self._proxy = proxy
        self._api_host = api_host
        self._ports = ports

    async def send(self, where: Place, picture: Picture) -> None:
        """Send it, once. Raises `RaveError`: Forbidden, TooLarge, Refused, ServerError; see `HttpTransport.send`."""
        self._ports.require(where.host, where.port, self._proxy)
        context = tls.context(self._tls, where.host)
        check = self._check(where)
        transport = HttpTransport(where.host, where.port, context, UPLOAD_TIMEOUT_S, self._proxy, check)
        # None of Rave's own headers: it is another's server, and the URL says all that it has to know.
        headers = {"Content-Type": picture.mime, "Content-Length": str(picture.size)}
        try:
            answer = await transport.send(HttpRequest("PUT", where.target, headers, picture.chunks()))
        finally:
            transport.close()
        if not 200 <= answer.status < 300:
            raise _refusal(where.host, answer.status)

    def _check(self, where: Place) -> Callable[[socket.socket], None]:
        through = self._proxy is not None and not proxies.bypasses(self._proxy, where.host, where.port)
        # A proxy resolves names, and decides itself what may be reached.
        return _allow_any if through or where.host == self._api_host else _require_public


def _allow_any(_connected: socket.socket) -> None:
    """It may be anywhere."""


def _require_public(connected: socket.socket) -> None:
    """The address that was reached, not one that the name had before. Nothing has been sent there yet."""
    if not is_public(connected.getpeername()[0]):
        text = "Rave wants the picture at an address that is not of the public internet"
        raise RaveError(Code.BAD_DATA, text)


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


def _url(entry: Object, key: str) -> tuple[str, int, str]:
    """Host, port and target of an https URL."""
    text = json_fields.get_str(entry, key)
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", 443 if url.port is None else url.port
    except ValueError:
        host, port = "", 0
    bounded = len(text) <= _MAX_URL_CHARS and text.isascii() and text.isprintable() and " " not in text
    if not bounded or not text.startswith("https://") or not port or "@" in url.netloc or not _HOST.fullmatch(host):
        raise RaveError(Code.BAD_DATA, f"{key} is no https URL that can be used", key=key)
    return host, port, (url.path or "/") + (f"?{url.query}" if url.query else "")


def _refusal(host: str, status: int) -> RaveError:
    """What an answer of the store means; its words, which may quote the URL, are left out."""
    if status == 413:
        code, words = Code.TOO_LARGE, "finds it too large"
    elif status in (401, 403):
        code, words = Code.FORBIDDEN, "does not let the bot store it"
    elif status >= 500:
        code, words = Code.SERVER_ERROR, "has a problem"
    elif status >= 400:
        code, words = Code.REFUSED, "does not take it"
    else:
        code, words = Code.BAD_DATA, "wants to redirect us, which is not followed"
    return RaveError(code, f"{host} {words} (HTTP {status})", status=status, host=host)
