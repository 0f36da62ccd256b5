"""Logging in by magic link: a mail, a person who follows the link in it, and what makes a session of that.

Three servers take part: the magic-link service sends the mail and tells when the link was followed, Parse turns that
into a token, and Rave's own server registers the device with it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from ravesvc.api import failures, models, retry, signing, transport
from ravesvc.api import login_messages as messages
from ravesvc.api.login_messages import Confirmation, Headers
from ravesvc.api.transport import HttpRequest
from ravesvc.common.json_fields import Object
from ravesvc.common.text import count
from ravesvc.config.identity import lacking, missing
from ravesvc.config.worker_options import ClientIdentity, Proxy, Servers, Tls
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError

_log = logging.getLogger(__name__)

T = TypeVar("T")

# For one attempt.
REQUEST_TIMEOUT_S = 30.0

# The magic-link service's own error code for an address that it does not take.
_BAD_ADDRESS = 900
# What it answers once it has forgotten the mail.
_LINK_GONE = (404, 410)
_REFUSALS = (Code.UNAUTHORIZED, Code.FORBIDDEN, Code.REFUSED)


class Step(StrEnum):
    """What a login is at."""

    SENDING = "sending"
    WAITING = "waiting"
    SIGNING_IN = "signing-in"


# Called at each step and each look whether the link was followed, with the seconds that are left for following it.
Progress: TypeAlias = Callable[[Step, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoginResult:
    """What a login brought. `email` is the confirmed address, the tokens have no `r:`."""

    email: str = field(repr=False)
    parse_id: str
    parse_token: str = field(repr=False)
    auth_token: str = field(repr=False)
    user_id: int


async def log_in(
    *,
    email: str,
    device_id: str,
    ssaid: str,
    servers: Servers,
    identity: ClientIdentity,
    tls: Tls,
    proxy: Proxy | None = None,
    lang: str,
    progress: Progress,
    poll: float = 2.0,
    link_timeout_s: float = 600.0,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rng: Callable[[], float] = random.random,
) -> LoginResult:
    """Send a mail to `email` and wait until the link in it is followed, which makes this device the account's.

    Looks every `poll` seconds, for `link_timeout_s` after the mail. `clock` is monotonic, `now` since the epoch.
    Raises `RaveError`: WrongAddress; NotConfirmed when the link is not followed in time; Forbidden and Refused when a
    server says no; Config for keys of the client identity that are missing; else as `Api` does. The message says at
    which step. What may pass is tried again, but no mail is sent twice. Cancelling ends it at once.
    """
    if not messages.is_address(email):
        raise RaveError(Code.WRONG_ADDRESS, "this is not an e-mail address", hint="write it as name@host")
    _check(identity)
    mojo_headers, parse_headers = messages.mojo_headers(identity), messages.parse_headers(identity)
    with ExitStack() as opened:
        # All three at once, so that no mail is sent for a login that can't end well.
        server = functools.partial(_Server, opened, tls, proxy, now, sleep, rng)
        mojo = server(servers.mojo, "mojo", "the magic-link service", "mojo_api_key")
        parse = server(servers.parse, "parse", "Rave", "parse_application_id")
        api = server(servers.api, "api", "Rave", "request_hash_key")

        progress(Step.SENDING, link_timeout_s)
        state_id = await _send_mail(mojo, mojo_headers, email, messages.mail_path(lang, identity.mojo_redirect_url))
        deadline = clock() + link_timeout_s

        def left() -> float:
            return max(0.0, deadline - clock())

        poll_once = functools.partial(_poll, mojo, mojo_headers, state_id, email)
        confirmed = await _wait(poll_once, lambda: progress(Step.WAITING, left()), poll, left, sleep)

        progress(Step.SIGNING_IN, left())
        what = "exchanging the confirmation for a token"
        body = messages.parse_body(confirmed)
        user = await parse.ask(what, "POST", "/users", parse_headers, messages.parse_user, body)
        session = Session(device_id=device_id, ssaid=ssaid, user_id=0, auth_token=user.token)
        signed = functools.partial(signing.headers, identity, session)
        # Its answer says no more than success, and something about handles.
        body = messages.device_body(device_id, lang, confirmed.email, user)
        await api.ask("registering the device", "POST", "/auth2/mojo/login", signed, lambda _: None, body)
        user_id = await _open_account(api, signed, messages.account_body(device_id, lang))
    return LoginResult(
        email=confirmed.email, parse_id=user.id, parse_token=user.token, auth_token=user.token, user_id=user_id
    )


class _Server:
    """One of the servers: `key` is that of its base URL, `identity_key` what is at fault if it refuses us."""

    def __init__(
        self,
        opened: ExitStack,
        tls: Tls,
        proxy: Proxy | None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        rng: Callable[[], float],
        base: str,
        key: str,
        name: str,
        identity_key: str,
    ) -> None:
        self._transport, self._base = transport.to_base(base, f"servers.{key}", tls, proxy, REQUEST_TIMEOUT_S)
        opened.callback(self._transport.close)
        self._now = now
        self._sleep = sleep
        self._rng = rng
        self._name = name
        self._signed = identity_key == "request_hash_key"
        self._hint = f"check servers.{key} and client_identity.{identity_key} in rave.yaml"

    async def ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: Headers,
        read: Callable[[Object], T],
        body: dict[str, Any] | None = None,
        may_repeat: Callable[[RaveError], bool] = failures.retryable,
    ) -> T:
        """What `read` makes of a successful answer; `what` begins the sentence of an error."""
        content = None if body is None else json.dumps(body).encode()

        async def attempt() -> T:
            now = self._now()
            request = HttpRequest(method, self._base + path, headers(content, int(now * 1000)), content)
            answer = await self._transport.send(request)
            _log.debug("%s: HTTP %d, %s", what, answer.status, count(len(answer.body), "byte"))
            try:
                found = failures.document(answer, now)
            except RaveError as e:
                raise self._in_words(e) from None
            return read(found)

        return await retry.repeat(what, attempt, may_repeat, self._sleep, self._rng)

    def _in_words(self, error: RaveError) -> RaveError:
        """A refusal, told as one of a login: the words for it elsewhere are about a session, and there is none.

        A signed request goes out with a token that is new. If that is not accepted the signature is what is wrong.
        """
        if error.code is Code.CLOCK and not self._signed:
            # The time is part of a signature, and of nothing else.
            error = RaveError(Code.UNAUTHORIZED, error.message, hint=error.hint, **error.attributes)
        if error.code not in _REFUSALS:
            return error
        if error.code is Code.UNAUTHORIZED and self._signed:
            message = f"{self._name} refuses the signature (HTTP {error.attributes['status']})"
            return RaveError(Code.IDENTITY, message, hint=self._hint, **error.attributes)
        code = Code.FORBIDDEN if error.code is Code.FORBIDDEN else Code.REFUSED
        message = f"{self._name} refuses the login (HTTP {error.attributes['status']})"
        return RaveError(code, message, hint=self._hint, **error.attributes)


async def _send_mail(mojo: _Server, headers: Headers, email: str, path: str) -> str:
    """The id under which to ask what has become of the mail."""

    def not_heard(error: RaveError) -> bool:
        # After any other failure the mail may be on its way.
        return error.code is Code.RATE_LIMITED

    try:
        what, body = "sending the mail", {"email": email}
        return await mojo.ask(what, "POST", path, headers, messages.state_id, body, not_heard)
    except RaveError as e:
        if e.attributes.get("error_code") == _BAD_ADDRESS:
            raise RaveError(Code.WRONG_ADDRESS, "the magic-link service does not accept this address") from None
        raise


async def _poll(mojo: _Server, headers: Headers, state_id: str, email: str) -> Confirmation | None:
    """None if the link was not followed yet."""
    read = functools.partial(messages.confirmation, typed=email)
    try:
        what, path = "asking whether the link was followed", messages.status_path(state_id)
        return await mojo.ask(what, "GET", path, headers, read, may_repeat=lambda _: False)
    except RaveError as e:
        if e.attributes.get("status") in _LINK_GONE:
            raise _not_confirmed() from None
        raise


async def _wait(
    poll_once: Callable[[], Awaitable[Confirmation | None]],
    tell: Callable[[], None],
    poll: float,
    left: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Confirmation:
    """Look until the link was followed or no time is `left`; a failure that may pass is not the end."""
    failing: RaveError | None = None
    while True:
        tell()
        asked_for = 0.0
        try:
            confirmed = await poll_once()
        except RaveError as e:
            if not failures.retryable(e):
                raise
            _log.log(logging.DEBUG if failing else logging.WARNING, "%s; it is tried again", e.message)
            failing, asked_for = e, float(e.attributes.get("retry_after", 0))
        else:
            if confirmed is not None:
                return confirmed
            failing = None
        rest = left()
        if not rest or asked_for > rest:
            # Whether the link was followed, a server that does not answer can't tell.
            raise failing or _not_confirmed()
        await sleep(min(max(poll, asked_for), rest))


async def _open_account(api: _Server, headers: Headers, body: dict[str, Any]) -> int:
    """The account's id. Without one there is no login: who we are in a mesh is made of it."""
    user_id = await api.ask("opening the account", "POST", "/auth/login", headers, messages.account_id, body)
    if user_id is None:
        user_id = await api.ask("asking who we are", "GET", "/users/self", headers, models.account_id)
    return user_id


def _check(identity: ClientIdentity) -> None:
    if keys := missing(identity):
        raise lacking(keys)


def _not_confirmed() -> RaveError:
    return RaveError(Code.NOT_CONFIRMED, "the link in the mail was not followed in time", hint="log in once more")
