"""One round of discovery, as ravectl requests and follows it."""

from __future__ import annotations

import asyncio

from ravesvc.ctl.client import Service
from ravesvc.errors import Code, RaveError


class DiscoveryRun:
    """One round, from the request to its end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # The number of the first round that begins after the request; one that is under way may have read too early.
        self._round: int | None = None
        self._over: asyncio.Future[int | RaveError]

    async def run(self) -> int:
        """The number of meshes; raises `RaveError` when the round fails, or the service goes away."""
        self._over = asyncio.get_running_loop().create_future()
        await self._service.on_signal("DiscoveryFinished", self._finished)
        await self._service.on_end(self._end)
        (self._round,) = await self._service.ask("Discover")
        found = await self._over
        if isinstance(found, RaveError):
            raise found
        return found

    def _finished(self, number: int, meshes: int, error: str) -> None:
        if self._round is None or number < self._round:
            return
        failure = RaveError(Code.NETWORK, f"Rave could not be asked, so nothing changes: {error}")
        self._end(failure if error else meshes)

    def _end(self, found: int | RaveError) -> None:
        # A failure is a result like any other: when the request itself is refused, it is never looked at, and asyncio
        # would print an exception that is never looked at.
        if not self._over.done():
            self._over.set_result(found)
