"""What the bot does not listen to: what it has heard already, and another bot that answers its answers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from ravesvc.room.chat import ChatMessage

_REMEMBERED = 512

# Seconds: a machine answers within the first; what comes after the second begins something new.
_AT_ONCE = 5.0
_QUIET = 60.0

# What a message counts that follows one of ours, and how much is too much: a machine gets 8 answers to answers that
# it gives at once, 24 to slower ones, 32 to messages that it sends as fast without saying what they answer. A
# human may write 96 times in a row.
_TOO_MUCH = 96
_DIRECT_AT_ONCE, _DIRECT, _AT_ONCE_ONLY, _OTHER = 12, 4, 3, 1

# Of our own messages those are compared that are long enough not to be found in another one by chance.
_KEPT_TEXTS = 4
_COMPARED = 500
_TELLING = 8


class SeenMessages:
    """Tells which messages have come before. A server may deliver one twice, such as after a reconnection."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        # A dict keeps the order of insertion.
        self._seen: dict[tuple[str, str], None] = {}

    def again(self, message: ChatMessage) -> bool:
        """Whether the message has come before; one without an id never has. Ids are their senders' own choice."""
        key = message.sender_peer, message.id
        if key in self._seen:
            return True
        if message.id:
            self._seen[key] = None
            if len(self._seen) > self._limit:
                del self._seen[next(iter(self._seen))]
        return False


class Hearing(Enum):
    """What to do with a message."""

    HEAR = auto()
    STOP = auto()  # The first of those that are not heard: this can be said once.
    IGNORE = auto()


class ReplyLoopGuard:
    """Ends conversations between bots: two copies with a command that repeats what it is told would never end.

    Nothing in a message tells a bot from a human. So what counts is that every message follows one of ours, how fast,
    and whether it answers or repeats ours. It counts half when another user writes something that answers nothing of
    ours, and no longer after a minute without those who take part.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._texts: deque[str] = deque(maxlen=_KEPT_TEXTS)
        self._said_at = 0.0
        self._spoke = False  # since the last message that was counted
        self._heard_at = 0.0
        self._partner: int | None = None  # who wrote last
        self._score = 0

    def said(self, text: str) -> None:
        """The bot is about to say this."""
        self._texts.append(text.strip()[:_COMPARED])
        self._said_at = self._clock()
        self._spoke = True

    def trust(self, user: int | None) -> None:
        """An admin writes, who is a human and knows what they do."""
        self._partner, self._score = user, 0

    def hear(self, user: int | None, text: str, *, answers_us: bool) -> Hearing:
        """Count a message of a user; `answers_us`: it says that it answers one of ours."""
        now = self._clock()
        direct = answers_us or self._repeats(text.strip()[:_COMPARED])
        if now - self._heard_at >= _QUIET:
            self._score = 0
        elif user != self._partner and not direct:
            # Not all of it is forgotten: two bots may talk through the words of people in a lively room.
            self._score //= 2
        self._partner = user
        self._heard_at = now
        if self._score >= _TOO_MUCH:
            return Hearing.IGNORE
        if self._spoke:
            self._spoke = False
            self._score += self._points(now - self._said_at, direct=direct)
        return Hearing.STOP if self._score >= _TOO_MUCH else Hearing.HEAR

    def _repeats(self, text: str) -> bool:
        return any(ours and (ours == text or (len(ours) >= _TELLING and ours in text)) for ours in self._texts)

    def _points(self, after: float, *, direct: bool) -> int:
        if direct:
            return _DIRECT_AT_ONCE if after <= _AT_ONCE else _DIRECT
        return _AT_ONCE_ONLY if 0 < after <= _AT_ONCE else _OTHER
