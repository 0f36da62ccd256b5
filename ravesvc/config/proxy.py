"""The HTTP proxy on the way to Rave: reading what names it, and what is said to it. No I/O."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from ravesvc.config.worker_options import Proxy
from ravesvc.errors import Code, RaveError

_MAX_ADDRESS_CHARS = 1000  # the address of a proxy is one line
_MAX_SCHEME_CHARS = 10
_DEFAULT_PORT = 80
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
WANTED = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"


def parse(text: str, bypass: tuple[str, ...] = ()) -> Proxy:
    """What http://USER:PASSWORD@HOST:PORT says; the scheme, the user and the port (80) may be missing.

    Raises ValueError with a reason for people; it quotes nothing of `text`, which may hold a password.
    """
    if len(text) > _MAX_ADDRESS_CHARS or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be {WANTED}")
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() != "http":
        kind = scheme.lower() if scheme.isalnum() and len(scheme) <= _MAX_SCHEME_CHARS else "such"
        raise ValueError(f"must be an HTTP proxy that is reached in clear text: {kind} proxies are not supported")
    try:
        url = urlsplit(f"http://{rest if separator else text}")
        # Reading .port raises ValueError for a bad one.
        whole = bool(url.hostname) and url.port != 0 and url.path in ("", "/") and not (url.query or url.fragment)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(f"must be {WANTED}")
    return Proxy(
        host=url.hostname or "",
        port=url.port or _DEFAULT_PORT,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        bypass=bypass,
    )


def from_environment(environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that HTTPS_PROXY and NO_PROXY, or the same in small letters, name; None if there is none.

    Raises `RaveError` (Config) for one that can't be used.
    """
    name = "https_proxy" if environment.get("https_proxy") else "HTTPS_PROXY"
    text = environment.get(name, "").strip()
    if not text:
        return None
    bypass = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    try:
        return parse(text, tuple(bypass.replace(",", " ").split()))
    except ValueError as e:
        hint = f"set it to {WANTED}, or unset it"
        raise RaveError(Code.CONFIG, f"the environment variable {name} {e}", hint=hint) from None


def bypasses(proxy: Proxy, host: str, port: int) -> bool:
    """Whether `host` is to be reached without the proxy."""
    plain = host.lower().rstrip(".")
    return any(_names(entry.lower(), plain, port) for entry in proxy.bypass)


def connect_request(proxy: Proxy, host: str, port: int) -> bytes:
    """What asks the proxy for a connection to `host`. Raises UnicodeError for a host name that is none."""
    target = f"[{host}]:{port}" if ":" in host else f"{host.encode('idna').decode('ascii')}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user or proxy.password:
        secret = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {secret}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def refusal(proxy: Proxy, answer: bytes, host: str, port: int) -> RaveError | None:
    """Why `answer`, all that the proxy said up to an empty line, is no connection; None if it is one."""
    match = _STATUS_LINE.match(answer)
    status = int(match[1]) if match else 0
    target = f"{host}:{port}"
    if 200 <= status < 300:
        return None
    if not status:
        return failure(proxy, f"{what(proxy)} does not answer as an HTTP proxy does", hint="check host and port")
    if status == 407:
        hint = f"give user and password: {WANTED}"
        return failure(proxy, f"{what(proxy)} wants to know who we are (HTTP status 407)", hint=hint)
    if status >= 500:
        return failure(proxy, f"{what(proxy)} can't reach {target} (HTTP status {status})")
    return failure(proxy, f"{what(proxy)} does not let us connect to {target} (HTTP status {status})")


def what(proxy: Proxy) -> str:
    """The proxy in words, without user and password."""
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"the proxy {host}:{proxy.port}"


def failure(proxy: Proxy, message: str, *, code: Code = Code.NETWORK, hint: str = "") -> RaveError:
    """An error by the proxy. It says nothing about the server, so it has no `status`."""
    return RaveError(code, message, hint=hint, proxy=f"{proxy.host}:{proxy.port}")


def _names(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `bypass` (`*`, a domain, an address or a network, any with a port) stands for a host."""
    if match := re.fullmatch(r"(\[.*\]|[^:]*):([0-9]{1,5})", entry):
        if int(match[2]) != port:
            return False
        entry = match[1]
    entry = entry.strip("[]")
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        # A domain stands for all names in it; people write example.org, .example.org and *.example.org.
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
