from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import pytest

from ravesvc.bot.limits import CommandLimits
from ravesvc.bot.mentions import Member
from ravesvc.bot.outbox import Outbox
from ravesvc.common.picture import Media
from ravesvc.common.token_bucket import Rate
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention, Reaction

WIDE = CommandLimits(outgoing_rate=Rate(1000, 1.0), max_message_chars=20, max_queued_messages=4)


class Room:
    """A room that writes down what is asked of it; `gate` holds chat messages back, `errors` refuse them."""

    mesh_id = "11111111-2222-4333-8444-555555555555"
    own_user_id = 1
    users = frozenset({1})

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.errors: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self._ids = itertools.count(1)

    async def chat(
        self,
        text: str,
        *,
        reply_to: str | None = None,
        mentions: Sequence[Mention] = (),
        media: Sequence[Media] = (),
    ) -> str:
        self.entered.set()
        await self.gate.wait()
        if text in self.errors:
            raise self.errors[text]
        self.calls.append((text, reply_to, *(m.handle for m in mentions), *(m.url for m in media)))
        return f"id{next(self._ids)}"

    async def send_reaction(self, reaction: Reaction) -> None:
        self.calls.append((reaction.emoji, reaction.to))

    async def typing(self) -> None:
        self.calls.append("typing")

    async def typing_stop(self) -> None:
        self.calls.append("stop")
        if "stop" in self.errors:
            raise self.errors["stop"]

    def is_own(self, message_id: str) -> bool:
        return False

    def ids_of(self, message_id: str) -> frozenset[str]:
        return frozenset({message_id})


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def run(
    body: Callable[[Outbox, Room, Time], Awaitable[None]], *, typing_delay: float = 0, limits: CommandLimits = WIDE
) -> None:
    async def main() -> None:
        time, room = Time(), Room()
        outbox = Outbox(typing_delay=typing_delay, limits=limits, clock=time.clock, sleep=time.sleep)
        outbox.attach(room)
        await body(outbox, room, time)
        await outbox.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def code_of(sending: Awaitable[str]) -> Code:
    with pytest.raises(RaveError) as caught:
        await sending
    return caught.value.code


def test_messages_are_typed_and_sent_one_after_another() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        ids = await asyncio.gather(outbox.send("a", reply_to="q"), outbox.send("b"))
        assert ids == ["id1", "id2"]
        assert room.calls == ["typing", ("a", "q"), "stop", "typing", ("b", None), "stop"]
        assert time.slept == [1.5, 1.5]

    run(body, typing_delay=1.5)


def test_without_a_delay_nothing_is_typed() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        await outbox.send("a")
        assert room.calls == [("a", None)]
        assert time.slept == []

    run(body)


def test_a_long_text_becomes_several_messages_of_which_the_first_replies() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        mentions = [Mention(5, "ann"), Mention(6, "bob")]
        sent = await outbox.send("hello there @ann, hello @bob", reply_to="q", mentions=mentions)
        assert sent == "id1"
        assert room.calls == [("hello there @ann,", "q", "ann"), ("hello @bob", None, "bob")]

    run(body)


def test_the_rate_is_kept() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        await asyncio.gather(*(outbox.send(str(i)) for i in range(4)))
        assert time.slept == [pytest.approx(2.0), pytest.approx(2.0)]

    run(body, limits=CommandLimits(outgoing_rate=Rate(2, 0.5)))


def test_a_blank_text_is_refused() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        assert await code_of(outbox.send(" \n")) is Code.INVALID_ARGUMENT

    run(body)


def test_the_queue_is_bounded_in_messages() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        first = asyncio.create_task(outbox.send("being sent"))
        await room.entered.wait()
        waiting = asyncio.create_task(outbox.send("part " * 10))  # three messages
        await asyncio.sleep(0)
        assert await code_of(outbox.send("two messages are too many")) is Code.RATE_LIMITED
        last = asyncio.create_task(outbox.send("one fits"))
        room.gate.set()
        assert await asyncio.gather(first, waiting, last) == ["id1", "id2", "id5"]

    run(body)


def test_a_refused_message_fails_its_sender_only_and_typing_stops() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.errors["bad"] = RaveError(Code.REFUSED, "no")
        room.errors["bug"] = ZeroDivisionError("bug")
        bad, bug, good = await asyncio.gather(
            outbox.send("bad"), outbox.send("bug"), outbox.send("good"), return_exceptions=True
        )
        assert isinstance(bad, RaveError)
        assert isinstance(bug, ZeroDivisionError)
        assert good == "id1"
        assert room.calls == ["typing", "stop", "typing", "stop", "typing", ("good", None), "stop"]

    run(body, typing_delay=1)


def test_a_message_counts_as_sent_even_if_typing_can_not_be_stopped() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.errors["stop"] = RaveError(Code.CLOSED, "gone")
        assert await outbox.send("a") == "id1"

    run(body, typing_delay=1)


def test_without_a_room_sending_fails_at_once() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        outbox.detach()
        assert await code_of(outbox.send("a")) is Code.CLOSED
        assert room.calls == []

    run(body)


def test_what_waits_for_a_lost_room_fails_and_the_next_room_starts_afresh() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        sending = [asyncio.create_task(code_of(outbox.send(text))) for text in ("being sent", "waiting")]
        await room.entered.wait()
        another = Room()
        outbox.attach(another)
        fresh = asyncio.create_task(outbox.send("fresh"))
        assert await asyncio.gather(*sending) == [Code.CLOSED, Code.CLOSED]
        assert await fresh == "id1"
        assert (room.calls, another.calls) == ([], [("fresh", None)])

    run(body)


def test_the_rest_of_a_message_is_dropped_when_its_sender_gives_up() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        sending = asyncio.create_task(outbox.send("a first part and a second part"))
        waiting = asyncio.create_task(outbox.send("never"))
        await room.entered.wait()
        for task in (sending, waiting):
            task.cancel()
        await asyncio.wait([sending, waiting])
        room.gate.set()
        await outbox.send("next")
        assert room.calls == [("a first part and a", None), ("next", None)]

    run(body)


def test_messages_that_nobody_waits_for_any_more_do_not_hold_up_others() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        tasks = [asyncio.create_task(outbox.send(text)) for text in ("first", "never", "never")]
        await room.entered.wait()
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks[1:])
        room.gate.set()
        await outbox.send("last")
        assert room.calls == [("first", None), ("last", None)]
        assert time.slept == [pytest.approx(2.0)]

    run(body, limits=CommandLimits(outgoing_rate=Rate(1, 0.5)))


def test_the_room_may_go_after_the_sender_gave_up() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        tasks = [asyncio.create_task(outbox.send(text)) for text in ("being sent", "waiting")]
        await room.entered.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        outbox.detach()
        outbox.attach(Room())
        assert await outbox.send("next") == "id1"

    run(body)


def test_close_fails_what_waits_and_leaves_no_task_behind() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        room.gate.clear()
        sending = asyncio.create_task(code_of(outbox.send("a")))
        await room.entered.wait()
        await outbox.close()
        assert await sending is Code.CLOSED

    run(body)


def test_there_is_no_task_while_nothing_waits() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        await outbox.send("a")
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await outbox.send("b") == "id2"

    run(body)


PICTURE = Media("https://pictures.example/1", "image/png", "1.78")


def test_pictures_go_with_the_first_part_of_a_text() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        assert await outbox.send("first part of it and the rest", reply_to="m1", media=[PICTURE]) == "id1"
        assert room.calls == [("first part of it and", "m1", PICTURE.url), ("the rest", None)]

    run(body)


def test_a_picture_needs_no_text() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        assert await outbox.send(" ", media=[PICTURE]) == "id1"
        assert room.calls == [("", None, PICTURE.url)]
        with pytest.raises(RaveError, match="needs a text"):
            await outbox.send(" ")

    run(body)


def test_a_message_carries_whom_it_names_in_one_piece_or_is_not_sent() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        await outbox.send("Well done and all @Ann Lee @Bob", mentions=[Member(2, "Ann Lee"), Mention(3, "Bob")])
        assert room.calls == [("Well done and all", None), ("@Ann Lee @Bob", None, "Ann Lee", "Bob")]
        assert await code_of(outbox.send("Well done", mentions=[Member(2, "Ann")])) is Code.INVALID_ARGUMENT
        assert len(room.calls) == 2

    run(body)


def test_a_reaction_keeps_its_turn_and_the_rate_and_is_not_typed() -> None:
    async def body(outbox: Outbox, room: Room, time: Time) -> None:
        await asyncio.gather(outbox.send("a"), outbox.react("m1", "👍"), outbox.react("m2", "👎"))
        assert room.calls == ["typing", ("a", None), "stop", ("👍", "m1"), ("👎", "m2")]
        assert time.slept[0] == 1.5
        assert sum(time.slept) == pytest.approx(2.5)
        for message_id, emoji in (("m1", "like"), ("m1", "👍👍"), ("m1", ""), ("", "👍"), (None, "👍")):
            with pytest.raises(RaveError) as caught:
                await outbox.react(message_id, emoji)
            assert caught.value.code is Code.INVALID_ARGUMENT
        outbox.detach()
        with pytest.raises(RaveError) as caught:
            await outbox.react("m1", "👍")
        assert caught.value.code is Code.CLOSED

    run(body, typing_delay=1.5, limits=CommandLimits(outgoing_rate=Rate(1, 1.0)))
