"""Questions that a command asks in the room: it goes on with the message that answers one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ravesvc.common.task_group import Idle
from ravesvc.common.translation import gettext as _
from ravesvc.common.waiting import first_of
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import ChatMessage

# Of one run of a command, in all of its questions.
MAX_WAIT_S = 600.0
# That one question may have before it is given up.
MAX_MISFITS = 3
# Messages for one question that its command has not looked at yet; the oldest gives way.
_MAX_UNREAD = 32


class NoAnswerError(RaveError):
    """Nobody has answered a question in time. A command that does not catch it ends, and tells the user."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long it has waited."""
        super().__init__(Code.INVALID_ARGUMENT, _("no answer came within {n} s", n=round(seconds)))


@dataclass(eq=False, slots=True)
class Question:
    """One that waits. `user` is who may answer it, None for all; `source` is the file or package that asks."""

    source: str
    user: int | None
    unread: list[ChatMessage] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Questions:
    """The questions that wait in one room. The latest one gets a message first.

    Attributes:
        clock: of the room, monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]], idle: Idle) -> None:
        self.clock = clock
        self._sleep = sleep
        self._idle = idle
        self._open: list[Question] = []

    def take(self, message: ChatMessage) -> bool:
        """Give a message to the questions that it may answer; True if it is for one alone, and for nothing else.

        Of the questions to one user the latest gets it. A question to all takes it from nobody.
        """
        for question in reversed(self._open):
            if question.user in (None, message.sender):
                question.unread = [*question.unread, message][-_MAX_UNREAD:]
                question.arrived.set()
                if question.user is not None:
                    return True
        return False

    def end(self, source: str) -> None:
        """End the questions of a file or package: their commands fail."""
        for question in self._open:
            if question.source == source:
                question.ended = True
                question.arrived.set()

    def add(self, question: Question) -> None:
        """From now on it gets messages."""
        self._open.append(question)

    def remove(self, question: Question) -> None:
        """It waits no longer."""
        self._open.remove(question)

    async def wait(self, question: Question, seconds: float) -> None:
        """Return when there is a message for the question, when it has ended, or after that time."""
        with self._idle.waiting():
            await first_of(question.arrived.wait(), self._sleep(seconds))


class Dialogue:
    """What one run of a command asks."""

    def __init__(self, questions: Questions, source: str) -> None:
        """`source` is the file or package of the command."""
        self._questions = questions
        self._source = source
        self._left_s = MAX_WAIT_S
        self._limit: asyncio.Timeout | None = None
        self._task: asyncio.Task[object] | None = None

    def begin(self, limit: asyncio.Timeout) -> None:
        """The current task is that of the run; its time is limited, and rests while a question of it waits."""
        self._limit, self._task = limit, asyncio.current_task()

    @asynccontextmanager
    async def asking(self, user: int | None, seconds: float) -> AsyncIterator[Callable[[], Awaitable[ChatMessage]]]:
        """Within it messages of that user, or of all, are kept; yields what gives the next one.

        That raises `NoAnswerError` when the time is over, and `RaveError` (Closed) if the plugin has ended.
        """
        question = Question(self._source, user)
        clock = self._questions.clock
        until = clock() + min(seconds, self._left_s)

        async def answer() -> ChatMessage:
            if not question.unread and not question.ended and (left := until - clock()) > 0:
                async with self._resting():
                    await self._questions.wait(question, left)
            if question.ended:
                raise RaveError(Code.CLOSED, _("this command was loaded anew"))
            if not question.unread:
                raise NoAnswerError(seconds)
            message = question.unread.pop(0)
            if not question.unread:
                question.arrived.clear()
            return message

        self._questions.add(question)
        try:
            yield answer
        finally:
            self._questions.remove(question)

    @asynccontextmanager
    async def _resting(self) -> AsyncIterator[None]:
        """Within it the time of the run rests, and that for all of its questions passes."""
        begun = self._questions.clock()
        # A task that the run has started has no limit of its own, and may outlive the run.
        limit = self._limit if asyncio.current_task() is self._task else None
        when = limit.when() if limit else None
        if limit is None or when is None:
            yield
        else:
            loop = asyncio.get_running_loop()
            left = when - loop.time()
            limit.reschedule(None)
            try:
                yield
            finally:
                limit.reschedule(loop.time() + left)
        self._left_s = max(0.0, self._left_s - (self._questions.clock() - begun))
