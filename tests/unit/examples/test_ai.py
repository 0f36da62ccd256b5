from __future__ import annotations

import json
from typing import Any

import pytest

from ravesvc.commands import WebResponse
from ravesvc.errors import Code, RaveError
from ravesvc.testing import FakeRoom
from tests.unit.examples.shipped import EXAMPLES

URL = "https://ai.example/v1/chat/completions"
SECRETS = {"ai-key": "verysecret", "ai-url": URL, "ai-model": "small"}


def new_room(secrets: dict[str, str] | None = None) -> FakeRoom:
    return FakeRoom(admins=["Eve"], secrets=SECRETS if secrets is None else secrets)


def answers(room: FakeRoom, answer: object) -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]})
    room.http.answers[URL] = WebResponse(200, body.encode())


def messages(room: FakeRoom) -> list[tuple[str, str]]:
    """What the model saw at last."""
    *_, sent = room.http.asked[-1]
    return [(each["role"], each["content"]) for each in sent["messages"][1:]]


async def say(room: FakeRoom, text: str, user: str = "Ann") -> list[str]:
    """Say it after the cooldown."""
    await room.run_for(5)
    return await room.say(text, user=user)


async def test_a_question_is_answered_and_the_model_sees_what_was_said_before() -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, "A dense\n\nthing.")
        assert await say(room, "?ai What is a black hole?") == ["AI: A dense thing."]
        method, url, headers, sent = room.http.asked[0]
        assert (method, url, headers) == ("POST", URL, {"Authorization": "Bearer verysecret"})
        assert (sent["model"], sent["messages"][0]["role"]) == ("small", "system")
        assert await say(room, "?ai and why?", user="Bob") == ["AI: A dense thing."]
        assert messages(room) == [
            ("user", "What is a black hole?"),
            ("assistant", "A dense thing."),
            ("user", "and why?"),
        ]
        assert "Ann" not in json.dumps(sent)
        await room.run_for(1801)
        await say(room, "?ai again?")
        assert messages(room) == [("user", "again?")]


async def test_what_is_remembered_is_bounded_and_forgotten_at_an_admins_wish() -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, "Yes.")
        for number in range(8):
            await say(room, f"?ai {number}?")
        assert len(messages(room)) == 13
        assert "nly admins may" in (await say(room, "?ai forget"))[0]
        assert await say(room, "?ai forget", user="Eve") == ["It begins anew"]
        await say(room, "?ai new?")
        assert messages(room) == [("user", "new?")]


async def test_a_user_may_ask_ten_times_in_an_hour_also_after_a_restart() -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, "Yes.")
        for _ in range(10):
            assert await say(room, "?ai well?") == ["AI: Yes."]
        (said,) = await say(room, "?ai well?")
        assert said.startswith("You have asked 10 times within an hour. Ask again in 59 min")
        assert await say(room, "?ai well?", user="Bob") == ["AI: Yes."]
    async with new_room() as other:
        other.service.documents = room.service.documents
        other.load(EXAMPLES / "ai.py")
        answers(other, "Yes.")
        (said,) = await say(other, "?ai well?")
        assert said.startswith("You have asked 10 times")
        await other.run_for(3600)
        assert await say(other, "?ai well?") == ["AI: Yes."]


async def test_who_is_forgotten_has_no_more_questions_and_a_room_has_so_many() -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, "Yes.")
        for number in range(60):
            assert await say(room, "?ai well?", user=f"user{number // 10}") == ["AI: Yes."]
            if number == 9:
                room.service.documents.clear()
                (said,) = await say(room, "?ai well?", user="user0")
                assert said.startswith("You have asked 10 times")
        (said,) = await say(room, "?ai well?", user="another")
        assert said.startswith("This room has asked too much within an hour. Ask again in ")
        await room.run_for(3600)
        assert await say(room, "?ai well?", user="another") == ["AI: Yes."]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (WebResponse(401), "The AI does not accept the operator's key"),
        (WebResponse(404), "The AI does not know the operator's model or URL"),
        (WebResponse(429), "The AI is asked too much at the moment"),
        (WebResponse(500, b"verysecret"), "The AI has a problem (HTTP 500)"),
        (WebResponse(200, b"<html>"), "The server has answered no JSON"),
        (WebResponse(200, b"[]"), "The AI has given no answer"),
        (WebResponse(200, b'{"choices": []}'), "The AI has given no answer"),
        (RaveError(Code.TIMEOUT, "ai.example did not answer in time"), "Ai.example did not answer in time"),
    ],
)
async def test_what_goes_wrong_is_told(answer: Any, said: str) -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        room.http.answers[URL] = answer
        (told,) = await say(room, "?ai well?")
        assert told.startswith(said)
        assert "verysecret" not in told


@pytest.mark.parametrize("answer", ["", " \n", None, 7, ["x"]])
async def test_an_answer_without_words_is_none(answer: object) -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, answer)
        assert (await say(room, "?ai well?"))[0].startswith("The AI has given no answer")


async def test_long_texts_are_cut_or_refused() -> None:
    async with new_room() as room:
        room.load(EXAMPLES / "ai.py")
        answers(room, "?kick " * 10_000)
        (said,) = await say(room, "?ai well?")
        assert said.startswith("AI: ?kick ?kick")
        assert len(said) == len("AI: ") + 700
        assert (await say(room, f"?ai {'x' * 501}"))[0].startswith("A question has at most 500 characters")
        assert len(room.http.asked) == 1


async def test_without_a_key_no_question_is_counted() -> None:
    async with new_room({}) as room:
        room.load(EXAMPLES / "ai.py")
        assert (await say(room, "?ai well?"))[0].startswith("The operator has handed over no secret ai-url")
        assert room.service.documents == {}
