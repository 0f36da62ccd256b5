"""The checks that the servers make on every call before they handle it.

The signature is computed here on purpose without the client's code: a mistake there must not hide itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ravesvc.config.worker_options import ClientIdentity

_MAX_EMOJI_CHARS = 16


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A mistake in a call: the HTTP status of its answer, and a description without secrets."""

    status: int
    what: str


class Checks(Protocol):
    """The checks of one server."""

    def mismatches(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> list[Mismatch]:
        """All mistakes in a call; empty for a correct one. `headers` ignores case; `now` and `window` are seconds."""


@dataclass(frozen=True, slots=True)
class MojoChecks:
    """The checks of the magic-link service."""

    identity: ClientIdentity

    def mismatches(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> list[Mismatch]:
        """All that is wrong; empty when the call may go on."""
        found = [*_foreign_headers(headers), *_not_json(headers, body)]
        if not _matches(headers.get("X-Api-Key"), self.identity.mojo_api_key):
            found.append(Mismatch(401, "X-Api-Key is not that of the identity"))
        # One known client sends none at all. A library's default would show that this is no such client.
        if not re.match(r"okhttp/|$", headers.get("User-Agent", "")):
            found.append(Mismatch(400, "User-Agent is not that of okhttp"))
        return found


@dataclass(frozen=True, slots=True)
class ParseChecks:
    """The checks of Parse, which keeps the accounts."""

    identity: ClientIdentity

    def mismatches(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> list[Mismatch]:
        """All that is wrong; empty when the call may go on."""
        found = [*_foreign_headers(headers), *_not_json(headers, body)]
        if not _matches(headers.get("X-Parse-Application-Id"), self.identity.parse_application_id):
            found.append(Mismatch(403, "X-Parse-Application-Id is not that of the identity"))
        # Not every client sends it.
        installation = self.identity.parse_installation_id
        if not _matches(headers.get("X-Parse-Installation-Id", installation), installation):
            found.append(Mismatch(400, "X-Parse-Installation-Id is not that of the identity"))
        patterns = {
            "X-Parse-App-Build-Version": re.escape(self.identity.app_build),
            "X-Parse-App-Display-Version": re.escape(self.identity.client_version),
            "X-Parse-Os-Version": r"[0-9.]+",
            "User-Agent": r"Parse Android SDK API Level [0-9]+",
        }
        return found + [
            Mismatch(400, f"{name} is not as it should be")
            for name, pattern in patterns.items()
            if not re.fullmatch(pattern, headers.get(name, ""))
        ]


class PublicChecks:
    """The checks of a server that must not receive Rave's credentials: one for uploads, or a video provider."""

    def mismatches(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> list[Mismatch]:
        """All that is wrong; empty when the call may go on."""
        names = (
            "Request-Ts",
            "Client-Version",
            "Wemesh-Api-Version",
            "X-Parse-Application-Id",
            "X-Api-Key",
            "Cookie",
        )
        return [*_foreign_headers(headers), *_foreign_headers(headers, names)]


@dataclass(frozen=True, slots=True)
class CallChecks:
    """The checks of a call to the api base. `sessions` knows the bearer tokens, `window` is in seconds."""

    identity: ClientIdentity
    sessions: Container[str]

    def mismatches(self, headers: Mapping[str, str], body: bytes, *, now: float, window: float) -> list[Mismatch]:
        """All that is wrong; empty when the call may go on. `headers` ignores case."""
        token = bearer(headers)
        found = self._identity(headers)
        found += _not_json(headers, body)
        if token not in self.sessions:
            found.append(Mismatch(401, "Authorization holds no known bearer token"))
        found += _signature(self.identity.request_hash_key, headers, token, len(body), now, window)
        return found

    def _identity(self, headers: Mapping[str, str]) -> list[Mismatch]:
        wanted = {
            "Client-Version": self.identity.client_version,
            "Wemesh-Api-Version": "4.0",
            "Wemesh-Platform": "android",
            "User-Agent": self.identity.user_agent,
        }
        found = [
            Mismatch(400, f"{name} is not {value!r}") for name, value in wanted.items() if headers.get(name) != value
        ]
        # Whether the server demands one is unknown; one that is sent must have the right form.
        if not re.fullmatch(r"[0-9a-f]{16}", headers.get("Ssaid", "0" * 16)):
            found.append(Mismatch(400, "Ssaid is not 16 hex digits"))
        return found


def _matches(found: str | None, wanted: str) -> bool:
    return found is not None and hmac.compare_digest(found.encode(), wanted.encode())


def _not_json(headers: Mapping[str, str], body: bytes) -> list[Mismatch]:
    if body and headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
        return [Mismatch(400, "Content-Type is not application/json")]
    return []


def _foreign_headers(
    headers: Mapping[str, str], names: Iterable[str] = ("Authorization", "Request-Hash", "Ssaid")
) -> list[Mismatch]:
    """Headers that belong to the api base alone, and that no other server may receive."""
    return [Mismatch(400, f"{name} is no header of this server") for name in names if name in headers]


def bearer(headers: Mapping[str, str]) -> str:
    """The bearer token as it stands in the header, or empty."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def request_hash(key: str, ts: str, token: str, length: int) -> str:
    """The signature of a call: base64 of HMAC-SHA256 over `ts:token:length of the body in bytes`."""
    digest = hmac.digest(key.encode(), f"{ts}:{token}:{length}".encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def _signature(
    key: str, headers: Mapping[str, str], token: str, length: int, now: float, window: float
) -> list[Mismatch]:
    ts = headers.get("Request-Ts", "")
    if not re.fullmatch(r"[0-9]{1,16}", ts):
        return [Mismatch(400, "Request-Ts is not a number of milliseconds")]
    found = []
    if abs(int(ts) / 1000 - now) > window:
        found.append(Mismatch(401, "Request-Ts is too far from the server's clock"))
    if not hmac.compare_digest(
        headers.get("Request-Hash", "").encode(), request_hash(key, ts, token, length).encode()
    ):
        found.append(Mismatch(401, "Request-Hash is not the hash of this call"))
    return found


def chat_mistake(data: Mapping[str, object]) -> str:
    """What is wrong with the data of a chatMessage of a client; empty for a correct one."""
    if data.get("reaction") is not None:
        return _reaction_mistake(data)
    wrong = [key for key in ("chat", "id", "detected_lang") if not isinstance(data.get(key), str)]
    if wrong or not isinstance(data.get("translations"), dict):
        return f"chatMessage without {', '.join(wrong or ['translations'])}"
    if not _is_media_list(data.get("media")):
        return "chatMessage with media that lack url, mime or isExplicit"
    if not _are_mentions(data.get("user_metas"), str(data["chat"])):
        return "chatMessage with user_metas that lack handle or id, or whose @handle is not in the text"
    return ""


def _reaction_mistake(data: Mapping[str, object]) -> str:
    wrong = [key for key in ("id", "emoji", "reaction") if not (isinstance(data.get(key), str) and data[key])]
    if wrong or any(map(str.isspace, str(data["emoji"]))) or len(str(data["emoji"])) > _MAX_EMOJI_CHARS:
        return f"reaction without {', '.join(wrong or ['one emoji'])}"
    # A text, or what goes with one, would make it a message.
    extra = [key for key in ("chat", "detected_lang", "translations", "reply", "media", "links") if data.get(key)]
    return f"reaction with {', '.join(extra)}" if extra else ""


def _is_media_list(media: object) -> bool:
    """Whether this is a valid list of attachments of a chat message, or None."""
    if media is None:
        return True
    return isinstance(media, list) and all(
        isinstance(entry, dict)
        and str(entry.get("url")).startswith("https://")
        and isinstance(entry.get("mime"), str)
        and isinstance(entry.get("isExplicit"), bool)
        and isinstance(entry.get("aspectRatio", ""), str)
        for entry in media
    )


def _are_mentions(metas: object, text: str) -> bool:
    """Whether this is a valid list of users whom the text mentions, or None."""
    if metas is None:
        return True
    return isinstance(metas, list) and all(
        isinstance(entry, dict)
        and str(entry.get("id")).isdecimal()
        and isinstance(entry.get("handle"), str)
        and f"@{entry['handle']}" in text
        for entry in metas
    )


def socket_mismatches(
    headers: Mapping[str, str], query: Mapping[str, str], sessions: Container[str]
) -> list[Mismatch]:
    """The mistakes in the opening of a socket, in the order in which the server checks."""
    found = []
    if "protoo" not in [name.strip() for name in headers.get("Sec-WebSocket-Protocol", "").split(",")]:
        found.append(Mismatch(403, "the sub-protocol protoo is not offered"))
    if bearer(headers) not in sessions:
        found.append(Mismatch(401, "Authorization holds no known bearer token"))
    if headers.get("API-Version") != "4":
        found.append(Mismatch(400, "API-Version is not '4'"))
    found += [Mismatch(400, f"the query lacks {key}") for key in ("roomId", "peerId") if not query.get(key)]
    return found
