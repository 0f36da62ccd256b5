"""What has to be done once, however many changes have made it necessary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Coalesced:
    """Has `run` called in the next turn of the event loop, once, however often it is scheduled before."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._handle: asyncio.Handle | None = None

    def schedule(self) -> None:
        """Have it called."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._call)

    def cancel(self) -> None:
        """Have it not called, unless it is scheduled anew."""
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _call(self) -> None:
        # What `run` changes itself may make another call necessary.
        self._handle = None
        self._run()
