"""How long the bot has been alone since the last human left; no I/O."""

from __future__ import annotations


class Solitude:
    """Tells when to leave an empty room: `grace` seconds after the last other user has left it.

    The time runs on over any number of connections. The bot does not leave a room in which it has met no user yet: it
    may be the first to come. Times are those of any steady clock.

    Attributes:
        leave_at: when the bot has been alone for long enough; None while it is not alone, or may stay.
    """

    def __init__(self, grace: float) -> None:
        """`grace` 0 means to stay, alone or not."""
        self.leave_at: float | None = None
        self._grace = grace
        self._has_met_users = False

    def look(self, others: int, now: float) -> None:
        """Take note that so many others are in the room."""
        if others:
            self._has_met_users, self.leave_at = True, None
        elif self._has_met_users and self._grace and self.leave_at is None:
            self.leave_at = now + self._grace
