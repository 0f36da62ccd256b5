"""Our requests that wait for an answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TypeAlias

from ravesvc.room.frames import ErrorResponse, Response

# None: the connection ended first.
Outcome: TypeAlias = Response | ErrorResponse | None


def _random_id() -> int:
    """Seven digits at most, like the ids of the app."""
    return secrets.randbelow(9_999_999) + 1


class Pending:
    """The table of open requests, and the source of ids that are unique among them."""

    def __init__(self, pick_id: Callable[[], int] = _random_id) -> None:
        self._pick_id = pick_id
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}

    def add(self) -> tuple[int, asyncio.Future[Outcome]]:
        """A free id and the future of its outcome; `drop` the id when nobody waits any more."""
        request_id = self._pick_id()
        while request_id in self._waiting:
            request_id = self._pick_id()
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        return request_id, future

    def drop(self, request_id: int) -> None:
        """Forget a request; an answer that comes later means nothing."""
        self._waiting.pop(request_id, None)

    def resolve(self, answer: Response | ErrorResponse) -> bool:
        """Hand an answer to whoever waits for it; False if nobody does."""
        future = self._waiting.pop(answer.id, None)
        if future is None or future.done():
            return False
        future.set_result(answer)
        return True

    def end(self) -> None:
        """Tell all who wait that no answer will come.

        An outcome rather than an exception: an exception that nobody fetches makes asyncio complain.
        """
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
