"""What a plugin can ask of servers of the internet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ravesvc.api.web_response import DEFAULT_TIMEOUT_S, WebResponse


class Http(Protocol):
    """Requests by https to hosts of the public internet, on a port of `connect_ports` in rave.yaml (443).

    An answer has at most 1 MiB, a request 256 KiB. A bot may make a request a second, after twenty at once, of which
    four run at the same time. The time of a request is part of that of the command.

    Every method raises `RaveError`, in words fit for the chat: InvalidArgument (what was given makes no sense),
    Forbidden (a host that is not of the public internet), RateLimited, Network, Timeout, Tls, BadData.
    """

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - as authors expect
    ) -> WebResponse:
        """The answer to a GET request. Up to three redirects are followed, without the headers to another host.

        `timeout` is in seconds, at most 60.
        """

    async def post(
        self,
        url: str,
        *,
        json: Any,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> WebResponse:
        """The answer to a POST request with JSON. No redirect is followed."""
