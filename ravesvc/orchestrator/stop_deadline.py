"""Bots that do not stop when they are told.

systemd kills a bot after `shutdown_timeout`, unless the bot keeps asking for more time: one that was taken over does.
So the time is taken here as well, by what systemd says of the unit and nothing that the bot can say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ravesvc.systemd.unit_state import UnitState


class StopDeadline:
    """Tells of each bot whose unit has been stopping for `limit` seconds, and again after as many more.

    Args:
        kill: called with the id of the mesh.
    """

    def __init__(self, limit: float, kill: Callable[[str], object]) -> None:
        self._limit = limit
        self._kill = kill
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def unit_changed(self, mesh: str, unit: UnitState) -> None:
        """The unit of a mesh is in another state."""
        if unit.active != "deactivating":
            timer = self._timers.pop(mesh, None)
            if timer:
                timer.cancel()
        elif mesh not in self._timers:
            self._arm(mesh)

    def close(self) -> None:
        """Tell of nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, mesh: str) -> None:
        self._timers[mesh] = asyncio.get_running_loop().call_later(self._limit, self._expired, mesh)

    def _expired(self, mesh: str) -> None:
        self._arm(mesh)
        self._kill(mesh)
