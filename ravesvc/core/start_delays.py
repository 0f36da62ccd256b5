"""Meshes whose process has ended without an order to: when each may be started again. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

_FIRST_DELAY_S = 60.0
_MAX_DELAY_S = 3600.0


class StartDelays:
    """Keeps a mesh from being started until a good round of discovery, or until one that is further away.

    A process that ends at once would otherwise be started without end.

    Args:
        now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until: dict[str, float] = {}
        self._delays: dict[str, float] = {}  # the last one of each mesh that has failed, in seconds

    @property
    def meshes(self) -> AbstractSet[str]:
        """Those that are not to be started now."""
        return self._until.keys()

    def add(self, mesh: str) -> None:
        """It has ended: it waits for the next good round."""
        self._until.setdefault(mesh, self._now())

    def back_off(self, mesh: str) -> float:
        """It has ended for a reason that does not pass by itself: it waits twice as long each time.

        Returns the seconds until a good round of discovery may start it again.
        """
        delay = self._delays.get(mesh)
        self._delays[mesh] = delay = _FIRST_DELAY_S if delay is None else min(2 * delay, _MAX_DELAY_S)
        self._until[mesh] = self._now() + delay
        return delay

    def round_finished(self) -> None:
        """After a good round of discovery: those whose time has come may be started."""
        now = self._now()
        self._until = {mesh: until for mesh, until in self._until.items() if until > now}

    def end(self, mesh: str) -> None:
        """Let it be started at once; a further failure is its first."""
        self._until.pop(mesh, None)
        self._delays.pop(mesh, None)
