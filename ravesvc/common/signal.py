"""Announcements inside one process.

    finished = Signal[int]("finished rounds")
    finished.connect(show)
    finished.emit(3)

What waits for an answer is no announcement: it is a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class Signal(Generic[T]):
    """Calls each handler that was connected, in the order of connection.

    A handler that raises is a fault of this program, which is logged; the other handlers are called all the same, and
    `emit` does not raise. `name` says in the log what was announced.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handlers: list[Callable[[T], object]] = []

    def connect(self, handler: Callable[[T], object]) -> None:
        """Have `handler` called with each value from now on."""
        self._handlers.append(handler)

    def emit(self, value: T) -> None:
        """Call all handlers with a value."""
        for handler in self._handlers:
            try:
                handler(value)
            except Exception:
                log.exception("A handler of %s failed", self._name)
