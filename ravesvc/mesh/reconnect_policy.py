"""When a worker tries again to connect, and when it gives up. No I/O.

One failure says little about a mesh, and neither do three within three seconds: its server may be restarting. So a
worker gives up only when enough attempts in a row have failed *and* the first of them is long enough ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ravesvc.config.worker_settings import STABLE_AFTER_S
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.room.close import CloseKind

_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 60.0
# A pause whose length the server does not say: doubled each time, up to the second.
_FIRST_PAUSE_S = 30.0
_MAX_PAUSE_S = 600.0
# After a pause the bots come back over a time that is this share of the pause, and no longer than the second.
_SPREAD_SHARE = 0.2
_MAX_SPREAD_S = 60.0

_IMMEDIATE_STATUS = {
    Code.NOT_FOUND: ExitStatus.GONE,
    Code.UNAUTHORIZED: ExitStatus.LOGIN_NEEDED,
    Code.LOGIN_NEEDED: ExitStatus.LOGIN_NEEDED,
    # No login helps against these. But like a missing login they concern the whole account, and the next good round
    # of discovery shows that they are over.
    Code.IDENTITY: ExitStatus.LOGIN_NEEDED,
    Code.CLOCK: ExitStatus.LOGIN_NEEDED,
}
# The server knows the account and refuses it, which may pass. With every other failure it could not be reached.
_STATUS_AFTER_LAST_ATTEMPT = {
    Code.FORBIDDEN: ExitStatus.REJECTED,
    Code.REFUSED: ExitStatus.REJECTED,
    Code.BUSY: ExitStatus.ELSEWHERE,
}


class ReconnectPolicy:
    """Counts the failures in a row to connect to one mesh.

    Attributes:
        failures: attempts that have failed since the last stable connection.
    """

    def __init__(self, max_attempts: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Give up after `max_attempts` failures in a row that span at least `window` seconds by `clock`."""
        self.failures = 0
        self._max_attempts = max_attempts
        self._window = window
        self._clock = clock
        self._failing_since = 0.0  # by the clock; means nothing while there are no failures
        self._early_losses = 0  # connections in a row that were lost before they were stable
        self._unsaid_pauses = 0  # pauses in a row whose length the server did not say
        self._pause_s = 0.0

    def restore(self, failures: int, failing_for: float) -> None:
        """Count failures of earlier processes too: so many in a row, the first of them `failing_for` seconds ago."""
        if failures:
            # Failures of this process, if there are any already, came later.
            self._failing_since = self._clock() - failing_for
            self.failures += failures

    def failed(self, error: RaveError, kind: CloseKind | None) -> ExitStatus | None:
        """Count a failed attempt; returns the status to end with if there should be no other.

        `kind` is how the room was closed, or None if the attempt did not get that far.
        """
        if kind is CloseKind.KICKED:
            return ExitStatus.KICKED
        if kind is CloseKind.TOO_LARGE:
            return ExitStatus.TOO_LARGE
        if error.code in _IMMEDIATE_STATUS:
            return _IMMEDIATE_STATUS[error.code]
        if kind is CloseKind.REJECTED:
            return self._count(ExitStatus.REJECTED)
        return self._count(_STATUS_AFTER_LAST_ATTEMPT.get(error.code, ExitStatus.UNREACHABLE))

    def ended(self, kind: CloseKind, held: float) -> ExitStatus | None:
        """Take note of the end of a connection that was open for `held` seconds; returns as `failed` does.

        A lost connection is not a failure, but one that was lost early makes the next delay longer.
        """
        if held >= STABLE_AFTER_S:
            self.failures = self._early_losses = 0
        if kind is CloseKind.KICKED:
            return ExitStatus.KICKED
        if kind is CloseKind.TOO_LARGE:
            # The server would send the same over the next connection.
            return ExitStatus.TOO_LARGE
        if kind is CloseKind.REJECTED:
            return self._count(ExitStatus.REJECTED)
        if held < STABLE_AFTER_S and kind is not CloseKind.LOCAL:
            self._early_losses += 1
        return None

    def paused(self, seconds: float) -> float:
        """The server asks for a pause of so many seconds, 0 when it does not say; returns the seconds to wait.

        That is no failure of the mesh, however often it happens. `delay` returns the pause the next time.
        """
        if not seconds:
            seconds = min(_FIRST_PAUSE_S * 2.0 ** min(self._unsaid_pauses, 10), _MAX_PAUSE_S)
            self._unsaid_pauses += 1
        self._pause_s = seconds
        return seconds

    def opened(self) -> None:
        """The server has let us in."""
        self._unsaid_pauses = 0

    def delay(self, jitter: float) -> float:
        """Seconds until the next attempt; `jitter` is from [0, 1).

        They double with each failure, up to a minute. After a pause they are never fewer than that; the jitter keeps
        the bots, which were all asked for the pause at the same time, from coming back at the same time.
        """
        pause, self._pause_s = self._pause_s, 0.0
        if pause:
            return pause + jitter * min(max(1.0, _SPREAD_SHARE * pause), _MAX_SPREAD_S)
        doublings = self.failures + self._early_losses
        if not doublings:
            # A server that restarts ends the connections of all bots at the same moment.
            return jitter * _FIRST_DELAY_S
        return min(_FIRST_DELAY_S * 2.0 ** min(doublings - 1, 10), _MAX_DELAY_S) * (1 + jitter) / 2

    def _count(self, last: ExitStatus) -> ExitStatus | None:
        """Count a failure; returns `last` if the worker is to give up with it."""
        now = self._clock()
        if not self.failures:
            self._failing_since = now
        self.failures += 1
        enough = self.failures >= self._max_attempts and now - self._failing_since >= self._window
        return last if enough else None
