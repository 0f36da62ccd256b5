"""Questions that a handler asks in the room: it goes on with the message that answers one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.mentions import Member
from ravesvc.bot.outbox import Outbox
from ravesvc.bot.parameters import Parameters, Said
from ravesvc.bot.video_finder import VideoFinder
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
    """A question has no answer that fits. A command that does not catch it ends, and tells the user."""

    def __init__(self, why: str) -> None:
        """`why` is a sentence without a full stop."""
        super().__init__(Code.INVALID_ARGUMENT, why)


if TYPE_CHECKING:
    from typing import Protocol

    class TimeLimit(Protocol):
        """That of one run of a handler, by the clock of its room: see `asyncio.timeout`."""

        def when(self) -> float | None:
            """When the run is ended; None if its time rests."""

        def reschedule(self, when: float | None) -> None:
            """Change that."""


class Question:
    """One that waits. `user` is who may answer it, None for all; `source` is the file or package that asks."""

    def __init__(self, source: str, user: int | None) -> None:
        self.source = source
        self.user = user
        self.unread: list[ChatMessage] = []
        self.arrived = asyncio.Event()
        self.ended: RaveError | None = None

    def end(self, why: RaveError) -> None:
        """It waits no longer: what asks it fails with this error."""
        self.ended = why
        self.arrived.set()


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
        """Give a message to the questions that it may answer; True if it answers one to its user.

        Of the questions to one user the latest gets it. A question to all leaves it to the others as well.
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
                question.end(RaveError(Code.CLOSED, _("this command was loaded anew")))

    def add(self, question: Question) -> None:
        """From now on it gets messages. A file asks one user one thing at a time: an earlier question ends.

        A command that asks keeps one of the few places that its file has for commands. A user who gives it again and
        again would take all of them.
        """
        for earlier in self._open:
            if question.user is not None and (earlier.source, earlier.user) == (question.source, question.user):
                earlier.end(NoAnswerError(_("another question has come in between")))
        self._open.append(question)

    def remove(self, question: Question) -> None:
        """It waits no longer."""
        self._open.remove(question)

    async def wait(self, question: Question, seconds: float) -> None:
        """Return when there is a message for the question, when it has ended, or after that time."""
        with self._idle.waiting():
            await first_of(question.arrived.wait(), self._sleep(seconds))


class Answer(NamedTuple):
    """An answer to a question to all.

    Attributes:
        member: who has answered.
        value: what, as the question wants it.
        message: as it was written.
    """

    member: Member
    value: Any
    message: ChatMessage


class Dialogue:
    """What one run of a handler asks."""

    def __init__(
        self,
        questions: Questions,
        source: str,
        outbox: Outbox,
        people: DisplayNames,
        users: Callable[[], frozenset[int]],
        videos: VideoFinder,
    ) -> None:
        """Prepare it.

        Args:
            questions: those of the room.
            source: the file or package of the handler.
            outbox: says the questions.
            people: what users are called.
            users: who is in the room.
            videos: finds those that users mean.
        """
        self.videos = videos
        self._questions = questions
        self._source = source
        self._outbox = outbox
        self._people = people
        self._users = users
        self._left_s = MAX_WAIT_S
        self._limit: TimeLimit | None = None
        self._task: asyncio.Task[object] | None = None

    async def ask(self, user: int | None, question: str, kind: Any, seconds: float, reply_to: str | None) -> Any:
        """Ask one user; `reply_to` is the message to which the question is an answer. See `Context.ask`."""
        parameters = Parameters.of_answer(kind)
        if user is None:
            raise RaveError(Code.INVALID_ARGUMENT, _("Rave does not say who you are, so you can't be asked"))
        async with self._asking(user, seconds) as answer:
            await self._outbox.send(question, reply_to=reply_to)
            for _try in range(MAX_MISFITS):
                message = await answer()
                try:
                    return await parameters.read_answer(self._said_in(message))
                except RaveError as error:
                    if error.code is not Code.INVALID_ARGUMENT:
                        raise
                    await self._outbox.send(error.message, reply_to=message.id or None)
        raise NoAnswerError(_("none of {n} answers fits", n=MAX_MISFITS))

    async def answers(self, question: str, kind: Any, seconds: float) -> AsyncIterator[Answer]:
        """Ask all users. See `Context.answers`."""
        parameters = Parameters.of_answer(kind)
        async with self._asking(None, seconds) as answer:
            await self._outbox.send(question)
            with suppress(NoAnswerError):
                while True:
                    message = await answer()
                    if message.sender is None:
                        continue
                    try:
                        value = await parameters.read_answer(self._said_in(message))
                    except RaveError as error:
                        if error.code is not Code.INVALID_ARGUMENT:
                            raise
                        continue
                    yield Answer(Member(message.sender, await self._people.name(message.sender)), value, message)

    def _said_in(self, message: ChatMessage) -> Said:
        """An answer, to be read."""
        users, people = self._users(), self._people
        return Said("", "", "", message.text, message.mentions, users, people, message.sender, self.videos)

    def begin(self, limit: TimeLimit) -> None:
        """The current task is that of the run; its time is limited, and rests while a question of it waits."""
        self._limit, self._task = limit, asyncio.current_task()

    @asynccontextmanager
    async def _asking(self, user: int | None, seconds: float) -> AsyncIterator[Callable[[], Awaitable[ChatMessage]]]:
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
                raise question.ended
            if not question.unread:
                raise NoAnswerError(_("no answer came within {n} s", n=round(seconds)))
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
            left = when - begun
            limit.reschedule(None)
            try:
                yield
            finally:
                limit.reschedule(self._questions.clock() + left)
        self._left_s = max(0.0, self._left_s - (self._questions.clock() - begun))
