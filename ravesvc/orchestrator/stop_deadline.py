"""Finds bots that do not stop in time.

systemd kills a bot after `shutdown_timeout`, but a bot may ask for more time, and one that was taken over can do that
for ever. So the service measures the time, too. It goes by the state of the unit, which the bot can't influence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ravesvc.systemd.unit_state import UnitState


class StopDeadline:
    """Calls `kill` for each bot whose unit has been stopping for `limit` seconds, and again after as many more.

    Args:
        limit: seconds.
        kill: called with the id of the mesh.
    """

    def __init__(self, limit: float, kill: Callable[[str], object]) -> None:
        self._limit = limit
        self._kill = kill
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def unit_changed(self, mesh: str, unit: UnitState) -> None:
        """Start or stop the timer of a mesh by the new state of its unit."""
        if unit.active != "deactivating":
            timer = self._timers.pop(mesh, None)
            if timer:
                timer.cancel()
        elif mesh not in self._timers:
            self._arm(mesh)

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _arm(self, mesh: str) -> None:
        self._timers[mesh] = asyncio.get_running_loop().call_later(self._limit, self._expired, mesh)

    def _expired(self, mesh: str) -> None:
        self._arm(mesh)
        self._kill(mesh)
