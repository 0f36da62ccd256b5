"""Requests of plugins, within limits. Implements `ravesvc.bot.http.Http`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json as json_format
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urljoin

from ravesvc.api import internet
from ravesvc.api.failures import HttpResponse
from ravesvc.api.internet import Internet, Place
from ravesvc.api.transport import HttpRequest
from ravesvc.api.web_response import DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S, WebResponse
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.version import __version__

_MAX_ANSWER_BYTES = 1 << 20
_MAX_REQUEST_BYTES = 256 << 10
_MAX_AT_ONCE = 4
REQUEST_RATE = Rate(20, 1.0)
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HEADERS = 32
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_MAX_HEADER_CHARS = 8000
# Those that say how the request itself is sent.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-type"})


class PluginHttp:
    """The requests of all plugins of one bot."""

    def __init__(self, hosts: Internet, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._bucket = TokenBucket(REQUEST_RATE, clock())
        self._turns = asyncio.Semaphore(_MAX_AT_ONCE)

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - as authors expect
    ) -> WebResponse:
        """See `Http`."""
        place, sent = require_place(url, Code.INVALID_ARGUMENT), _headers(headers or {})
        async with self._turn(place, timeout):
            for _redirect in range(_MAX_REDIRECTS + 1):
                answer = await self._send(
                    place, HttpRequest("GET", place.target, sent, None, _MAX_ANSWER_BYTES), timeout
                )
                if answer.status not in _REDIRECTS or not answer.location:
                    return WebResponse(answer.status, answer.body)
                url = _joined(url, answer.location)
                former, place = place, require_place(url, Code.BAD_DATA)
                if place[:2] != former[:2]:
                    # What proves to one server who asks is not for another.
                    sent = _headers({})
        text = _("{host} redirects us more than {n} times", host=place.host, n=_MAX_REDIRECTS)
        raise RaveError(Code.BAD_DATA, text, host=place.host)

    async def post(
        self,
        url: str,
        *,
        json: Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> WebResponse:
        """See `Http`."""
        place, body = require_place(url, Code.INVALID_ARGUMENT), _body(json)
        sent = _headers(headers or {}) | {"Content-Type": "application/json"}
        async with self._turn(place, timeout):
            request = HttpRequest("POST", place.target, sent, body, _MAX_ANSWER_BYTES)
            answer = await self._send(place, request, timeout)
        return WebResponse(answer.status, answer.body)

    @contextlib.asynccontextmanager
    async def _turn(self, place: Place, seconds: float) -> AsyncIterator[None]:
        """Within it one of the few requests at once is made, for so many seconds at most."""
        if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_TIMEOUT_S:
            text = _("the timeout of a request is no number of seconds from 0 to {n}", n=round(MAX_TIMEOUT_S))
            raise RaveError(Code.INVALID_ARGUMENT, text)
        if wait := self._bucket.take(self._clock()):
            left = math.ceil(wait)
            text = _("the bot has asked other servers too often")
            hint = _("try again in {seconds} s", seconds=left)
            raise RaveError(Code.RATE_LIMITED, text, hint=hint, retry_after=left)
        try:
            async with asyncio.timeout(seconds), self._turns:
                yield
        except TimeoutError:
            text = _("{host} did not answer in time", host=place.host)
            raise RaveError(Code.TIMEOUT, text, host=place.host) from None

    async def _send(self, place: Place, request: HttpRequest, seconds: float) -> HttpResponse:
        transport = self._hosts.transport(place, seconds)
        try:
            return await transport.send(request)
        finally:
            transport.close()


def require_place(url: object, code: Code) -> Place:
    """Where a URL leads. Raises `RaveError` with this code for one that no plugin may ask."""
    if isinstance(url, str) and (found := internet.parse(url)):
        return found
    # It may have a key in it, so it is not quoted.
    raise RaveError(code, _("that is no https URL that can be used"))


def _joined(url: str, location: str) -> str:
    with contextlib.suppress(ValueError):
        return urljoin(url, location)
    return ""


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > _MAX_HEADERS or not all(itertools.starmap(_is_header, given.items())):
        raise RaveError(Code.INVALID_ARGUMENT, _("a header of the request can't be sent"))
    return {"User-Agent": f"ravesvc/{__version__}", "Accept-Encoding": "gzip", **given}


def _is_header(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str) or not _HEADER_NAME.fullmatch(name):
        return False
    fits = value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER_CHARS
    return fits and name.lower() not in _OURS


def _body(document: Any) -> bytes:
    try:
        body = json_format.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise RaveError(Code.INVALID_ARGUMENT, _("what is to be sent is no JSON")) from None
    if len(body) > _MAX_REQUEST_BYTES:
        what = _("a request has at most {n} KiB", n=_MAX_REQUEST_BYTES >> 10)
        raise RaveError(Code.TOO_LARGE, what, hint=_("send less"))
    return body
