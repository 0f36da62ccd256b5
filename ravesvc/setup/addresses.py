"""Which addresses bots reach: IPAddressDeny= and IPAddressAllow= of rave-mesh.slice, in which all bots are. Pure.

What listens on loopback or in the local network often trusts every client that reaches it, and a bot that was taken
over is on this side of the firewall. Rave is in the public internet, so that a bot needs nothing near but its name
servers, the proxy, and what the operator lists. What is allowed goes before what is denied.
"""

from __future__ import annotations

import ipaddress

from ravesvc.config.options import Config
from ravesvc.config.worker_options import DEFAULT_API

# Loopback, link-local, broadcast and multicast.
_NEVER = ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "255.255.255.255/32", "224.0.0.0/4", "ff00::/8")
# Private networks, that of carriers (RFC 6598) included.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
_LOCALHOST = ("127.0.0.1", "::1")
# resolv.conf(5): what is asked when it names none.
_DEFAULT_NAME_SERVER = "127.0.0.1"


def denied(settings: Config) -> list[str]:
    """Networks that no bot reaches, but for what is in `allowed`.

    A proxy or a server of the operator's own that has a name may be anywhere in the private networks, and elsewhere
    tomorrow: those are open then.
    """
    named = [host for host in _hosts(settings) if not _literal(host)]
    return [*_NEVER, *(() if named else _PRIVATE)]


def allowed(settings: Config) -> list[str]:
    """Addresses and networks that bots reach all the same, by rave.yaml."""
    literals = (address for host in _hosts(settings) for address in _literal(host))
    return list(dict.fromkeys([*literals, *settings.allow_addresses]))


def name_servers(resolv_conf: str) -> list[str]:
    """The addresses of the name servers in the text of resolv.conf."""
    lines = (line.split() for line in resolv_conf.splitlines())
    named = [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
    found = [address for text in named for address in _literal(text)]
    return found or [_DEFAULT_NAME_SERVER]


def listed(text: str) -> list[str]:
    """The addresses and networks in a text that has one a line; a line that is neither counts for nothing."""
    return [network for line in text.splitlines() for network in _network(line)]


def _hosts(settings: Config) -> list[str]:
    """Whom bots connect to, as far as that is not Rave."""
    own = settings.servers.api != DEFAULT_API
    return [host for host in (own and settings.servers.api_host, settings.proxy and settings.proxy.host) if host]


def _network(text: str) -> list[str]:
    try:
        return [str(ipaddress.ip_network(text.strip()))]
    except ValueError:
        return []


def _literal(host: str) -> list[str]:
    """The addresses that a text stands for without being looked up, less the interface of one; none for a name."""
    if host == "localhost":
        return list(_LOCALHOST)
    try:
        return [str(ipaddress.ip_address(host.partition("%")[0]))]
    except ValueError:
        return []
