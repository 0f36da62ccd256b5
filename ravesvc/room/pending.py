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
        self._futures: dict[int, asyncio.Future[Outcome]] = {}

    def add(self) -> tuple[int, asyncio.Future[Outcome]]:
        """A free id and the future of its outcome; the caller drops the id when it stops waiting."""
        request_id = self._pick_id()
        while request_id in self._futures:
            request_id = self._pick_id()
        future = self._futures[request_id] = asyncio.get_running_loop().create_future()
        return request_id, future

    def drop(self, request_id: int) -> None:
        """Remove a request; an answer that comes later is ignored."""
        self._futures.pop(request_id, None)

    def resolve(self, answer: Response | ErrorResponse) -> bool:
        """Set the outcome of the request that this answers; False if there is no such request."""
        future = self._futures.pop(answer.id, None)
        if future is None or future.done():
            return False
        future.set_result(answer)
        return True

    def end(self) -> None:
        """Set the outcome None on all requests: no answer will come.

        Not an exception: asyncio logs an exception of a future that no caller has fetched.
        """
        for future in self._futures.values():
            if not future.done():
                future.set_result(None)
        self._futures.clear()
