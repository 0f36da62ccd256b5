"""What the keys of `client_identity` look like, and what each is needed for: the one table of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ravesvc.config.worker_options import ClientIdentity
from ravesvc.errors import Code, RaveError

# Without these no request is answered.
_RUNNING = {"request_hash_key": "a text of hex digits, signs requests"}
# Without these, too, no login is possible.
_LOGIN = {
    "mojo_api_key": "a text, for the server that mails log-in links",
    "mojo_redirect_url": "an https URL that ends in /mojoauth",
    "parse_application_id": "a text, for the Parse server",
}
# Every client that is known sends these, but whether Rave insists on them is not known.
_ADVISED = {
    "user_agent": "such as Rave/2149 (8.2.9) (Android 9; MODEL; BRAND DEVICE; en)",
    "client_version": "such as 8.2.9",
    "app_build": "such as 2149",
}
# What can be said of a value without asking Rave.
_SHAPES = {
    "request_hash_key": re.compile("[0-9A-Fa-f]+"),
    "mojo_redirect_url": re.compile(r"https://[^/\s]+/\S*"),
}
_LOOKS = _RUNNING | _LOGIN | _ADVISED


def missing_to_run(identity: ClientIdentity) -> list[str]:
    """The keys without which no bot starts."""
    return _unset(identity, _RUNNING)


def missing(identity: ClientIdentity) -> list[str]:
    """The same and those without which there is no login: all that has to be supplied."""
    return _unset(identity, _RUNNING | _LOGIN)


def missing_beside(identity: ClientIdentity) -> list[str]:
    """Keys that a client is expected to send."""
    return _unset(identity, _ADVISED)


def misshapen(identity: ClientIdentity) -> list[str]:
    """The keys whose value is not what it looks like elsewhere: part of it is missing, or it is another key's."""
    return [key for key, shape in _SHAPES.items() if (value := getattr(identity, key)) and not shape.fullmatch(value)]


def usual_shape(key: str) -> str:
    """What the value of a key looks like."""
    return _LOOKS[key]


def described(keys: Iterable[str]) -> str:
    """Keys in one sentence, each with what it looks like."""
    return ", ".join(f"client_identity.{key} ({usual_shape(key)})" for key in keys)


def summary(keys: Iterable[str]) -> str:
    """Which keys are missing, for a line that is shown again and again: `described` says what they look like."""
    return f"client_identity lacks {', '.join(keys)}"


def lacking(keys: Sequence[str], hint: str = "") -> RaveError:
    """The error (Config) for keys that are missing; `hint` is how to supply them."""
    message = f"{described(keys)} {'is' if len(keys) == 1 else 'are'} not set"
    return RaveError(Code.CONFIG, message, hint=hint, key=f"client_identity.{keys[0]}")


def _unset(identity: ClientIdentity, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if not getattr(identity, key)]
