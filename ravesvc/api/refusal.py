"""What a refusal is about: the session, the client identity that signs the requests, or this machine's clock. No I/O.

A wrong signature is refused as an expired session is, with 401 or 403, and a login cures only the latter. What tells
them apart is the server's own words, as far as it has any, and the time in its answer: the signature holds ours.
"""

from __future__ import annotations

import re

from ravesvc.common.text import count
from ravesvc.errors import Code, RaveError

# A larger difference between our clock and the server's counts as the reason of a refusal.
MAX_CLOCK_SKEW_S = 60.0

# A login does not help against these.
IDENTITY_REFUSALS = (Code.IDENTITY, Code.CLOCK)

# In this order: "the timestamp has expired" is about the clock, "the token has no valid signature" about the session.
_WORDS = (
    (re.compile(r"request-?ts\b|timestamp|\bclock\b"), "clock"),
    (re.compile(r"\b(token|session|bearer|expired|log(ged)? ?in)\b"), "session"),
    (re.compile(r"\bhash\b|-hash\b|signature|\bhmac\b"), "request_hash_key"),
    (re.compile(r"client-?\s?version"), "client_version"),
    (re.compile(r"user-?\s?agent"), "user_agent"),
)
# Of a request that makes no sense: only what names a header is about the identity.
_HEADERS = re.compile(r"request-hash|request-ts|client-version|user-agent")
_MAX_SEARCHED_CHARS = 500


def names_session(words: str) -> bool:
    """Whether the server says that it is the session which it refuses."""
    return _about(words) == "session"


def diagnose(status: int, words: str, skew: float | None) -> RaveError | None:
    """The error (IdentityRefused, ClockWrong) for a refusal that no login cures; None for any other.

    Args:
        status: of the answer.
        words: of the server, which the error does not quote.
        skew: seconds by which our clock is ahead of the server's; None if that is not known.
    """
    if status not in (400, 401, 403):
        return None
    if status == 400 and not _HEADERS.search(words[:_MAX_SEARCHED_CHARS].lower()):
        return None
    about = _about(words)
    if about == "session" or (status == 403 and not about):
        return None
    if about == "clock" or (about in ("", "request_hash_key") and skew is not None and abs(skew) > MAX_CLOCK_SKEW_S):
        return _clock(status, skew)
    if not about:
        return None
    hint = f"check client_identity.{about} in rave.yaml; a login does not help"
    return RaveError(Code.IDENTITY, f"Rave refuses the client identity (HTTP {status})", hint=hint)


def _about(words: str) -> str:
    words = words[:_MAX_SEARCHED_CHARS].lower()
    return next((about for pattern, about in _WORDS if pattern.search(words)), "")


def _clock(status: int, skew: float | None) -> RaveError:
    off = "is wrong" if skew is None or abs(skew) <= MAX_CLOCK_SKEW_S else f"is {_span(abs(skew))} {_side(skew)}"
    message = f"Rave refuses the time of the request: the clock of this machine {off} (HTTP {status})"
    return RaveError(Code.CLOCK, message, hint="set it, timedatectl shows how it is kept")


def _side(skew: float) -> str:
    return "ahead" if skew > 0 else "behind"


def _span(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600)):
        if seconds >= 2 * length:
            return count(round(seconds / length), unit)
    return count(round(seconds / 60), "minute")
