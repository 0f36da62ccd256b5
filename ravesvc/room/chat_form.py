"""In which form a server wants chat: as a request or as a notification. Pure.

A server that knows chat as a notification alone takes a request, says ok to it, and shows nothing. What it shows is
known by its echo, which may take half a minute. So:

    a message goes out as a request; no echo in `ECHO_WAIT_S`; it goes out again as a notification, with its id; the
    echo comes: notifications from now on, and what has had no echo until now goes out again when its time has come.

An earlier second attempt could show a message twice. For the same reason only one message at a time is tried in both
forms: on a server that echoes nothing at all, each would be there twice. That is tried again later and later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ravesvc.common.json_fields import Object

# An echo is said to take up to 30 s.
ECHO_WAIT_S = 35.0

_FIRST_RETRY_S = 60.0
_MAX_RETRY_S = 6 * 3600.0

# After so many messages in a row without an echo, the known form is no longer trusted.
_MAX_MISSES = 3
_MAX_WAITING = 64

# What a server answers to a request that it does not know as one.
_FORM_CODES = frozenset({400, 404, 405, 415, 501})
_FORM_WORDS = ("notification", "request", "method")


class ChatForm(StrEnum):
    """The form of a frame with a chat message. A request is marked as a notification as well."""

    REQUEST = "request"
    NOTIFICATION = "notification"

    @property
    def other(self) -> ChatForm:
        """The other one."""
        return ChatForm.NOTIFICATION if self is ChatForm.REQUEST else ChatForm.REQUEST


@dataclass(slots=True, eq=False)
class Sent:
    """A message without an echo so far. `due`: when to wait no longer; `resent`: whether it has had both forms."""

    id: str
    text: str
    data: Object
    form: ChatForm
    due: float
    resent: bool = False


class ChatForms:
    """What one server makes of our messages; outlives the connections to it.

    Attributes:
        form: the one for the next message.
        known: whether that is fixed, or a message in it has had an echo.
        unshown: how many messages have had no echo in either form, or were refused.
    """

    def __init__(
        self,
        fixed: ChatForm | None,
        clock: Callable[[], float],
        *,
        first: ChatForm = ChatForm.REQUEST,
        on_unshown: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare it.

        Args:
            fixed: always this form; None to find it out, beginning with `first`.
            clock: monotonic seconds.
            first: see there.
            on_unshown: called when `unshown` has grown.
        """
        self.form = fixed or first
        self.known = fixed is not None
        self.unshown = 0
        self._fixed = fixed is not None
        self._clock = clock
        self._on_unshown = on_unshown
        self._waiting: list[Sent] = []
        self._trial: Sent | None = None
        self._excluded: ChatForm | None = None
        self._retry_at = 0.0
        self._retry_s = _FIRST_RETRY_S
        self._misses = 0

    def suggest(self, form: ChatForm) -> None:
        """Others show their chat in this form: begin with it, unless one is known here."""
        if not self.known:
            self.form = form

    def send(self, message_id: str, text: str, data: Object) -> ChatForm:
        """Take note of a message that is about to go out, and return its form."""
        if len(self._waiting) >= _MAX_WAITING:
            self._drop(self._waiting[0])
        self._waiting.append(Sent(message_id, text.strip(), data, self.form, self._clock() + ECHO_WAIT_S))
        return self.form

    def echoed(self, message_id: str, text: str, *, known_id: bool) -> str | None:
        """The server shows a message of ours; returns the id under which we know it, if it was waited for.

        The server may have given it an id of its own; `known_id`: it is an id of ours, or one that came before.
        """
        sent = self._find(message_id, text.strip(), known_id=known_id)
        if sent is None:
            return None
        self._waiting.remove(sent)
        if not self.known or sent.form is self.form:
            self.form, self.known = sent.form, True
            self._misses, self._retry_s = 0, _FIRST_RETRY_S
            self._trial = None
        return sent.id

    def refused(self, message_id: str, code: int, reason: str) -> ChatForm | None:
        """The server refuses a message; returns the form in which to send it again at once, or None to leave it.

        A refusal means that it was not shown.
        """
        sent = next((each for each in self._waiting if each.id == message_id), None)
        if sent is None:
            return None
        speaks_of_form = code in _FORM_CODES or any(word in reason.lower() for word in _FORM_WORDS)
        if self.known or sent.resent or not speaks_of_form:
            self._drop(sent)
            return None
        self._excluded = sent.form
        self.form = sent.form = sent.form.other
        sent.resent, sent.due = True, self._clock() + ECHO_WAIT_S
        return sent.form

    def due(self) -> list[Sent]:
        """The messages to send again now, in their form; those that are given up are counted."""
        now = self._clock()
        resent = []
        for sent in [each for each in self._waiting if each.due <= now]:
            if self._may_try(sent, now):
                sent.form, sent.resent, sent.due = sent.form.other, True, now + ECHO_WAIT_S
                self._trial = None if self.known else sent
                resent.append(sent)
            elif self._trial is None or self._trial is sent:
                self._give_up(sent, now)
        return resent

    @property
    def next_due(self) -> float | None:
        """When to ask `due` next, by the clock; None while nothing waits."""
        # The others wait for the outcome of the trial.
        waiting = [self._trial] if self._trial else self._waiting
        return min((each.due for each in waiting), default=None)

    def disconnected(self) -> None:
        """The connection has ended: what became of the messages without an echo will not be known."""
        self._waiting.clear()
        self._trial = None

    def _find(self, message_id: str, text: str, *, known_id: bool) -> Sent | None:
        """By id; if that is new, the oldest with this text, else the oldest: no others of ours are on the way."""
        waiting = self._waiting
        by_id = (each for each in waiting if each.id == message_id)
        if known_id:
            return next(by_id, None)
        by_text = (each for each in waiting if each.text == text)
        return next(by_id, None) or next(by_text, None) or next(iter(waiting), None)

    def _may_try(self, sent: Sent, now: float) -> bool:
        if self._fixed or sent.resent or sent.form.other is self._excluded:
            return False
        if self.known:
            return sent.form is not self.form
        return self._trial is None and now >= self._retry_at

    def _give_up(self, sent: Sent, now: float) -> None:
        self._drop(sent)
        if self._fixed:
            return
        if self.known:
            self._misses += 1
            if self._misses >= _MAX_MISSES:
                self.known, self._misses = False, 0
        elif sent.resent:
            self._retry_at = now + self._retry_s
            self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)
            self._excluded = None

    def _drop(self, sent: Sent) -> None:
        self._waiting.remove(sent)
        if self._trial is sent:
            self._trial = None
        self.unshown += 1
        self._on_unshown()
