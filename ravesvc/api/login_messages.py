"""What is sent and what is answered during a login. No I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlencode

from ravesvc.api import models, signing
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.config.worker_options import ClientIdentity
from ravesvc.config.worker_settings import normalise_token
from ravesvc.errors import Code, RaveError

# The headers for a body, or for none, sent at these milliseconds since the epoch.
Headers: TypeAlias = Callable[[bytes | None, int], dict[str, str]]

# In which the magic-link service writes its mail.
_LANGUAGES = frozenset({"en", "ru", "de", "fr", "es", "it", "pt", "ar", "pl", "nl", "uk"})
_MAX_ADDRESS_CHARS = 254
# Of an id or a token. The longest, a JSON Web Token, has some 1500 characters.
_MAX_TOKEN_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the magic-link service says once the link was followed."""

    email: str = field(repr=False)
    id_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParseUser:
    """Parse's account. `session_token` is spelt as Parse wants it, `token` as the other servers want it."""

    id: str
    session_token: str = field(repr=False)
    token: str = field(repr=False)


def is_address(text: str) -> bool:
    """Whether it can be an e-mail address; only a mail that arrives proves one."""
    name, _, host = text.partition("@")
    return bool(name and host and "@" not in host) and _is_word(text) and len(text) <= _MAX_ADDRESS_CHARS


def mojo_headers(identity: ClientIdentity) -> Headers:
    """For the magic-link service; raises as `signing.checked`."""
    bare = signing.checked({"X-Api-Key": identity.mojo_api_key, "User-Agent": "okhttp/5.1.0"})
    typed = {**bare, "Content-Type": "application/json; charset=utf-8"}
    return lambda body, _milliseconds: bare if body is None else typed


def parse_headers(identity: ClientIdentity) -> Headers:
    """For Parse; what is not configured is not sent. Raises as `signing.checked`."""
    wanted = {
        "X-Parse-Application-Id": identity.parse_application_id,
        "X-Parse-App-Build-Version": identity.app_build,
        "X-Parse-App-Display-Version": identity.client_version,
        "X-Parse-Installation-Id": identity.parse_installation_id,
        "X-Parse-Os-Version": "9",
        "Content-Type": "application/json",
        "User-Agent": "Parse Android SDK API Level 28",
    }
    made = signing.checked({name: value for name, value in wanted.items() if value})
    return lambda _body, _milliseconds: made


def mail_path(lang: str, redirect_url: str) -> str:
    """Where to ask for a mail; in English, if the service does not know the language."""
    return "/users/magiclink?" + urlencode(
        {"language": lang if lang in _LANGUAGES else "en", "redirect_url": redirect_url}
    )


def status_path(state_id: str) -> str:
    """Where to ask what has become of a mail."""
    return "/users/status?" + urlencode({"state_id": state_id})


def parse_body(confirmation: Confirmation) -> dict[str, Any]:
    """Asked twice, Parse gives the same account."""
    return {"authData": {"mojo": {"id_token": confirmation.id_token, "id": confirmation.email}}}


def device_body(device_id: str, lang: str, email: str, user: ParseUser) -> dict[str, Any]:
    """The one message in which the token keeps its `r:`."""
    return {
        "deviceId": device_id,
        "email": email,
        "lang": lang,
        "name": email.partition("@")[0],
        "parseId": user.id,
        "parseToken": user.session_token,
        "platId": email,
    }


def account_body(device_id: str, lang: str) -> dict[str, Any]:
    """The advertising id is a new one each time, so that it does not identify this host."""
    return {
        "adId": secrets.token_hex(16),
        "carrierCountry": "US",
        "deviceId": device_id,
        "lang": lang,
        "storeCountry": "US",
    }


def state_id(answer: Object) -> str:
    """The id of a mail that is sent; raises `RaveError` (BadData) if there is none."""
    return _word(answer, "state_id")


def confirmation(answer: Object, typed: str) -> Confirmation | None:
    """None if the link was not followed yet. An odd answer counts as that too: the next one may be better.

    What counts is the address that was confirmed, not the one typed in, unless nothing is said about it.
    """
    oauth, user = answer.get("oauth"), answer.get("user")
    id_token = oauth.get("id_token") if isinstance(oauth, dict) else None
    if answer.get("authenticated") is not True or not isinstance(id_token, str) or not id_token:
        return None
    email = user.get("email") if isinstance(user, dict) else None
    return Confirmation(email if isinstance(email, str) and is_address(email) else typed, id_token)


def parse_user(answer: Object) -> ParseUser:
    """Parse's account; raises `RaveError` (BadData) if the answer holds none, or no token that fits into a header."""
    session_token = json_fields.get_str(answer, "sessionToken").strip()
    token = normalise_token(session_token)
    if not (_is_word(token) and token.isascii()):
        raise RaveError(Code.BAD_DATA, "sessionToken is not a token", key="sessionToken")
    return ParseUser(_word(answer, "objectId"), session_token, token)


def account_id(answer: Object) -> int | None:
    """The account's id, if the answer tells one."""
    try:
        return models.account_id(answer)
    except RaveError:
        return None


def _word(answer: Object, key: str) -> str:
    text = json_fields.get_str(answer, key)
    if not _is_word(text):
        raise RaveError(Code.BAD_DATA, f"{key} is not a word", key=key)
    return text


def _is_word(text: str) -> bool:
    return 0 < len(text) <= _MAX_TOKEN_CHARS and text.isprintable() and " " not in text
