"""Decides when a mesh whose process has ended by itself may be started again. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

_FIRST_DELAY_S = 60.0
_MAX_DELAY_S = 3600.0


class StartDelays:
    """Keeps a mesh from being started until the next good round of discovery, or a later one after a back-off.

    Without this, a process that ends at once would be started again without end.

    Args:
        now: seconds of a monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until: dict[str, float] = {}
        self._delays: dict[str, float] = {}  # the last one of each mesh that has failed, in seconds

    @property
    def meshes(self) -> AbstractSet[str]:
        """The ids of the meshes that must not be started now."""
        return self._until.keys()

    def add(self, mesh: str) -> None:
        """Let a mesh wait for the next good round of discovery."""
        self._until.setdefault(mesh, self._now())

    def back_off(self, mesh: str) -> float:
        """Let a mesh wait because an operator has to fix something; twice as long each time.

        Returns the seconds until a good round of discovery may start it again.
        """
        delay = self._delays.get(mesh)
        self._delays[mesh] = delay = _FIRST_DELAY_S if delay is None else min(2 * delay, _MAX_DELAY_S)
        self._until[mesh] = self._now() + delay
        return delay

    def round_finished(self) -> None:
        """After a good round of discovery, release the meshes whose delay is over."""
        now = self._now()
        self._until = {mesh: until for mesh, until in self._until.items() if until > now}

    def end(self, mesh: str) -> None:
        """Release a mesh at once, and begin its back-off anew."""
        self._until.pop(mesh, None)
        self._delays.pop(mesh, None)
