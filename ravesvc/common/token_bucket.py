"""A token bucket: a rate limit with a burst. It has no clock of its own."""

from __future__ import annotations

from typing import NamedTuple

# A sum of floats may miss a whole token by a rounding error; without this a second, tiny wait would follow a wait.
_EPSILON = 1e-9


class Rate(NamedTuple):
    """`burst` at once, and `per_second` in the long run."""

    burst: int
    per_second: float


class TokenBucket:
    """Full at first, refilled as time goes by. `now` is in seconds of any clock that does not go back."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0.0, or take none and return the seconds until there will be one."""
        wait = self.wait(now)
        if not wait:
            self._tokens -= 1.0
        return wait

    def wait(self, now: float) -> float:
        """The seconds until there will be a token, 0.0 if there is one. Takes none."""
        self._refill(now)
        return (1.0 - self._tokens) / self._rate.per_second if self._tokens < 1.0 - _EPSILON else 0.0

    def refund(self, now: float) -> None:
        """Put a token back: the action it was taken for does not count."""
        self._refill(now)
        self._tokens = min(self._tokens + 1.0, float(self._rate.burst))

    def change(self, rate: Rate, now: float) -> None:
        """Refill at another rate from now on; the tokens that are left stay, up to the new burst."""
        self._refill(now)
        self._rate = rate
        self._tokens = min(self._tokens, float(rate.burst))

    def _refill(self, now: float) -> None:
        self._tokens = min(float(self._rate.burst), self._tokens + (now - self._at) * self._rate.per_second)
        self._at = now
