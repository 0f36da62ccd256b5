"""What a proxy says to CONNECT."""

from __future__ import annotations

from ravesvc.config import proxy
from ravesvc.config.worker_options import Proxy
from tests.fuzz.rules import check_errors

_PROXY = Proxy(host="proxy.test", port=3128, user="u", password="secret")


def check(data: bytes) -> None:
    """It is a connection, or a refusal in words that quote no password."""
    error = proxy.refusal(_PROXY, data, "api.rave.test", 443)
    if error:
        assert "secret" not in str(error)
        check_errors([error])
    assert data.startswith(b"HTTP/1.")
