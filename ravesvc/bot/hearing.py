"""What the bot does not listen to: what it has heard already, and another bot that answers its answers. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from ravesvc.room.chat import ChatMessage

_MAX_SEEN = 512

# A bot replies within the first. After the second, without a message, the score starts again at 0.
_PROMPT_REPLY_S = 5.0
_FORGET_AFTER_S = 60.0

# The points that a message adds to the score when it follows one of ours, and the score at which the bot stops
# listening. It is reached by 8 prompt answers to our messages, by 24 slow answers, by 32 prompt messages that do not
# say what they answer, or by 96 slow messages, as a human writes them.
_MAX_SCORE = 96
_PROMPT_ANSWER_POINTS, _ANSWER_POINTS, _PROMPT_POINTS, _OTHER_POINTS = 12, 4, 3, 1

# Of our own messages those are compared that are long enough not to be found in another one by chance.
_MAX_TEXTS = 4
_COMPARED_CHARS = 500
_MIN_REPEAT_CHARS = 8


class SeenMessages:
    """Tells which messages have come before. A server may deliver one twice, such as after a reconnection."""

    def __init__(self, limit: int = _MAX_SEEN) -> None:
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
        self._texts: deque[str] = deque(maxlen=_MAX_TEXTS)
        self._said_at = 0.0
        self._spoke = False  # since the last message that was counted
        self._heard_at = 0.0
        self._partner: int | None = None  # who wrote last
        self._score = 0

    def said(self, text: str) -> None:
        """The bot is about to say this."""
        self._texts.append(text.strip()[:_COMPARED_CHARS])
        self._said_at = self._clock()
        self._spoke = True

    def trust(self, user: int | None) -> None:
        """An admin writes, who is a human and knows what they do."""
        self._partner, self._score = user, 0

    def hear(self, user: int | None, text: str, *, answers_us: bool) -> Hearing:
        """Count a message of a user; `answers_us`: it says that it answers one of ours."""
        now = self._clock()
        direct = answers_us or self._repeats(text.strip()[:_COMPARED_CHARS])
        if now - self._heard_at >= _FORGET_AFTER_S:
            self._score = 0
        elif user != self._partner and not direct:
            # Not all of it is forgotten: two bots may talk through the words of people in a lively room.
            self._score //= 2
        self._partner = user
        self._heard_at = now
        if self._score >= _MAX_SCORE:
            return Hearing.IGNORE
        if self._spoke:
            self._spoke = False
            self._score += self._points(now - self._said_at, direct=direct)
        return Hearing.STOP if self._score >= _MAX_SCORE else Hearing.HEAR

    def _repeats(self, text: str) -> bool:
        return any(
            ours and (ours == text or (len(ours) >= _MIN_REPEAT_CHARS and ours in text)) for ours in self._texts
        )

    def _points(self, after: float, *, direct: bool) -> int:
        if direct:
            return _PROMPT_ANSWER_POINTS if after <= _PROMPT_REPLY_S else _ANSWER_POINTS
        return _PROMPT_POINTS if 0 < after <= _PROMPT_REPLY_S else _OTHER_POINTS
