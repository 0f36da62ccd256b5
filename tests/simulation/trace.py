"""What has happened: a digest of all of it, and the last events in words."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

_LAST_EVENTS = 60


@dataclass(frozen=True, order=True, slots=True)
class Event:
    """`at` is in seconds of the monotonic clock; `mesh` is empty for what concerns no mesh alone."""

    at: float
    mesh: str
    what: str

    def __str__(self) -> str:
        return f"{stamp(self.at)}  {self.mesh or '-':36}  {self.what}"


class Trace:
    """Collects events, of which it keeps the last."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.blake2b(digest_size=8)
        self._last: deque[Event] = deque(maxlen=100 * _LAST_EVENTS)

    def add(self, at: float, mesh: str, what: str) -> None:
        """Something has happened, to a mesh or (with an empty id) to all."""
        self.count += 1
        self._digest.update(f"{at:.3f}{mesh}{what}\n".encode())
        self._last.append(Event(at, mesh, what))

    @property
    def digest(self) -> str:
        """The same for two runs in which the same has happened."""
        return self._digest.hexdigest()

    def about(self, mesh: str) -> list[Event]:
        """The last events of a mesh, and the last that concern no mesh alone; of all if `mesh` is empty."""
        if not mesh:
            return list(self._last)[-_LAST_EVENTS:]
        numbered = list(enumerate(self._last))
        own = [(number, event) for number, event in numbered if event.mesh == mesh]
        common = [(number, event) for number, event in numbered if not event.mesh]
        return [event for _, event in sorted((*own[-_LAST_EVENTS:], *common[-_LAST_EVENTS:]))]


def stamp(at: float) -> str:
    """A moment for people: days, hours, minutes, seconds."""
    minutes, seconds = divmod(at, 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    return f"day {days:3d} {hours:02d}:{minutes:02d}:{seconds:06.3f}"
