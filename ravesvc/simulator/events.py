"""What happened: a bounded list of events, a list of the clients' mistakes, and waiting for either."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

# Enough for a test of 500 meshes; older events are dropped.
MAX_EVENTS = 5000
MAX_VIOLATIONS = 1000


class EventLog:
    """Events in order. Each has `seq` (from 1, no gaps), `at` (epoch seconds), `type` and facts of its type."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._violations: deque[dict[str, Any]] = deque(maxlen=MAX_VIOLATIONS)
        self._waiters = asyncio.Event()
        self._closed = False
        self.seq = 0

    def record(self, event_type: str, **facts: Any) -> None:
        """Add an event and wake all callers of `wait_until`."""
        self.seq += 1
        self._events.append({"seq": self.seq, "at": self._clock(), "type": event_type, **facts})
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._waiters.set()
        self._waiters = asyncio.Event()

    def after(self, seq: int) -> list[dict[str, Any]]:
        """The events kept that are younger than `seq`."""
        missing = min(self.seq - seq, len(self._events))
        return list(self._events)[len(self._events) - missing :] if missing > 0 else []

    def violation(self, where: str, what: str) -> None:
        """Record a client's mistake: `where` is the call or the socket, `what` describes it, without secrets."""
        self._violations.append({"at": self._clock(), "where": where, "what": what})
        self.record("violation", where=where, what=what)

    @property
    def violations(self) -> list[dict[str, Any]]:
        """The mistakes since the start or since they were last cleared: `{"at", "where", "what"}`."""
        return list(self._violations)

    def forget_violations(self) -> None:
        """Empty the list of mistakes."""
        self._violations.clear()

    def close(self) -> None:
        """End all waits, because the simulator stops."""
        self._closed = True
        self._wake_waiters()

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition` holds; it is tested after each event. False when `seconds` were not enough."""
        try:
            async with asyncio.timeout(seconds):
                while not (self._closed or condition()):
                    await self._waiters.wait()
        except TimeoutError:
            pass
        return condition()
