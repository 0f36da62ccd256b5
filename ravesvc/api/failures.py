"""From what a server answered to an error in words. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz

from ravesvc import fields
from ravesvc.errors import Code, RaveError
from ravesvc.fields import Object

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
class Answer:
    """A whole answer: status, decoded body, and the text of Retry-After if there was one."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None


def retryable(error: RaveError) -> bool:
    """Whether the same request may succeed later without anybody doing something."""
    return error.code in _RETRYABLE


def document(answer: Answer, now: float) -> Object:
    """The object in a successful answer, empty if its body holds none; raises the `RaveError` that it reports else.

    A 2xx answer may report an error as well. The server's own words are left out: they may quote what we sent.
    `now` is in seconds since the epoch. Attributes: `status`, `error_code` if Rave gave one, `retry_after` in
    seconds if it asked for a pause.
    """
    found = _parse(answer.body)
    error = _error(found)
    if 200 <= answer.status < 300 and error is None and found.get("success") is not False:
        return found
    error_code = fields.as_int((error or {}).get("code"))
    code, words = _classify(answer.status, error_code)
    attributes: dict[str, str | int | float] = {"status": answer.status}
    detail = f"HTTP {answer.status}"
    if error_code is not None:
        attributes["error_code"] = error_code
        detail += f", error {error_code}"
    pause = retry_after(answer.retry_after, now)
    if pause is not None:
        attributes["retry_after"] = pause
    raise RaveError(code, f"{words} ({detail})", hint=_HINTS.get(code, ""), **attributes)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, which holds a number or a date (RFC 9110, 10.2.3); None if neither."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        date = parsedate_tz(text)
        return None if date is None else max(0.0, mktime_tz(date) - now)
    except (ValueError, OverflowError):
        return None


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


def _parse(body: bytes) -> Object:
    """The object in a body; an empty one if there is none, as with 204 or an error page of a proxy."""
    try:
        return fields.parse_object(body, "the answer")
    except RaveError:
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
