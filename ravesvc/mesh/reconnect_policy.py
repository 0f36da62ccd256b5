"""When to try again, and when to give up for good. No I/O.

One failure says little about a mesh, and neither do three within three seconds: its server may be restarting. So the
last attempt is the one that fails when there were enough in a row *and* the first of them is long enough ago.
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
# Seconds of a pause whose length the server does not say: doubled each time, up to the second.
_FIRST_PAUSE_S = 30.0
_MAX_PAUSE_S = 600.0
# Over which part of a pause its end is spread, and seconds that that takes at most.
_SPREAD_SHARE = 0.2
_MAX_SPREAD_S = 60.0

_IMMEDIATE_STATUS = {
    Code.NOT_FOUND: ExitStatus.GONE,
    Code.UNAUTHORIZED: ExitStatus.LOGIN_NEEDED,
    Code.LOGIN_NEEDED: ExitStatus.LOGIN_NEEDED,
    # No login cures these, but like it they are the account's, and over with the next good round of discovery.
    Code.IDENTITY: ExitStatus.LOGIN_NEEDED,
    Code.CLOCK: ExitStatus.LOGIN_NEEDED,
}
# The server knows us and says no, which may pass; everything else that fails is a matter of reaching it.
_STATUS_AFTER_LAST_ATTEMPT = {
    Code.FORBIDDEN: ExitStatus.REJECTED,
    Code.REFUSED: ExitStatus.REJECTED,
    Code.BUSY: ExitStatus.ELSEWHERE,
}


class ReconnectPolicy:
    """Counts the failures in a row to connect to one mesh.

    Attributes:
        failures: attempts that failed since a connection last held.
    """

    def __init__(self, most: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` failures in a row are the last when they span at least `window` seconds by `clock`."""
        self.failures = 0
        self._most = most
        self._window = window
        self._clock = clock
        self._failing_since = 0.0  # by the clock; means nothing while there are no failures
        self._drops = 0
        self._pauses = 0  # in a row whose length was not said
        self._pause = 0.0

    def resume(self, failures: int, failing_for: float) -> None:
        """There were failures in a row before this process, the first of them `failing_for` seconds ago."""
        if failures:
            # Ours, if there are any already, came later.
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
        """Take note of a connection that was open for `held` seconds; returns as `failed` does.

        One that was lost is not a failure, but one lost early makes the next delay longer.
        """
        if held >= STABLE_AFTER_S:
            self.failures = self._drops = 0
        if kind is CloseKind.KICKED:
            return ExitStatus.KICKED
        if kind is CloseKind.TOO_LARGE:
            # The next connection would be sent the same.
            return ExitStatus.TOO_LARGE
        if kind is CloseKind.REJECTED:
            return self._count(ExitStatus.REJECTED)
        if held < STABLE_AFTER_S and kind is not CloseKind.LOCAL:
            self._drops += 1
        return None

    def paused(self, seconds: float) -> float:
        """The server asks for a pause of so many seconds, 0 when it does not say; returns those that it gets.

        That is no failure of the mesh, however often it happens. The next `delay` is the pause.
        """
        if not seconds:
            seconds = min(_FIRST_PAUSE_S * 2.0 ** min(self._pauses, 10), _MAX_PAUSE_S)
            self._pauses += 1
        self._pause = seconds
        return seconds

    def opened(self) -> None:
        """The server has let us in."""
        self._pauses = 0

    def delay(self, jitter: float) -> float:
        """Seconds until the next attempt; `jitter` is from [0, 1).

        They double with each failure, up to a minute. After a pause that was asked for they are no fewer than that,
        and spread a little, because everybody was asked for it at the same time.
        """
        pause, self._pause = self._pause, 0.0
        if pause:
            return pause + jitter * min(max(1.0, _SPREAD_SHARE * pause), _MAX_SPREAD_S)
        doublings = self.failures + self._drops
        if not doublings:
            # Everybody else lost the connection at the same moment.
            return jitter * _FIRST_DELAY_S
        return min(_FIRST_DELAY_S * 2.0 ** min(doublings - 1, 10), _MAX_DELAY_S) * (1 + jitter) / 2

    def _count(self, last: ExitStatus) -> ExitStatus | None:
        """Count a failure; the last one ends the child with the status `last`."""
        now = self._clock()
        if not self.failures:
            self._failing_since = now
        self.failures += 1
        enough = self.failures >= self._most and now - self._failing_since >= self._window
        return last if enough else None
