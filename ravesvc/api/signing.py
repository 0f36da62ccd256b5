"""The headers that every request to Rave's own servers carries, the signature among them. No I/O."""

from __future__ import annotations

import base64
import hashlib
import hmac

from ravesvc.config.worker_options import ClientIdentity
from ravesvc.config.worker_settings import Session
from ravesvc.errors import Code, RaveError


def request_hash(key: str, token: str, milliseconds: int, length: int) -> str:
    """The value of Request-Hash: what the server recomputes from key, token, time and size of the body.

    `key` is a text of hex digits that is used as text, `token` has no `r:` prefix, `milliseconds` is the value of
    Request-Ts, `length` the number of bytes of the body as sent, 0 without one. Method and URL are not signed.
    """
    message = f"{milliseconds}:{token}:{length}".encode()
    return base64.b64encode(hmac.digest(key.encode(), message, hashlib.sha256)).decode()


def headers(identity: ClientIdentity, session: Session, body: bytes | None, milliseconds: int) -> dict[str, str]:
    """All headers of a request made at `milliseconds` since the epoch; `body` must be sent as it is.

    Raises as `checked`.
    """
    made = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": f"Bearer {session.auth_token}",
        "Client-Version": identity.client_version,
        "Request-Hash": request_hash(identity.request_hash_key, session.auth_token, milliseconds, len(body or b"")),
        "Request-Ts": str(milliseconds),
        "Ssaid": session.ssaid,
        "User-Agent": identity.user_agent,
        "Wemesh-Api-Version": "4.0",
        "Wemesh-Platform": "android",
    }
    if body is not None:
        made["Content-Type"] = "application/json; charset=UTF-8"
    return checked(made)


def checked(made: dict[str, str]) -> dict[str, str]:
    """The headers as given; raises `RaveError` (Config) for a value that no header can hold.

    The error names the header, not the value.
    """
    for name, value in made.items():
        # Checked here, because the libraries below would show the value in their error.
        if not (value.isascii() and value.isprintable()):
            raise RaveError(
                Code.CONFIG,
                f"the {name} header can't hold what is configured for it",
                hint="look for line breaks and characters outside of ASCII",
                header=name,
            )
    return made
