"""Finds failures that most meshes share, for which no mesh is to blame: of a server, the account or the host. No I/O.

The failure of one mesh may be the first of many or the only one. Only the other meshes show which. So each failure is
recorded with its time, and when a mesh is to be judged, the last failures of all meshes are compared:

    mesh a   x . . x . . x           a's third failure is to be judged here: b and c fail as well, d does not:
    mesh b     x . . x . .           three of four, so the server is to blame.
    mesh c     x . . . x .
    mesh d   ---------------         connected all the time

Two meshes are too few for that, see `ExitPolicy`. While an outage lasts, its meshes are tried again with back-off.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ravesvc.common import dates
from ravesvc.common.text import count

log = logging.getLogger(__name__)

# Seconds after which a connection counts. Some servers accept a bot and close the connection at once.
SETTLED_S = 10.0
# The least number of meshes whose failures prove a common cause.
LEAST_MESHES = 3
# Seconds until the meshes of an outage are tried again: the delay is doubled each time, up to a maximum.
FIRST_DELAY_S = 10.0
MAX_DELAY_S = 600.0


class FailureKind(StrEnum):
    """What has failed."""

    CONNECTION = "connection"  # Rave, or the mesh's server, does not let the bot in.
    PROCESS = "process"  # The bot's process ends by itself, or can't begin.


# Seconds within which failures belong together. A bot that can't connect tries again at least once a minute, a
# process is started again within five.
WINDOWS = {FailureKind.CONNECTION: 120.0, FailureKind.PROCESS: 360.0}


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of a mesh: when (seconds of a monotonic clock), on which server, and why in words."""

    at: float
    server: str
    words: str


@dataclass(frozen=True, slots=True)
class CommonCause:
    """A common cause.

    Attributes:
        kind: the kind of the failures.
        server: the server that has failed; empty if the meshes of all servers are concerned.
        meshes: the meshes that have failed.
        of: how many meshes could have failed.
        words: the error that most of them report.
    """

    kind: FailureKind
    server: str
    meshes: frozenset[str]
    of: int
    words: str

    @property
    def total(self) -> bool:
        """Whether all meshes have failed."""
        return len(self.meshes) == self.of

    def describe(self) -> str:
        """The common cause in words."""
        hit = "all meshes" if self.total else f"{len(self.meshes)} of {count(self.of, 'mesh')}"
        if self.kind is FailureKind.PROCESS:
            return f"the processes of {hit} fail: {self.words}"
        where = f" of {self.server}" if self.server else ""
        return f"{hit}{where} can't be reached: {self.words}"


def common_cause(
    mesh: str, kind: FailureKind, failures: Mapping[str, Failure], fine: Mapping[str, str], now: float
) -> CommonCause | None:
    """The common cause of a mesh's failure; None if the failure may be the mesh's own.

    Args:
        mesh: the mesh to judge, which has failed.
        kind: the kind of its failure.
        failures: by mesh, its last failure of this kind.
        fine: the meshes that have not failed, with their servers.
        now: seconds of the same clock as those of the failures.
    """
    recent = {each: failure for each, failure in failures.items() if now - failure.at <= WINDOWS[kind]}
    if mesh not in recent:
        return None
    # Look at all servers first: if the meshes of all fail, no single server is to blame.
    servers = [""] if kind is FailureKind.PROCESS or not recent[mesh].server else ["", recent[mesh].server]
    for server in servers:
        hit = {each: failure for each, failure in recent.items() if server in ("", failure.server)}
        spared = [each for each, where in fine.items() if server in ("", where) and each not in hit]
        if len(hit) >= LEAST_MESHES and len(hit) > len(spared):
            (words, _), *_ = Counter(failure.words for failure in hit.values()).most_common(1)
            return CommonCause(kind, server, frozenset(hit), len(hit) + len(spared), words)
    return None


@dataclass(slots=True)
class _Outage:
    """One that lasts: the last verdict, since when (wall clock), how often it was tried again, and when next.

    `meshes` are all that have met it, `released` those of them that need not wait.
    """

    verdict: CommonCause
    since: float
    tries: int = 0
    retry_at: float = 0.0
    meshes: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)


class Outages:
    """The failures of all meshes, and the outages that are under way. Pure but for its clocks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._failures: dict[FailureKind, dict[str, Failure]] = {kind: {} for kind in FailureKind}
        self._connected: dict[str, float] = {}  # since when, by the mesh
        self._outages: dict[tuple[FailureKind, str], _Outage] = {}

    def failed(self, mesh: str, kind: FailureKind, server: str | None, words: str) -> None:
        """Record a failure. The mesh's id is removed from `words`, so that errors of other meshes look equal."""
        text = words.replace(f" {mesh}", "")
        self._connected.pop(mesh, None)
        self._failures[kind][mesh] = Failure(self._clock(), server or "", text)

    def connected(self, mesh: str) -> None:
        """Record that a mesh is connected. If that lasts, the outage of its connections is over."""
        self._connected.setdefault(mesh, self._clock())

    def disconnected(self, mesh: str) -> None:
        """Record that a mesh has lost its connection."""
        self._connected.pop(mesh, None)

    def stable(self, mesh: str) -> None:
        """Record that a mesh is stable, which ends the outage of processes that it was part of."""
        self._failures[FailureKind.PROCESS].pop(mesh, None)
        for (kind, server), outage in list(self._outages.items()):
            if kind is FailureKind.PROCESS and mesh in outage.meshes:
                del self._outages[kind, server]

    def release(self, mesh: str) -> None:
        """Let a mesh be tried now, because an operator wants that."""
        for outage in self._outages.values():
            outage.released.add(mesh)

    def forget(self, mesh: str) -> None:
        """Drop everything about a mesh that does not exist any more."""
        self._connected.pop(mesh, None)
        for failures in self._failures.values():
            failures.pop(mesh, None)
        for key, outage in list(self._outages.items()):
            outage.meshes.discard(mesh)
            if not outage.meshes:
                del self._outages[key]

    def clear(self) -> None:
        """Drop all failures and outages, after a change that concerns all meshes, such as a new session."""
        for failures in self._failures.values():
            failures.clear()
        self._outages.clear()

    def judge(self, mesh: str, kind: FailureKind, fine: Mapping[str, str]) -> CommonCause | None:
        """Find the common cause of a mesh's failure, see `common_cause`. It begins an outage, or prolongs it."""
        failures = self._failures[kind]
        if kind is FailureKind.CONNECTION:
            failures = {each: failure for each, failure in failures.items() if not self._settled(each)}
        verdict = common_cause(mesh, kind, failures, fine, self._clock())
        if verdict:
            self._go_on(verdict)
        return verdict

    def waiting(self, meshes: Iterable[str]) -> dict[str, str]:
        """Those of `meshes` that wait for the next try of an outage, each with the reason in words."""
        now, wanted = self._clock(), set(meshes)
        waiting: dict[str, str] = {}
        for outage in self._lasting():
            if outage.retry_at > now:
                again = dates.in_sentence(self._wall() + outage.retry_at - now)
                why = f"{outage.verdict.describe()}; it is tried again on {again}"
                waiting |= dict.fromkeys((outage.meshes & wanted) - outage.released, why)
        return waiting

    def sentences(self) -> list[str]:
        """The outages, a sentence each."""
        return [
            f"{outage.verdict.describe()} (since {dates.in_sentence(outage.since)}, trying again with back-off)"
            for outage in self._lasting()
        ]

    def _go_on(self, verdict: CommonCause) -> None:
        now, key = self._clock(), (verdict.kind, verdict.server)
        if key not in self._outages:
            self._outages[key] = _Outage(verdict, self._wall())
            log.warning("%s: no mesh is blocked for that, all are tried again with back-off", verdict.describe())
        outage = self._outages[key]
        outage.verdict = verdict
        outage.meshes |= verdict.meshes
        # Failures before the next try belong to the last one, and do not lengthen the delay.
        if now >= outage.retry_at:
            outage.retry_at = now + min(FIRST_DELAY_S * 2.0 ** min(outage.tries, 10), MAX_DELAY_S)
            outage.tries += 1
            outage.released.clear()

    def _lasting(self) -> list[_Outage]:
        """The outages that are not over: one ends when its meshes were tried again and none has failed since."""
        now = self._clock()
        for key, outage in list(self._outages.items()):
            kind = outage.verdict.kind
            failures = self._failures[kind]
            last = max((failures[mesh].at for mesh in outage.meshes if mesh in failures), default=0.0)
            settled = kind is FailureKind.CONNECTION and any(map(self._settled, outage.meshes))
            if settled or now > max(last, outage.retry_at) + WINDOWS[kind]:
                del self._outages[key]
        return list(self._outages.values())

    def _settled(self, mesh: str) -> bool:
        since = self._connected.get(mesh)
        return since is not None and self._clock() - since >= SETTLED_S
