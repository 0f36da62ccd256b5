"""From what a server answered to an error in words. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz

from ravesvc.api.refusal import diagnose, names_session
from ravesvc.common import dates, json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError

# A server that asks for a longer pause is called again after this time.
MAX_PAUSE_S = 3600.0

# Rave's own error code for "slow down", seen with several statuses.
_SLOW_DOWN = 2015

_BY_STATUS = {
    400: (Code.BAD_REQUEST, "Rave does not understand the request"),
    401: (Code.UNAUTHORIZED, "the session is not valid"),
    403: (Code.FORBIDDEN, "no access"),
    404: (Code.NOT_FOUND, "not found"),
    429: (Code.RATE_LIMITED, "too many requests"),
}
_HINTS = {
    Code.UNAUTHORIZED: "log in again",
    Code.SERVER_ERROR: "the trouble is on Rave's side and mostly passes",
}
_RETRYABLE = frozenset({Code.NETWORK, Code.TIMEOUT, Code.SERVER_ERROR, Code.RATE_LIMITED})


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer: status, decoded body, and the texts of Retry-After, Date and Location if there were any."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None
    date: str | None = None
    location: str | None = None


def retryable(error: RaveError) -> bool:
    """Whether the same request may succeed later without an action of an operator."""
    return error.code in _RETRYABLE


def document(answer: HttpResponse, now: float) -> Object:
    """The object in a successful answer, empty if its body holds none; raises the `RaveError` that it reports else.

    A 2xx answer may report an error as well. The server's own words are left out: they may quote what we sent. They
    serve to tell what a refusal is about, see `ravesvc.api.refusal`.
    `now` is in seconds since the epoch, for answers that don't say what time it is. Attributes: `status`,
    `error_code` if Rave gave one, `retry_after` in seconds if it asked for a pause, and `session_named` if it is for
    certain the session that is Unauthorized.
    """
    found = _parse(answer)
    error = _error(found)
    if 200 <= answer.status < 300 and error is None and found.get("success") is not False:
        return found
    error_code = json_fields.as_int((error or {}).get("code"))
    code, words = _classify(answer.status, error_code)
    attributes: dict[str, str | int | float] = {"status": answer.status}
    detail = f"HTTP {answer.status}"
    if error_code is not None:
        attributes["error_code"] = error_code
    # Mostly it is the status once more.
    if error_code not in (None, answer.status):
        detail += f", error {error_code}"
    attributes |= asked_pause(answer.retry_after, answer.date, now)
    if diagnosed := diagnose(answer.status, _words(error or {}), _skew(answer.date, now)):
        diagnosed.attributes |= attributes
        raise diagnosed
    if code is Code.UNAUTHORIZED and names_session(_words(error or {})):
        attributes["session_named"] = True
    raise RaveError(code, f"{words} ({detail})", hint=_HINTS.get(code, ""), **attributes)


def asked_pause(retry_after: str | None, date: str | None, now: float) -> dict[str, float]:
    """The attribute `retry_after` of an answer with these headers; nothing if it asks for no pause.

    Retry-After holds a number of seconds or a point in time (RFC 9110, 10.2.3). That is one of the server's clock, so
    it is compared with the Date of the same answer; with `now` only if there is none.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return {"retry_after": float(text)}
    until, told_now = _time(text), _time(date or "")
    if until is None:
        return {}
    return {"retry_after": max(0.0, until - (now if told_now is None else told_now))}


def pause(error: RaveError) -> float | None:
    """Seconds of the pause that a server asks for by this failure, from 1 to 3600; None when it asks for none.

    It is 0 when it does not say how long: after too many requests that is for the client to decide.
    """
    asked = error.attributes.get("retry_after")
    if isinstance(asked, int | float):
        return min(max(1.0, float(asked)), MAX_PAUSE_S) if asked > 0 else 0.0
    return 0.0 if error.code is Code.RATE_LIMITED else None


def pause_words(host: str, seconds: float, wall: Callable[[], float] = time.time) -> str:
    """A pause that has `seconds` left, in a sentence; `wall` tells the time of day."""
    return f"{host} asks for a pause until {dates.in_sentence(wall() + seconds)}"


def _time(text: str) -> float | None:
    """A point in time as HTTP writes it, in seconds since the epoch; None if it is none."""
    try:
        date = parsedate_tz(text)
        return None if date is None else float(mktime_tz(date))
    except (ValueError, OverflowError):
        return None


def _skew(date: str | None, now: float) -> float | None:
    """Seconds by which our clock is ahead of the server's."""
    told_now = _time(date or "")
    return None if told_now is None else now - told_now


def _words(error: Object) -> str:
    """What the server says of an error."""
    said = error.get("message", error.get("error"))
    return said if isinstance(said, str) else ""


def _classify(status: int, error_code: int | None) -> tuple[Code, str]:
    if error_code == _SLOW_DOWN:
        return _BY_STATUS[429]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return Code.SERVER_ERROR, "the server has a problem"
    if status >= 400:
        return Code.BAD_REQUEST, "Rave does not accept the request"
    if status >= 300:
        return Code.BAD_DATA, "the server wants to redirect us, which is not followed"
    return Code.REFUSED, "Rave refuses"


def _parse(answer: HttpResponse) -> Object:
    """The object in a body; an empty one if there is none, as with 204 or an error page of a proxy."""
    try:
        return json_fields.parse_message(answer.body, "the answer")
    except RaveError as e:
        if e.code is Code.TOO_LARGE and answer.status < 300:
            raise RaveError(Code.BAD_DATA, e.message) from None
        return {}


def _error(found: Object) -> Object | None:
    """What `found` says about an error: under `error`, or with the two keys at its top.

    Parse has `error` hold the words, and the code beside it.
    """
    error = found.get("error")
    if error:
        return error if isinstance(error, dict) else found
    if {"code", "message"} <= found.keys() and "data" not in found:
        return found
    return None
