"""Which messages the bot ignores: those that came before, and those of a bot that answers its answers. Pure."""

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
    """Detects messages that have come before. A server may deliver one twice, such as after a reconnection."""

    def __init__(self, limit: int = _MAX_SEEN) -> None:
        self._limit = limit
        # A dict keeps the order of insertion.
        self._seen: dict[tuple[str, str], None] = {}

    def is_repeat(self, message: ChatMessage) -> bool:
        """Whether the message has come before; one without an id never has. Ids are their senders' own choice."""
        key = message.sender_peer, message.id
        if key in self._seen:
            return True
        if message.id:
            self._seen[key] = None
            if len(self._seen) > self._limit:
                del self._seen[next(iter(self._seen))]
        return False


class LoopVerdict(Enum):
    """What to do with a message."""

    ACCEPT = auto()
    WARN = auto()  # The first message to ignore: the bot says once that it no longer listens.
    IGNORE = auto()


class ReplyLoopGuard:
    """Ends conversations between bots: two copies with a command that repeats its arguments would never end.

    Nothing in a message tells a bot from a human. So what counts is that every message follows one of ours, how fast,
    and whether it answers or repeats ours. It counts half when another user writes something that answers nothing of
    ours, and no longer after a minute without those who take part.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._texts: deque[str] = deque(maxlen=_MAX_TEXTS)
        self._sent_at = 0.0
        self._sent_since_counted = False  # since the last message that was counted
        self._received_at = 0.0
        self._last_user: int | None = None
        self._score = 0

    def record_sent(self, text: str) -> None:
        """Note a text that the bot is about to send."""
        self._texts.append(text.strip()[:_COMPARED_CHARS])
        self._sent_at = self._clock()
        self._sent_since_counted = True

    def trust(self, user: int | None) -> None:
        """Reset the score: an admin wrote, and admins are humans."""
        self._last_user, self._score = user, 0

    def check(self, user: int | None, text: str, *, answers_us: bool) -> LoopVerdict:
        """Count a message of a user; `answers_us`: it says that it answers one of ours."""
        now = self._clock()
        direct = answers_us or self._repeats(text.strip()[:_COMPARED_CHARS])
        if now - self._received_at >= _FORGET_AFTER_S:
            self._score = 0
        elif user != self._last_user and not direct:
            # Halved, not reset: in a busy room users write between the messages of two bots.
            self._score //= 2
        self._last_user = user
        self._received_at = now
        if self._score >= _MAX_SCORE:
            return LoopVerdict.IGNORE
        if self._sent_since_counted:
            self._sent_since_counted = False
            self._score += self._points(now - self._sent_at, direct=direct)
        return LoopVerdict.WARN if self._score >= _MAX_SCORE else LoopVerdict.ACCEPT

    def _repeats(self, text: str) -> bool:
        return any(
            ours and (ours == text or (len(ours) >= _MIN_REPEAT_CHARS and ours in text)) for ours in self._texts
        )

    def _points(self, after: float, *, direct: bool) -> int:
        if direct:
            return _PROMPT_ANSWER_POINTS if after <= _PROMPT_REPLY_S else _ANSWER_POINTS
        return _PROMPT_POINTS if 0 < after <= _PROMPT_REPLY_S else _OTHER_POINTS
