"""Questions of a command to one user and to all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.bot.dialogue import MAX_WAIT_S
from ravesvc.testing import FakeRoom

ORDER = """
import asyncio
from typing import Literal
from ravesvc.commands import Member, NoAnswerError, command, on_message

@command("order", "Takes an order.")
async def order(context):
    count = await context.ask("How many?", int, timeout=30)
    what = await context.ask("Of what?", Literal["tea", "coffee"])
    await context.reply(f"{count} {what}")

@command("say", "Says what is to be said.")
async def say(context):
    await context.reply(await context.ask("What?"))

@command("for", "For somebody.")
async def for_somebody(context):
    member = await context.ask("For whom?", Member)
    await context.reply(f"For {member.name}")

@command("patient", "Catches it when there is no answer.")
async def patient(context):
    try:
        await context.ask("Well?", timeout=5)
    except NoAnswerError:
        await context.reply("Never mind")

@command("long", "Asks again and again.", seconds=1)
async def long(context):
    asked = 0
    try:
        while True:
            asked += 1
            await context.ask(f"Question {asked}", timeout=400)
    except NoAnswerError as error:
        await context.reply(f"{error.message} ({asked} asked)")

@command("quiz", "Asks all.")
async def quiz(context):
    async for answer in context.answers("What is 6 times 7?", int, timeout=30):
        if answer.value == 42:
            await context.send(f"{answer.member.name} knows it")
            break
    else:
        await context.send("It is 42")

@command("bad", "Asks for what no word can be.")
async def bad(context):
    await context.ask("What?", dict)

@command("later", "Asks in a task of its own.", seconds=1)
async def later(context):
    asyncio.create_task(ask_later(context))

async def ask_later(context):
    await asyncio.sleep(100)
    await context.reply(await context.ask("Still there?"))

@on_message
async def hear(event):
    if not event.is_answer:
        await event.send(f"heard {event.message.text}")
"""


@pytest.fixture
def order(tmp_path: Path) -> Path:
    file = tmp_path / "order.py"
    file.write_text(ORDER)
    return file


async def test_a_command_goes_on_with_the_answer(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        assert await room.say("?order") == ["How many?"]
        assert await room.say("3") == ["Of what?"]
        assert await room.say("TEA") == ["3 tea"]
        assert await room.say("3") == ["heard 3"], "nobody waits for it now"


async def test_others_are_not_asked_and_commands_run_meanwhile(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.say("?order")
        assert await room.say("4", user="Bob") == ["heard 4"]
        assert await room.say("?ping") == ["Pong!"]
        assert await room.say("?say", user="Bob") == ["What?"]
        assert await room.say("hello  there", user="Bob") == ["hello  there"]
        assert await room.say("3") == ["Of what?"]


async def test_a_wrong_answer_is_asked_for_again_three_times_in_all(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.say("?order")
        assert await room.say("some") == ["“some” is no whole number"]
        assert await room.say("3 or 4") == ["“or” is a word too many"]
        assert await room.say("4") == ["Of what?"]


async def test_a_file_asks_a_user_one_thing_at_a_time(order: Path) -> None:
    """Each run that waits has one of the few places of its file."""
    async with FakeRoom() as room:
        room.load(order)
        for number in range(20):
            asked, *ended = sorted(await room.say("?order"), key=lambda said: "How" not in said)
            assert asked == "How many?"
            assert [said.partition(" (")[0] for said in ended] == ["Another question has come in between"][:number]
        assert await room.say("?say", user="Bob") == ["What?"], "other users have theirs"
        assert await room.say("3") == ["Of what?"]


async def test_the_third_wrong_answer_ends_the_command(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.say("?order")
        await room.say("1")
        for word in ("water", "milk"):
            assert await room.say(word) == [f"“{word}” is none of: tea, coffee"]
        told, ended = await room.say("juice")
        assert told == "“juice” is none of: tea, coffee"
        assert ended.startswith("None of 3 answers fits (error ")
        assert await room.say("tea") == ["heard tea"]


async def test_a_user_is_named_by_a_mention(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.join("Bob")
        await room.say("?for")
        assert await room.say("Bob") == ["“Bob” is no user"]
        assert await room.say("@Bob") == ["For Bob"]


async def test_without_an_answer_the_user_is_told(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.say("?order")
        assert await room.run_for(29) == []
        (said,) = await room.run_for(1)
        assert said.startswith("No answer came within 30 s")
        assert await room.say("3") == ["heard 3"]
        await room.say("?patient")
        assert await room.run_for(5) == ["Never mind"]


async def test_waiting_is_no_time_of_the_command_and_bounded(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        assert await room.say("?long") == ["Question 1"]
        await room.run_for(MAX_WAIT_S / 2)
        assert await room.say("and") == ["Question 2"]
        assert await room.run_for(MAX_WAIT_S / 2 - 1) == []
        (said,) = await room.run_for(1)
        assert said.endswith("(2 asked)")


async def test_all_are_asked_until_the_loop_is_left(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        assert await room.say("?quiz") == ["What is 6 times 7?"]
        assert await room.say("41", user="Bob") == ["heard 41"]
        assert await room.say("hm", user="Bob") == ["heard hm"]
        assert set(await room.say("42", user="Cy")) == {"heard 42", "Cy knows it"}
        assert await room.say("42", user="Bob") == ["heard 42"]
        await room.say("?quiz")
        assert await room.run_for(30) == ["It is 42"]


async def test_a_question_that_no_word_can_answer_fails_at_once(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        (said,) = await room.say("?bad")
        assert "has a type that no word can give" in said


async def test_the_questions_of_a_file_end_with_it(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        await room.say("?order")
    assert any("loaded anew" in said for said in room.unasked)


async def test_a_task_may_ask_when_its_command_has_ended(order: Path) -> None:
    async with FakeRoom() as room:
        room.load(order)
        assert await room.say("?later") == []
        assert await room.run_for(100) == ["Still there?"]
        assert await room.say("yes") == ["yes"]


GUEST = """
from ravesvc.commands import every, on_message, on_user_join

@on_user_join
async def welcome(event):
    age = await event.ask(f"Welcome, {await event.display_name()}! How old are you?", int, timeout=30)
    await event.send(f"{await event.display_name()} is {age}")

@on_message
async def listen(event):
    if event.message.text == "vote":
        answers = [answer.value async for answer in event.answers("Yes or no?", bool, timeout=10)]
        await event.reply(f"{sum(answers)} of {len(answers)} say yes")

@every("1h")
async def ask(event):
    await event.ask("Who is there?")
"""


async def test_handlers_of_events_ask_as_commands_do(tmp_path: Path) -> None:
    (tmp_path / "guest.py").write_text(GUEST)
    async with FakeRoom() as room:
        room.load(tmp_path / "guest.py")
        assert await room.join("Ann") == ["Welcome, Ann! How old are you?"]
        assert await room.say("old", user="Ann") == ["“old” is no whole number"]
        assert await room.say("33", user="Bob") == []
        assert await room.say("33", user="Ann") == ["Ann is 33"]
        assert await room.say("vote") == ["Yes or no?"]
        assert await room.say("yes", user="Bob") == []
        assert await room.say("no", user="Ann") == []
        assert await room.run_for(10) == ["1 of 2 say yes"]


async def test_a_question_of_an_event_that_is_not_answered_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "guest.py").write_text(GUEST)
    async with FakeRoom() as room:
        room.load(tmp_path / "guest.py")
        await room.join("Ann")
        # Longer than an event may take without the wait.
        assert await room.run_for(100) == []
        assert "a handler of on_user_join has asked in vain" in caplog.text
        assert "ERROR" not in {record.levelname for record in caplog.records}
        await room.run_for(3600)
        assert "Rave does not say who you are" in caplog.text, "a timer has no user"
