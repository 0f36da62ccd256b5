"""Reads a file soon after it was edited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# The wait after an edit, as editors change a file in several steps.
_SETTLING_S = 0.2


class Settled:
    """Has `read` called soon after an edit, once for several that come together, and again for one during a call."""

    def __init__(self, read: Callable[[], Awaitable[object]]) -> None:
        self._read = read
        self._edited = False
        self._reading: asyncio.Task[None] | None = None

    def edited(self) -> None:
        """The file has changed."""
        self._edited = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_settled())

    async def close(self) -> None:
        """Wait until what was edited has been read."""
        if self._reading:
            await asyncio.wait([self._reading])

    async def _read_settled(self) -> None:
        # An edit that comes while the file is read may have been missed, so the file is read once more.
        while self._edited:
            await asyncio.sleep(_SETTLING_S)
            self._edited = False
            await self._read()
