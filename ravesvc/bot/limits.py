"""How much the bot reads, sends and does at once: token buckets and the numbers that they are filled with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ravesvc.common.token_bucket import Rate, TokenBucket

# Beyond these the user, or cooldown, that was not used for longest starts with a full bucket again.
_REMEMBERED_USERS = 256
_REMEMBERED_COOLDOWNS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """The bounds of one bot in one mesh."""

    user_rate: Rate = Rate(8, 1.0)  # commands of one user
    room_rate: Rate = Rate(20, 2.0)  # commands of all users together
    outgoing_rate: Rate = Rate(5, 1.0)  # messages sent
    max_queued_messages: int = 32  # waiting to be sent
    max_message_chars: int = 1000  # how many Rave accepts is unknown, hence a cautious number
    max_running: int = 8  # commands at the same time; as many event handlers besides
    reserved_for_admins: int = 2  # commands of admins, beyond those
    handler_timeout_s: float = 60.0  # for one command or one event handler


class Per(StrEnum):
    """Whom a cooldown holds back after a run."""

    USER = "user"  # the user who asked
    ROLE = "role"  # all admins, or all other users, of the room
    ROOM = "room"  # all users of the room


@dataclass(frozen=True, slots=True)
class Cooldown:
    """How long a command rests after a run.

    Attributes:
        seconds: none if 0.
        per: for whom.
        admins: whether it holds for admins, too.
    """

    seconds: float = 0.0
    per: Per = Per.USER
    admins: bool = True


NO_COOLDOWN = Cooldown()


class Bucket(TokenBucket):
    """A token bucket of a user who is warned once when it is empty."""

    __slots__ = ("warned",)

    def __init__(self, rate: Rate, now: float) -> None:
        super().__init__(rate, now)
        self.warned = False

    def count(self, now: float) -> RateLimited | None:
        """Take a token; without one, return how long to wait for it, and whether this is the first time."""
        wait = self.take(now)
        first, self.warned = not self.warned, wait > 0
        return RateLimited(wait, first) if wait > 0 else None


class RateLimited(NamedTuple):
    """A command too many.

    Attributes:
        wait_s: seconds until the command is within its rate again.
        first_in_burst: whether to warn the user: one warning per burst is enough.
    """

    wait_s: float
    first_in_burst: bool


class Throttle:
    """Whether one more command is within the rates of its user and of the room."""

    def __init__(self, limits: CommandLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._room = Bucket(limits.room_rate, clock())
        self._users: OrderedDict[int | None, Bucket] = OrderedDict()

    def count_command(self, user_id: int | None) -> RateLimited | None:
        """Count a command of this user; None lets it pass. Senders without a user id count as one user."""
        now = self._clock()
        return self._count_in((self._bucket(user_id, now), self._room), now)

    def count_admin_command(self, user_id: int | None) -> RateLimited | None:
        """As `count_command`, without the rate of the room: other users must not lock an admin out."""
        now = self._clock()
        return self._count_in((self._bucket(user_id, now),), now)

    def _count_in(self, buckets: Iterable[Bucket], now: float) -> RateLimited | None:
        return next((excess for bucket in buckets if (excess := bucket.count(now))), None)

    def _bucket(self, user_id: int | None, now: float) -> Bucket:
        bucket = self._users.get(user_id)
        if bucket is None:
            bucket = self._users[user_id] = Bucket(self._limits.user_rate, now)
            if len(self._users) > _REMEMBERED_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end(user_id)
        return bucket


class Cooldowns:
    """Whether a command may be run again already."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By command, cooldown, and whom it holds back.
        self._buckets: OrderedDict[tuple[str, Cooldown, Hashable], Bucket] = OrderedDict()

    def count_run(self, name: str, cooldown: Cooldown, whom: Hashable) -> RateLimited | None:
        """Count a run of a command with this cooldown; None lets it pass. `whom` is what `held_back` says."""
        if cooldown.seconds <= 0:
            return None
        now = self._clock()
        key = name, cooldown, whom
        bucket = self._buckets.setdefault(key, Bucket(Rate(1, 1 / cooldown.seconds), now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _REMEMBERED_COOLDOWNS:
            self._buckets.popitem(last=False)
        return bucket.count(now)

    def undo_count(self, name: str, cooldown: Cooldown, whom: Hashable) -> None:
        """Undo the last `count_run`: the command may be run again at once."""
        if bucket := self._buckets.get((name, cooldown, whom)):
            bucket.refund(self._clock())


def held_back(per: Per, user: int | None, admins: Set[int]) -> Hashable:
    """Whom a run by this user holds back; senders without a user id are one user."""
    match per:
        case Per.USER:
            return user
        case Per.ROLE:
            return "admins" if user in admins else "users"
        case Per.ROOM:
            return "all"
