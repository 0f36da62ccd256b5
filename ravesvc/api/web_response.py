"""What servers answer to plugins."""

from __future__ import annotations

import json
from typing import Any

from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

# Seconds for one request with its redirects.
DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S = 10.0, 60.0


class WebResponse:
    """What a server has answered, with any status.

    Attributes:
        status: the HTTP status.
        body: as bytes.
    """

    # No dataclass: to make one takes each bot a millisecond at its start.
    __slots__ = ("body", "status")

    def __init__(self, status: int, body: bytes = b"") -> None:
        self.status = status
        self.body = body

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises `RaveError` (BadData)."""
        try:
            return json.loads(self.body)
        # Of many lists within lists the parser makes a RecursionError.
        except (ValueError, RecursionError):
            raise RaveError(Code.BAD_DATA, _("the server has answered no JSON")) from None
