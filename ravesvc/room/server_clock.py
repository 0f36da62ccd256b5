"""The server's clock, estimated from its messages; no I/O.

The position in a video counts from a moment on the server's clock. Our own may be minutes ahead of it or behind, so
it is estimated:

    the bot joins: the state says time 1000. The video was put on then, a second or ten hours ago: we can't tell.
    a user pauses: the state says time 1500. It was set while we were here, so the clock says 1500 just now.
    a user joins: the state says time 1500 again, and nothing new about the clock.

A message that was under way for long, or waited while the machine slept, says a time that is past. So of the last
few, the one counts that has the server's clock furthest ahead. One that is wrong and far in the future would count
until as many later ones have come, so it is ignored.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_MAX_ESTIMATES = 8
# How far the server's clock may be ahead of ours. A machine whose clock is further behind ignores every time it gets.
_MAX_AHEAD_S = 86_400.0
# Unlike the monotonic clock it goes on while the machine sleeps. macOS lacks it, and has the other one do so.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ServerClock:
    """An estimate of the server's clock. It outlives the connection, and the next connection goes on with it.

    Attributes:
        known: whether messages gave the server's time. Until then `now` is this machine's clock, unless a message
            proves it wrong.
    """

    def __init__(
        self,
        *,
        steady: Callable[[], float] = lambda: time.clock_gettime(_BOOTTIME),
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`steady` counts seconds and can't be set; `wall` is this machine's clock, in seconds since the epoch."""
        self._steady = steady
        self._wall = wall
        self._last_set_at: float | None = None
        self._ahead_of_steady: deque[float] = deque(maxlen=_MAX_ESTIMATES)
        # The server's clock is at least this far ahead of `steady`: a report that may be old gives no more than that.
        self._at_least = float("-inf")

    @property
    def known(self) -> bool:
        """See the attributes."""
        return bool(self._ahead_of_steady)

    def now(self) -> float:
        """The server's clock now, in seconds since the epoch, at best guess."""
        if self.known:
            return self._steady() + max(self._ahead_of_steady)
        return max(self._wall(), self._steady() + self._at_least)

    def connected(self) -> None:
        """A connection begins, whose first message may be about long ago."""
        self._last_set_at = None

    def observe(self, set_at: float) -> None:
        """A state message has come in that was set at this moment of the server's clock."""
        if set_at > self._wall() + _MAX_AHEAD_S:
            return
        before, self._last_set_at = self._last_set_at, set_at
        ahead = set_at - self._steady()
        if before is not None and set_at > before:
            self._ahead_of_steady.append(ahead)
        else:
            self._at_least = max(self._at_least, ahead)
