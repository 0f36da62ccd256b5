"""How long the bot has been alone since the last human left; no I/O."""

from __future__ import annotations


class Solitude:
    """Knows when to leave an empty room: `grace` seconds after the last human has, over any number of connections.

    A room that no user has been in is not left: the bot may be the first to come. Times are those of any steady
    clock.

    Attributes:
        leave_at: when the bot has been alone for long enough; None while it is not alone, or may stay.
    """

    def __init__(self, grace: float) -> None:
        """`grace` 0 means to stay for ever."""
        self.leave_at: float | None = None
        self._grace = grace
        self._met = False

    def look(self, others: int, now: float) -> None:
        """There are so many others in the room."""
        if others:
            self._met, self.leave_at = True, None
        elif self._met and self._grace and self.leave_at is None:
            self.leave_at = now + self._grace
