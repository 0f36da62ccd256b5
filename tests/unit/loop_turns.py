"""How long the turns of an event loop are, in seconds of the processor, whatever else the machine does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

# What is promised are 0.05 s. Some tests run in debug mode, or with their lines watched.
MAX_TURN_S = 0.25


class Turns:
    """The longest turn so far, in seconds, and how many there were."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.count = 0


@contextmanager
def turns() -> Iterator[Turns]:
    """Measure the turns of the running event loop from now on."""
    loop, found = asyncio.get_running_loop(), Turns()
    run_once = loop._run_once  # type: ignore[attr-defined]

    def measured() -> None:
        begun = time.thread_time()
        run_once()
        found.longest = max(found.longest, time.thread_time() - begun)
        found.count += 1

    loop._run_once = measured  # type: ignore[attr-defined]
    try:
        yield found
    finally:
        loop._run_once = run_once  # type: ignore[attr-defined]
