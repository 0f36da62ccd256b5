"""Decides when a mesh that should run may be started: not during a pause, an outage or a delay, and not too fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from ravesvc.core.mesh_state import MeshState
from ravesvc.core.outages import Outages
from ravesvc.core.rave_pauses import Pace, Pauses
from ravesvc.core.start_delays import StartDelays
from ravesvc.errors import RaveError
from ravesvc.room import address


class StartPolicy:
    """Decides when a mesh may be started.

    Attributes:
        pauses: the pauses that Rave has asked for.
        outages: the failures that most meshes share.
        rests: the delays of meshes whose process has ended by itself.
    """

    def __init__(
        self,
        api_host: str,
        per_minute: int,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`api_host` is asked for every mesh; see `Pace` for `per_minute`. `wall` tells the time of day."""
        self._api_host = api_host
        self._pace = Pace(per_minute, clock)
        self._turns = asyncio.Lock()
        self.outages = Outages(clock, wall)
        self.rests = StartDelays(clock)
        self.pauses = Pauses(self._pace.slow_down, clock, wall)

    def set_pace(self, per_minute: int) -> None:
        """Start no more bots in a minute; see `Pace`."""
        self._pace.set(per_minute)

    def release(self, mesh: str) -> None:
        """Let a mesh be started now, because an operator wants that."""
        self.rests.end(mesh)
        self.outages.release(mesh)

    def stable(self, mesh: str) -> None:
        """Forget earlier failures of a mesh whose connection is stable."""
        self.rests.end(mesh)
        self.outages.stable(mesh)

    def forget(self, mesh: str) -> None:
        """Drop everything about a mesh that does not exist any more."""
        self.rests.end(mesh)
        self.outages.forget(mesh)

    def waiting(self, records: Iterable[MeshState]) -> dict[str, str]:
        """The ids of the meshes that must not be started now, each with the reason in words."""
        known = list(records)
        waiting = self.outages.waiting(record.mesh for record in known)
        if self.pauses.any():
            waiting |= {record.mesh: why for record in known if (why := self.pause(record)[1])}
        return waiting

    def must_wait(self, record: MeshState) -> bool:
        """Whether a mesh must not be started now."""
        return record.mesh in self.waiting([record])

    def pause(self, record: MeshState) -> tuple[float, str]:
        """For how many more seconds the bot of a mesh must not call Rave, and why in words; 0 when it may."""
        return self.pauses.left(self._hosts(record))

    def rate_limited(self, record: MeshState, host: str, seconds: int) -> str:
        """Record a pause that a bot reports; returns it in words, empty if the bot does not call that host."""
        if host not in self._hosts(record) or not seconds:
            return ""
        self.pauses.claim(host, record.mesh, seconds)
        return self.pauses.words(host) or f"{host} asks for a pause"

    async def turn(self) -> None:
        """Wait until one more bot may be started."""
        # The lock lets callers pass one after another, in the order in which they came.
        async with self._turns:
            while wait := self._pace.take():  # noqa: ASYNC110 - it is time that is waited for
                await asyncio.sleep(wait)

    def _hosts(self, record: MeshState) -> list[str]:
        """The hosts that the bot of a mesh calls: Rave's API, and the mesh's own server if that is known."""
        try:
            return [self._api_host, address.parse(record.server).host] if record.server else [self._api_host]
        except RaveError:
            return [self._api_host]
