"""HTTPS to a provider: one connection to each host, answers as JSON, pictures from the provider's hosts alone."""

from __future__ import annotations

import logging
from urllib.parse import urlencode, urlsplit

from ravesvc.api import transport
from ravesvc.api.failures import HttpResponse
from ravesvc.api.transport import HttpRequest, HttpTransport
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.common.text import count
from ravesvc.common.translation import gettext as _
from ravesvc.config.worker_options import Proxy, Tls
from ravesvc.errors import Code, RaveError
from ravesvc.media.messages import MAX_PICTURE_BYTES
from ravesvc.version import __version__

_log = logging.getLogger(__name__)

# For one request, from its turn to the last byte of its answer.
_TIMEOUT_S = 8.0
# A picture host may have many names; one connection each would add up.
_MAX_PICTURE_HOSTS = 4
_HEADERS = {"User-Agent": f"ravesvc/{__version__}", "Accept-Encoding": "gzip"}


class Site:
    """A base URL of a provider, that of an API say. Raises `RaveError` (Config), which names `key`, for none."""

    def __init__(self, base: str, key: str, tls: Tls, proxy: Proxy | None) -> None:
        self._transport, self._path = transport.to_base(base, key, tls, proxy, _TIMEOUT_S)

    async def get(self, path: str, query: dict[str, str]) -> tuple[int, Object]:
        """Status and object of an answer, empty if its body holds none; raises `RaveError` in words for the chat.

        The error has the attribute `unsent` if nothing of the request was sent. The query may hold a key, which is in
        no error and no log.
        """
        target = f"{self._path}{path}?{urlencode(query)}"
        answer = await _sent(self._transport, target, "application/json", transport.LIST_ANSWER_BYTES)
        size = count(len(answer.body), "byte")
        _log.debug("%s%s: HTTP %d, %s", self._transport.host, path, answer.status, size)
        try:
            return answer.status, json_fields.parse_message(answer.body, "the answer")
        except RaveError:
            return answer.status, {}

    def close(self) -> None:
        """End the connection for good; requests under way fail with Closed."""
        self._transport.close()


class Pictures:
    """Fetches pictures from `hosts`, and what is below them; each may name a port, without which it is 443."""

    def __init__(self, hosts: tuple[str, ...], tls: Tls, proxy: Proxy | None) -> None:
        self._hosts = hosts
        self._tls = tls
        self._proxy = proxy
        self._transports: dict[str, HttpTransport] = {}

    async def fetch(self, url: str) -> bytes:
        """The bytes behind a URL, which may come from a stranger; raises `RaveError` in words for the chat."""
        target = self._target(url)
        answer = await _sent(self._transport(url), target, "image/*", MAX_PICTURE_BYTES)
        if answer.status == 404:
            raise RaveError(Code.NOT_FOUND, _("there is no picture of that video"))
        if answer.status != 200:
            raise RaveError(Code.SERVER_ERROR, _("the picture can't be had: HTTP {status}", status=answer.status))
        if not answer.body:
            raise RaveError(Code.BAD_DATA, _("the picture of that video is empty"))
        return answer.body

    def close(self) -> None:
        """End all connections for good."""
        for each in self._transports.values():
            each.close()

    def _transport(self, url: str) -> HttpTransport:
        parts = urlsplit(url)
        base = f"https://{parts.netloc}"
        if base not in self._transports:
            while len(self._transports) >= _MAX_PICTURE_HOSTS:
                self._transports.pop(next(iter(self._transports))).close()
            self._transports[base], _ = transport.to_base(base, "thumbnail", self._tls, self._proxy, _TIMEOUT_S)
        return self._transports[base]

    def _target(self, url: str) -> str:
        """Path and query of a URL on one of the hosts; raises `RaveError` (Forbidden) for any other."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port or 443
        except ValueError:
            parts, host, port = urlsplit(""), "", 0
        plain = parts.scheme == "https" and not parts.username and not parts.password and url.isprintable()
        if not plain or " " in url or not any(_covers(entry, host, port) for entry in self._hosts):
            raise RaveError(Code.FORBIDDEN, _("the picture is not on a host of the provider"))
        return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"


def _covers(entry: str, host: str, port: int) -> bool:
    name, _, wanted = entry.lower().partition(":")
    return port == int(wanted or 443) and (host == name or host.endswith(f".{name}"))


async def _sent(connection: HttpTransport, target: str, accept: str, max_bytes: int) -> HttpResponse:
    """An answer; errors name no host, as they go to the chat: the log names it."""
    try:
        return await connection.send(HttpRequest("GET", target, _HEADERS | {"Accept": accept}, None, max_bytes))
    except RaveError as e:
        if e.code is not Code.CLOSED:
            _log.warning("%s", e)
        words = {
            Code.TIMEOUT: _("the video provider did not answer in time"),
            Code.BAD_DATA: _("the video provider gives an answer that makes no sense"),
        }
        text = words.get(e.code, _("the video provider can't be reached"))
        error = RaveError(e.code, text, hint=_("try again in a while"))
        error.attributes |= {key: value for key, value in e.attributes.items() if key == "unsent"}
        raise error from e
