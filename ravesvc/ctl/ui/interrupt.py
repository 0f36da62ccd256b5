"""Signals that ask a program to end, for work that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interrupting(task: asyncio.Task[Any]) -> Iterator[None]:
    """Cancel a task when one of these signals arrives."""
    loop = asyncio.get_running_loop()
    for number in _INTERRUPTS:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in _INTERRUPTS:
            loop.remove_signal_handler(number)
