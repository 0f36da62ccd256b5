"""Where a mesh's socket server is: from what Rave says to the URL that we open.

The text comes from the network. It may name a host and a port, and nothing else: no path or query that would change
the request, no user name or password, and no scheme without TLS.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlencode

from ravesvc.errors import Code, RaveError

_DEFAULT_PORT = 443
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_SERVER = re.compile(
    rf"(?:(?:wss|https)://)?(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or IP address (IPv6 without brackets), and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, mesh_id: str, peer_id: str) -> str:
        """The URL of a mesh's socket."""
        return f"wss://{self}/?{urlencode({'roomId': mesh_id, 'peerId': peer_id})}"


def parse(server: str) -> Address:
    """Read `host`, `host:port`, either after wss:// or https://, or a bare IPv6 address.

    Raises `RaveError` (BadData) for anything else.
    """
    if _is_ipv6(server):
        return Address(server.lower(), _DEFAULT_PORT)
    match = _SERVER.fullmatch(server) if len(server) <= 300 else None
    if match is None:
        raise _bad(server)
    host = match["host"].lower()
    port = int(match["port"] or _DEFAULT_PORT)
    if host.startswith("["):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise _bad(server)
    if len(host) > 253 or not 0 < port < 65536:
        raise _bad(server)
    return Address(host, port)


def _is_ipv6(text: str) -> bool:
    # A zone (fe80::1%eth0) names an interface of this machine, which no server may choose.
    if ":" not in text or "%" in text:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _bad(server: str) -> RaveError:
    return RaveError(Code.BAD_DATA, f"Rave names a mesh server that is no host and port: {server[:80]!r}")
