"""How much the bot hears, says and does at once: token buckets and the numbers that they are filled with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ravesvc.common.token_bucket import Rate, TokenBucket

# Users whose bucket is remembered, and cooldowns. Beyond it the one unheard for longest starts afresh.
_REMEMBERED_USERS = 256
_REMEMBERED_COOLDOWNS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """The bounds of one bot in one mesh."""

    user: Rate = Rate(8, 1.0)  # commands of one user
    room: Rate = Rate(20, 2.0)  # commands of everybody together
    outgoing: Rate = Rate(5, 1.0)  # messages sent
    queued: int = 32  # messages waiting to be sent
    length: int = 1000  # characters in one message; how many Rave takes is unknown, hence a cautious number
    running: int = 8  # commands running at the same time; as many event handlers besides
    reserved: int = 2  # commands of admins, beyond those
    seconds: float = 60.0  # for one command or one event handler


class Bucket(TokenBucket):
    """A token bucket of a user who is warned once when it is empty."""

    __slots__ = ("warned",)

    def __init__(self, rate: Rate, now: float) -> None:
        super().__init__(rate, now)
        self.warned = False

    def refusal(self, now: float) -> RateLimited | None:
        """Take a token; without one, say how long to wait for it, and whether that is said for the first time."""
        wait = self.take(now)
        first, self.warned = not self.warned, wait > 0
        return RateLimited(wait, first) if wait > 0 else None


@dataclass(frozen=True, slots=True)
class RateLimited:
    """A command too many. `first` tells that nobody was told yet: one warning per burst is enough."""

    wait: float
    first: bool


class Throttle:
    """Whether one more command is within the rates of its user and of the room."""

    def __init__(self, limits: CommandLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._room = Bucket(limits.room, clock())
        self._users: OrderedDict[int | None, Bucket] = OrderedDict()

    def refusal(self, user_id: int | None) -> RateLimited | None:
        """Count a command of this user; None lets it pass. Senders without a user id count as one user."""
        now = self._clock()
        return self._taken((self._bucket(user_id, now), self._room), now)

    def refusal_of_admin(self, user_id: int | None) -> RateLimited | None:
        """As `refusal`, whatever the room is up to: strangers must not keep an admin from ruling over it."""
        now = self._clock()
        return self._taken((self._bucket(user_id, now),), now)

    def _taken(self, buckets: Iterable[Bucket], now: float) -> RateLimited | None:
        return next((refusal for bucket in buckets if (refusal := bucket.refusal(now))), None)

    def _bucket(self, user_id: int | None, now: float) -> Bucket:
        bucket = self._users.get(user_id)
        if bucket is None:
            bucket = self._users[user_id] = Bucket(self._limits.user, now)
            if len(self._users) > _REMEMBERED_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end(user_id)
        return bucket


class Cooldowns:
    """Whether a user may run a command again already."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, float, int | None], Bucket] = OrderedDict()

    def refusal(self, name: str, seconds: float, user_id: int | None) -> RateLimited | None:
        """Count a run of a command with this cooldown; None lets it pass. Senders without a user id are one user."""
        if seconds <= 0:
            return None
        now = self._clock()
        key = name, seconds, user_id
        bucket = self._buckets.setdefault(key, Bucket(Rate(1, 1 / seconds), now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _REMEMBERED_COOLDOWNS:
            self._buckets.popitem(last=False)
        return bucket.refusal(now)

    def take_back(self, name: str, seconds: float, user_id: int | None) -> None:
        """Count the last such run no longer: the user may run the command again at once."""
        if bucket := self._buckets.get((name, seconds, user_id)):
            bucket.give_back(self._clock())
