"""How many votes skip a video, and the result of a skip. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ravesvc.bot.queue import QueueEntry
from ravesvc.errors import RaveError

# With any threshold: one user alone must not skip a video that another user asked for.
_MIN_VOTES = 2
HALF = 50


class SkipVotes(NamedTuple):
    """The users who want to skip one showing of a video. For the next showing, begin with another one."""

    users: frozenset[int] = frozenset()

    def add(self, user: int) -> SkipVotes:
        """Count a user, once."""
        return SkipVotes(self.users | {user})

    def of_present(self, present: frozenset[int]) -> int:
        """The votes of those who are still there."""
        return len(self.users & present)

    def enough(self, present: frozenset[int], percent: int = HALF) -> bool:
        """Whether to skip; `present` are the users in the room without the bot."""
        return self.of_present(present) >= needed(len(present), percent)


def needed(present: int, percent: int = HALF) -> int:
    """How many votes skip a video: more than `percent` of the users present, of a hundred all, and at least two."""
    return max(_MIN_VOTES, min(present, present * percent // 100 + 1))


class Skip(NamedTuple):
    """The result of a skip.

    Attributes:
        entry: what was to be skipped; None if it was not asked for by way of the bot.
        refusal: why the bot could only vote for it, or None.
        next: the entry of the queue that the bot has voted for instead, if Rave took that vote.
        over: whether the video was over before the bot did anything: it was skipped already, or at its end.
    """

    entry: QueueEntry | None
    refusal: RaveError | None = None
    next: QueueEntry | None = None
    over: bool = False
