"""What the bot does not listen to: the same message again, its own account, and conversations without a human."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.message_filter import LoopVerdict, ReplyLoopGuard, SeenMessages
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.room.chat import ChatMessage, parse_chat
from tests.unit.bot_scene import ANN, BOB, BOT, OTHER_BOT, Scene

COPY = 9


def message(message_id: str, peer: str = "2_a") -> ChatMessage:
    return ChatMessage(message_id, peer, 2, "?ping", None, ())


def test_a_message_has_come_before_if_its_sender_and_id_have() -> None:
    seen = SeenMessages(limit=2)
    assert [seen.is_repeat(message("1")), seen.is_repeat(message("1")), seen.is_repeat(message("1", "3_b"))] == [
        False,
        True,
        False,
    ]
    # Nothing tells those without an id apart.
    assert not seen.is_repeat(message(""))
    assert not seen.is_repeat(message(""))
    seen.is_repeat(message("2"))
    assert not seen.is_repeat(message("1"))


def test_a_message_without_an_id_is_a_message() -> None:
    for data in ({"from": "7_a", "chat": "x"}, {"from": "7_a", "chat": "x", "id": None}):
        assert parse_chat(data).id == ""


async def test_a_message_that_is_delivered_again_runs_and_tells_nothing_again() -> None:
    scene = Scene(ignored=frozenset())
    heard: list[Event] = []

    @scene.registry.on(EventKind.MESSAGE)
    async def on_message(event: Event) -> None:
        heard.append(event)

    async with scene.running():
        for text in ("?ping", "hello"):
            again = ChatMessage(f"id {text}", "2_x", ANN, text, None, ())
            scene.bot.on_chat(again)
            scene.bot.detach()
            scene.bot.attach(scene.room)
            scene.bot.on_chat(again)
        await scene.bot.settle()
        assert await scene.room.heard() == ("Pong!", "id ?ping")
        assert scene.room.silent
        assert len(heard) == 1


async def test_a_message_without_an_id_is_answered_without_a_reference() -> None:
    scene = Scene()

    async with scene.running():
        for _ in range(2):
            scene.bot.on_chat(ChatMessage("", "2_x", ANN, "?ping", None, ()))
            assert await scene.room.heard() == ("Pong!", None)


async def test_its_own_account_is_not_answered_on_any_device() -> None:
    scene = Scene()

    async with scene.running():
        scene.bot.on_chat(ChatMessage("1", f"{BOT}_another", BOT, "?ping", None, ()))
        await scene.bot.settle()
        assert scene.room.silent


def echo(registry: Registry, speak: Callable[[Context, str], object]) -> None:
    @registry.command("echo", "Repeats what it is told.")
    async def run(context: Context) -> None:
        await speak(context, context.message.text)  # type: ignore[misc]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("speak", [Context.reply, Context.send])
def test_two_copies_end_by_themselves(
    speak: Callable[[Context, str], object], seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    echo(scene.registry, speak)

    async def body() -> None:
        answers, text = 0, "?echo echo"
        scene.say(text)
        while text.startswith("?echo"):
            text, _ = await scene.room.heard()
            answers += 1
            scene.now += seconds
            scene.say(text, COPY)
        assert "two bots" in text
        assert answers <= 30
        await scene.bot.settle()
        scene.say("?ping", COPY)
        await scene.bot.settle()
        assert scene.room.silent
        assert "Pong" in await scene.answer("?ping", BOB)

    with caplog.at_level(logging.WARNING):
        scene.play(body)
    assert sum("seems to be a bot" in record.message for record in caplog.records) == 1


def human(
    guard: ReplyLoopGuard, gaps: Iterator[float], now: list[float], count: int, *, replies: bool
) -> set[LoopVerdict]:
    found = set()
    for _ in range(count):
        now[0] += next(gaps)
        found.add(guard.check(ANN, "?ping", answers_us=replies))
        now[0] += 1.0
        guard.record_sent("Pong!")
    return found


@pytest.mark.parametrize(("gap", "count", "replies"), [(2.0, 30, False), (9.0, 90, False), (15.0, 20, True)])
def test_a_human_who_plays_alone_with_the_bot_is_heard(gap: float, count: int, replies: bool) -> None:
    now = [0.0]
    guard = ReplyLoopGuard(lambda: now[0])
    assert human(guard, iter(lambda: gap, None), now, count, replies=replies) == {LoopVerdict.ACCEPT}


def test_a_minute_without_it_and_it_is_heard_again() -> None:
    now = [0.0]
    guard = ReplyLoopGuard(lambda: now[0])
    found = []
    while not found or found[-1] is not LoopVerdict.IGNORE:
        guard.record_sent("?echo me again")
        now[0] += 1
        found.append(guard.check(COPY, "?echo me again", answers_us=True))
    assert found == [LoopVerdict.ACCEPT] * 7 + [LoopVerdict.WARN, LoopVerdict.IGNORE]
    # Trying again and again is no way out.
    for _ in range(5):
        now[0] += 59
        assert guard.check(COPY, "?ping", answers_us=False) is LoopVerdict.IGNORE
    now[0] += 60
    assert guard.check(COPY, "?ping", answers_us=False) is LoopVerdict.ACCEPT


def test_people_who_talk_meanwhile_keep_no_conversation_of_bots_alive() -> None:
    now = [0.0]
    guard = ReplyLoopGuard(lambda: now[0])
    found = []
    for _ in range(40):
        for _ in range(5):
            guard.record_sent("?echo me again")
            now[0] += 2
            found.append(guard.check(COPY, "?echo me again", answers_us=True))
        assert guard.check(ANN, "what is that?", answers_us=False) is LoopVerdict.ACCEPT
        if found[-1] is LoopVerdict.IGNORE:
            break
    assert found[-1] is LoopVerdict.IGNORE
    assert len(found) <= 30


def test_three_copies_are_no_company() -> None:
    guard = ReplyLoopGuard(lambda: 0.0)
    found = []
    for user in (COPY, OTHER_BOT) * 10:
        guard.record_sent("?echo me again")
        found.append(guard.check(user, "so: ?echo me again", answers_us=False))
    assert found[8:] == [LoopVerdict.IGNORE] * 12


def test_those_who_write_while_the_bot_is_silent_are_heard_however_much_they_write() -> None:
    guard = ReplyLoopGuard(lambda: 0.0)
    assert {guard.check(ANN, f"line {number}", answers_us=False) for number in range(500)} == {LoopVerdict.ACCEPT}


async def test_an_admin_is_heard_also_as_an_ignored_user() -> None:
    scene = Scene(permissions=StaticPermissions(frozenset({ANN})), ignored=frozenset({ANN, BOB}))

    async with scene.running():
        scene.say("?ping", BOB)
        assert "Pong" in await scene.answer("?ping", ANN)
        scene.bot.ignored_users = frozenset()
        assert "Pong" in await scene.answer("?ping", BOB)


async def test_an_admin_is_always_heard() -> None:
    scene = Scene(permissions=StaticPermissions(frozenset({ANN}), {"ping": Permission.ADMIN}))

    async with scene.running():
        for _ in range(40):
            assert "Pong" in await scene.answer("?ping", reply_to="own1")
