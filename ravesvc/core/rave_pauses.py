"""Which of Rave's servers ask for a pause, and how fast bots may be started. Pure.

A host asks for a pause by an answer such as 429 with Retry-After. The process that gets that answer keeps the pause,
and so do all others that ask that host. What the parent has been told itself counts in full. What a bot says is a
claim, for it may have been taken over: it keeps other bots from being started for some minutes, nothing more, and the
next claim of the same bot counts again only some time later. An honest pause that is longer is found out by the next
bot that starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ravesvc.api.failures import pause_words
from ravesvc.common.token_bucket import Rate, TokenBucket

# Seconds: how long a claim counts, and until another one of the same bot does.
MAX_CLAIMED_S = 300.0
CLAIM_AGAIN_S = 3 * MAX_CLAIMED_S
# More hosts than Rave has for a fleet, and bots than a machine runs.
_MAX_HOSTS = 1000
_MAX_CLAIMANTS = 10_000


@dataclass(frozen=True, slots=True)
class _Pause:
    """Until when by the monotonic clock, and whether that is a bot's word alone."""

    until: float
    claimed: bool


class Pauses:
    """The pauses that are to be kept, by host."""

    def __init__(
        self,
        asked: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`asked` is called whenever a pause counts; `wall` tells the time of day."""
        self._heard = asked
        self._clock = clock
        self._wall = wall
        self._own: dict[str, float] = {}
        self._claimed: dict[str, float] = {}
        self._counted: dict[str, float] = {}  # when a claim last counted, by the mesh whose bot made it

    def ask(self, host: str, seconds: float) -> None:
        """The host has asked us for a pause."""
        self._extend(self._own, host, seconds)
        self._heard()

    def claim(self, host: str, mesh: str, seconds: float) -> bool:
        """The bot of a mesh says that the host asks for a pause; tells whether that counts."""
        now = self._clock()
        last = self._counted.get(mesh)
        if seconds <= 0 or (last is not None and now - last < CLAIM_AGAIN_S):
            return False
        self._counted.pop(mesh, None)
        self._counted[mesh] = now
        if len(self._counted) > _MAX_CLAIMANTS:
            del self._counted[next(iter(self._counted))]
        self._extend(self._claimed, host, min(seconds, MAX_CLAIMED_S))
        self._heard()
        return True

    def any(self) -> bool:
        """Whether there is any pause."""
        now = self._clock()
        return any(until > now for pauses in (self._own, self._claimed) for until in pauses.values())

    def asked(self, host: str) -> float:
        """For how many more seconds no request may be sent to the host; 0 when it asks for no pause."""
        return max(0.0, self._own.get(host, 0.0) - self._clock())

    def left(self, hosts: Iterable[str]) -> tuple[float, str]:
        """For how many more seconds a bot may not call one of the hosts, and why; 0 when it may call all."""
        pauses = [(pause.until, host) for host in hosts if (pause := self._pause(host))]
        if not pauses:
            return 0.0, ""
        until, host = max(pauses)
        return until - self._clock(), self.words(host)

    def words(self, host: str) -> str:
        """The pause of a host in a sentence; empty when there is none."""
        pause = self._pause(host)
        if pause is None:
            return ""
        return pause_words(host, pause.until - self._clock(), self._wall) + (
            ", as a bot says" if pause.claimed else ""
        )

    def all_words(self) -> list[str]:
        """All pauses, a sentence each."""
        return [words for host in sorted(self._own.keys() | self._claimed.keys()) if (words := self.words(host))]

    def _pause(self, host: str) -> _Pause | None:
        own, claimed = self._own.get(host, 0.0), self._claimed.get(host, 0.0)
        until = max(own, claimed)
        return _Pause(until, claimed=claimed > own) if until > self._clock() else None

    def _extend(self, pauses: dict[str, float], host: str, seconds: float) -> None:
        now = self._clock()
        until = max(now + seconds, pauses.get(host, 0.0))
        for over in [each for each, end in pauses.items() if end <= now]:
            del pauses[over]
        if host in pauses or len(pauses) < _MAX_HOSTS:
            pauses[host] = until


class Pace:
    """How fast bots are started, for the sake of the account: joins are what Rave sees of us.

    Each pause that Rave asks for halves the pace; it is back after `RECOVERY` seconds without another one.
    """

    RECOVERY = 600.0
    # The slowest, as a part of what is configured; and how soon one pause may slow it down after another: all that
    # is asked at the same time is refused at the same time.
    SLOWEST = 1 / 16
    AT_ONCE = 30.0

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` starts, some seconds' worth of them at once; 0 for as many as the machine starts."""
        self._clock = clock
        self._slowed_at = 0.0
        self._slowed_to = 1.0  # part of the full pace, at that time
        self.set(per_minute)

    def set(self, per_minute: int) -> None:
        """Have another pace, and the starts of some seconds at once."""
        self._full = per_minute / 60
        self._bucket = TokenBucket(self._rate(1.0), self._clock()) if per_minute else None

    def take(self) -> float:
        """Start one and return 0.0, or start none and return the seconds until one may be started."""
        if self._bucket is None:
            return 0.0
        now = self._clock()
        if self._slowed_to < 1.0:
            self._bucket.change(self._rate(self._part(now)), now)
        return self._bucket.take(now)

    def slow_down(self) -> None:
        """Rave has asked for a pause."""
        now = self._clock()
        if self._slowed_to < 1.0 and now - self._slowed_at < self.AT_ONCE:
            return
        self._slowed_at, self._slowed_to = now, max(self.SLOWEST, self._part(now) / 2)

    def _part(self, now: float) -> float:
        """Which part of the full pace is allowed."""
        if self._slowed_to < 1.0 and now - self._slowed_at >= self.RECOVERY:
            self._slowed_to = 1.0
        recovered = (now - self._slowed_at) / self.RECOVERY if self._slowed_to < 1.0 else 0.0
        return self._slowed_to + (1.0 - self._slowed_to) * recovered

    def _rate(self, part: float) -> Rate:
        per_second = self._full * part
        return Rate(max(1, int(per_second * 10)), per_second)
