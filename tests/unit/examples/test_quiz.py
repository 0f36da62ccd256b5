"""Quiz: what is a right answer, who gets a point, and how a quiz ends."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest

from ravesvc.bot.command import Registry
from ravesvc.bot.plugin_store import document_name
from ravesvc.commands import registering
from ravesvc.testing import FakeRoom
from tests.unit.examples.shipped import EXAMPLES, new_room, only, restarted

QUIZ = EXAMPLES / "quiz.py"


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quiz_that_is_looked_at", QUIZ)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    with registering(Registry("quiz.py")):
        spec.loader.exec_module(found)
    return found


ANSWERS: dict[str, list[str]] = {question: answers for question, *answers in module().QUESTIONS}


def answers_to(said: list[str]) -> list[str]:
    """The right answers to a question that the bot has asked last."""
    number, question = said[-1].split(": ", 1)
    assert number.startswith("Question "), said
    return ANSWERS[question]


async def start(room: FakeRoom, rounds: str = "") -> list[str]:
    room.load(QUIZ)
    return await room.say(f"?quiz start {rounds}")


def test_there_are_twenty_questions_that_need_no_guess() -> None:
    assert len(ANSWERS) == len(module().QUESTIONS) == 20
    for question, answers in ANSWERS.items():
        assert question.endswith("?")
        assert answers
        assert all(module().simple(answer) for answer in answers)


async def test_the_first_right_answer_gets_the_point() -> None:
    async with new_room() as room:
        said = await start(room, "2")
        assert said[0].startswith("Question 1 of 2: ")
        right = answers_to(said)[0]
        assert await room.say("no idea") == []
        assert await room.say(right, user="Bob") == [f"Bob is right: {right}"]
        assert await room.say(right) == [], "it is over"
        said = await room.run_for(5)
        assert said[0].startswith("Question 2 of 2: ")
        right = answers_to(said)[0]
        assert await room.say(right, user="Bob") == [f"Bob is right: {right}", "The quiz is over. Bob: 2"]
        assert await room.say("?quiz scores") == ["1. Bob: 2"]


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("CARBON  DIOXIDE", "Carbon dioxide"),
        ("heart.", "The heart"),
        ("a heart", "The heart"),
        ("bogota", "Bogotá"),
        ("sao paulo", "São Paulo"),
        ("Ｂｏｇｏｔａ\u0301!", "Bogotá"),
        ("the blue-whale", "The blue whale"),
    ],
)
def test_what_does_not_matter_in_an_answer(written: str, right: str) -> None:
    assert module().simple(written) == module().simple(right)


@pytest.mark.parametrize(("written", "right"), [("Marsh", "Mars"), ("", "Mars"), ("the", "The heart"), ("18", "8")])
def test_what_does(written: str, right: str) -> None:
    assert module().simple(written) != module().simple(right)


async def test_a_long_message_is_no_answer_and_no_harm() -> None:
    async with new_room() as room:
        said = await start(room, "1")
        assert await room.say("x" * 100_000) == []
        assert "Ann is right" in (await room.say(answers_to(said)[-1]))[0]


async def test_without_an_answer_in_time_the_bot_tells_it() -> None:
    async with new_room() as room:
        said = await start(room, "2")
        right = answers_to(said)[0]
        assert await room.run_for(19) == []
        assert await room.run_for(2) == [f"The answer is: {right}"]
        said = await room.run_for(3)
        right = answers_to(said)[0]
        assert await room.run_for(25) == [f"The answer is: {right}", "The quiz is over. There were no right answers"]
        assert await room.say("?quiz scores") == ["There are no points yet"]


async def test_a_quiz_that_no_user_plays_ends_early() -> None:
    async with new_room() as room:
        said = await start(room, "10")
        said += await room.run_for(600)
        assert len([each for each in said if each.startswith("Question")]) == 3
        assert said[-1] == "The quiz is over. There were no right answers"


async def test_no_question_comes_twice_in_a_quiz() -> None:
    async with new_room() as room:
        said = await start(room, "10")
        questions = []
        for _ in range(10):
            questions.append(said[-1].split(": ", 1)[1])
            ended = await room.say(answers_to(said)[0], user="Eve")
            said = await room.run_for(5)
        assert len(set(questions)) == 10
        assert ended[-1] == "The quiz is over. Eve: 10"


async def test_points_are_remembered_and_those_of_two_users_kept_apart() -> None:
    async with new_room() as room:
        said = await start(room, "3")
        for user in "Ann", "Bob", "Ann":
            ended = await room.say(answers_to(said)[0], user=user)
            said = await room.run_for(5)
        assert ended[-1] == "The quiz is over. Ann: 2, Bob: 1"
        async with restarted(room) as other:
            said = await start(other, "1")
            await other.say(answers_to(said)[0], user="Ann")
            assert await other.say("?quiz scores", user="Bob") == ["1. Ann: 3\n2. Bob: 1"]
            other._bot.forget_user(other.user_id("Ann"))
            assert await other.say("?quiz scores", user="Bob") == ["1. Bob: 1"]


async def test_a_restart_ends_a_quiz() -> None:
    async with new_room() as room:
        await start(room)
        async with restarted(room) as other:
            other.load(QUIZ)
            assert only(await other.say("?quiz stop", user="Eve")) == "No quiz is running"
            assert (await other.say("?quiz start", user="Bob"))[0].startswith("Question 1 of 5")


async def test_the_scores_show_the_ten_best() -> None:
    async with new_room() as room:
        room.load(QUIZ)
        await start_and_score(room)
        (name,) = room.service.documents
        kept = {"users": {str(100 + number): {"points": number} for number in range(30)}}
        async with restarted(room) as other:
            other.service.documents = {name: json.dumps(kept)}
            other.load(QUIZ)
            lines = only(await other.say("?quiz scores")).splitlines()
            assert len(lines) == 10
            assert lines[0] == "1. User 129: 29"


async def start_and_score(room: FakeRoom) -> None:
    said = await room.say("?quiz start 1")
    await room.say(answers_to(said)[0])


async def test_one_quiz_at_once() -> None:
    async with new_room() as room:
        await start(room)
        assert only(await room.say("?quiz start", user="Bob")).startswith("A quiz is running already")


async def test_a_quiz_is_stopped_by_who_has_started_it_or_an_admin() -> None:
    async with new_room() as room:
        await start(room)
        refused = "Only an admin or the user who started the quiz may stop it"
        assert only(await room.say("?quiz stop", user="Bob")) == refused
        assert await room.say("?quiz stop", user="Eve") == ["The quiz is stopped"]
        assert await room.run_for(600) == []
        assert only(await room.say("?quiz stop", user="Eve")) == "No quiz is running"
        await room.say("?quiz start")
        assert await room.say("?quiz stop") == ["The quiz is stopped"]


async def test_a_quiz_that_was_stopped_does_not_disturb_the_next_one() -> None:
    async with new_room() as room:
        said = await start(room)
        first = answers_to(said)[0]
        await room.run_for(10)
        await room.say("?quiz stop")
        said = await room.say("?quiz start 1", user="Bob")
        assert said[-1].startswith("Question 1 of 1")
        if first not in answers_to(said):
            assert await room.say(first) == []
        right = answers_to(said)[0]
        assert await room.say(right) == [f"Ann is right: {right}", "The quiz is over. Ann: 1"]
        assert await room.run_for(600) == []
        assert await room.say("?quiz scores") == ["1. Ann: 1"]


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("?quiz start 0", "A quiz has 1 to 10 rounds"),
        ("?quiz start 11", "A quiz has 1 to 10 rounds"),
        ("?quiz start many", "“many” is no whole number"),
        ("?quiz stop", "No quiz is running"),
    ],
)
async def test_bad_input_starts_no_quiz(written: str, answer: str) -> None:
    async with new_room() as room:
        room.load(QUIZ)
        assert only(await room.say(written)).startswith(answer)
        assert await room.run_for(60) == []
        assert len(await room.say("?quiz start")) == 1


async def test_a_point_that_cannot_be_saved_does_not_end_the_quiz() -> None:
    async with new_room() as room:
        said = await start(room, "2")
        room.service.documents[document_name(QUIZ.name)] = json.dumps({"users": {"9": {"filler": "x" * 61_400}}})
        right = answers_to(said)[0]
        first, second = await room.say(right)
        assert first == f"Ann is right: {right}"
        assert second.startswith("That point is not remembered: a plugin keeps at most 60 KiB in a room")
        assert (await room.run_for(5))[0].startswith("Question 2 of 2")
