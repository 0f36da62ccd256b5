from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from dataclasses import replace

import pytest

from ravesvc.bot.command import Context, Registry
from ravesvc.bot.command_names import Permission
from ravesvc.bot.event import Event, EventKind
from ravesvc.bot.limits import CommandLimits
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.bot.room_settings import RoomSettings
from ravesvc.bot.text import duration
from ravesvc.common.token_bucket import Rate
from ravesvc.errors import Code, RaveError
from ravesvc.room.changes import Change, RoomKnown, RoomState, UsersJoined, UsersLeft, VideoEnded
from ravesvc.room.chat import Mention, Reaction
from ravesvc.room.playback import Playback
from ravesvc.room.server_clock import ServerClock
from tests.unit.bot_scene import ANN, BOB, BOT, DEVICE, MANY, OTHER_BOT, Room, Scene, incident


@pytest.mark.parametrize("prefixes", [(), ("?", "")])
def test_a_bot_without_a_usable_prefix_is_refused(prefixes: tuple[str, ...]) -> None:
    with pytest.raises(RaveError) as caught:
        Scene(prefixes=prefixes).play(asyncio.Event().wait)  # type: ignore[arg-type]
    assert caught.value.code is Code.CONFIG


# --- commands ---------------------------------------------------------------------------------------------------


async def test_ping_is_answered_with_any_prefix_and_in_any_case() -> None:
    scene = Scene()

    async with scene.running():
        for text in ("?ping", "!PING", "? ping now", "?ping"):
            assert "Pong" in await scene.answer(text)
        assert "Pong" in await scene.answer("?ping", None)


async def test_the_bot_itself_and_ignored_users_are_not_heard() -> None:
    scene = Scene()
    seen: list[Event] = []

    @scene.registry.on(EventKind.MESSAGE)
    async def note(event: Event) -> None:
        seen.append(event)

    async with scene.running():
        for sender in (BOT, OTHER_BOT):
            scene.say("?ping", sender)
            scene.say("hi", sender)
        assert "Pong" in await scene.answer("?ping")
        assert seen == []
        assert scene.room.silent


async def test_a_handler_gets_words_message_and_both_ways_to_speak() -> None:
    scene = Scene()
    contexts: list[Context] = []

    @scene.registry.command("say", "Says it.")
    async def say(context: Context) -> None:
        contexts.append(context)
        assert await context.reply(" ".join(context.args)) == "own0"
        assert await context.send(await context.display_name()) == "own1"

    async with scene.running():
        mention = Mention(BOB, "bob")
        message_id = scene.say("?SAY Hi @bob", mentions=(mention,))
        assert await scene.room.heard() == ("Hi @bob", message_id)
        assert await scene.room.heard() == ("Ann", None)
        (context,) = contexts
        assert (context.user_id, context.message.mentions, context.mesh_id) == (ANN, (mention,), Room.mesh_id)


async def test_permission_is_checked_before_the_handler_and_a_refusal_is_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()

    @scene.registry.command("leave", "Leaves.", permission=Permission.ADMIN)
    async def leave(context: Context) -> None:
        await context.reply("Bye")

    async with scene.running():
        refusal = await scene.answer("?leave")
        assert "Only admins may use ?leave" in refusal
        assert incident(refusal) in caplog.text
        scene.bot.permissions = StaticPermissions(admins=frozenset({ANN}))
        assert await scene.answer("?leave") == "Bye"
        assert "Only admins" in await scene.answer("?leave", None)


async def test_before_anybody_has_said_who_may_do_what_nobody_may(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(permissions=None)

    async with scene.running():
        for sender in (ANN, None):
            refusal = await scene.answer("?ping", sender)
            assert refusal.startswith("The service behind this bot does not answer yet. Try again in a while (error ")
            assert f"command ping refused to user {sender} (error {incident(refusal)})" in caplog.text
        scene.bot.permissions = StaticPermissions()
        assert await scene.answer("?ping") == "Pong!"


async def test_a_failure_in_words_is_answered_in_words(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()

    @scene.registry.command("set", "Sets.")
    async def set_(context: Context) -> None:
        raise RaveError(Code.NOT_FOUND, "no such film", hint="try another", film="x-17")

    async with scene.running():
        answer = await scene.answer("?set")
        assert answer.startswith("No such film. Try another (error ")
        assert "x-17" not in answer
        assert re.search(rf"{incident(answer)}.*x-17", caplog.text)


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (Code.INVALID_ARGUMENT, logging.INFO),
        (Code.ACCESS_DENIED, logging.INFO),
        (Code.BUSY, logging.INFO),
        (Code.LAST_ADMIN, logging.INFO),
        (Code.STORE, logging.WARNING),
        (Code.NOT_FOUND, logging.WARNING),
    ],
)
async def test_an_askers_own_mistake_warns_nobody(code: Code, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()

    @scene.registry.command("set", "Sets.")
    async def set_(context: Context) -> None:
        raise RaveError(code, "no")

    async with scene.running():
        answer = await scene.answer("?set")
        (record,) = [record for record in caplog.records if incident(answer) in record.getMessage()]
        assert (record.levelno, record.exc_info) == (level, None)


async def test_a_failure_that_is_logged_elsewhere_keeps_its_id(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()

    @scene.registry.command("set", "Sets.")
    async def set_(context: Context) -> None:
        raise RaveError(Code.STORE, "the store can't be used", incident="0123abcd")

    async with scene.running():
        assert await scene.answer("?set") == "The store can't be used (error 0123abcd)"
        assert "command set failed (error 0123abcd): " in caplog.text


async def test_a_failure_from_far_away_is_one_line_without_control_characters() -> None:
    scene = Scene()

    @scene.registry.command("set", "Sets.")
    async def set_(context: Context) -> None:
        raise RaveError(Code.SERVER_ERROR, "no\n?leave\x1b" + "x" * 2000)

    async with scene.running():
        answer = await scene.answer("?set")
        assert answer.startswith("No??leave?xxx")
        assert len(answer) < 600
        assert incident(answer)


async def test_the_detail_of_a_bug_goes_to_the_log_and_not_to_the_chat(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()

    @scene.registry.command("bug", "Fails.")
    async def bug(context: Context) -> None:
        raise ValueError("internal detail")

    async with scene.running():
        answer = await scene.answer("?bug")
        assert re.fullmatch(r"Something went wrong \(error [0-9a-f]{8}\)", answer)
        assert incident(answer) in caplog.text
        assert "internal detail" in caplog.text
        assert "Pong" in await scene.answer("?ping")


async def test_a_command_that_takes_too_long_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=CommandLimits(handler_timeout_s=0.01))

    @scene.registry.command("slow", "Waits.")
    async def slow(context: Context) -> None:
        await asyncio.Event().wait()

    async with scene.running():
        answer = await scene.answer("?slow")
        assert "took too long" in answer
        assert incident(answer) in caplog.text


async def test_a_command_may_have_a_time_limit_of_its_own() -> None:
    scene = Scene(limits=CommandLimits(handler_timeout_s=0))

    async def works(context: Context) -> None:
        await context.reply("done")

    scene.registry.command("slow", "Has time.", seconds=60.0)(works)
    scene.registry.command("hasty", "Has none.")(works)

    async with scene.running():
        assert await scene.answer("?slow") == "done"
        assert "took too long" in await scene.answer("?hasty")


async def test_commands_run_side_by_side_but_not_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=CommandLimits(user_rate=MANY.user_rate, room_rate=MANY.room_rate, max_running=2))
    go = asyncio.Event()

    @scene.registry.command("wait", "Waits.")
    async def wait(context: Context) -> None:
        await go.wait()
        await context.reply("done")

    async with scene.running():
        first, second = scene.say("?wait"), scene.say("?wait")
        answer = await scene.answer("?wait")
        assert "Too many commands are running" in answer
        assert f"command wait not run: too many are running (error {incident(answer)})" in caplog.text
        go.set()
        assert await scene.room.heard() == ("done", first)
        assert await scene.room.heard() == ("done", second)
        async with asyncio.timeout(5):
            while "Pong" not in await scene.answer("?ping"):
                pass  # the two have spoken, but may not have ended


@pytest.mark.parametrize("source", ["", "/etc/rave/commands.d/wait.py"])
async def test_an_admin_is_obeyed_although_what_others_ask_for_takes_all_places(source: str) -> None:
    scene = Scene(
        limits=CommandLimits(
            user_rate=MANY.user_rate, room_rate=MANY.room_rate, max_running=2, reserved_for_admins=1
        ),
        permissions=StaticPermissions(frozenset({BOB})),
    )

    running: list[int | None] = []
    part = Registry(source)
    scene.registry.include([part])

    @part.command("wait", "Waits.")
    async def wait(context: Context) -> None:
        running.append(context.user_id)
        await asyncio.Event().wait()

    async with scene.running():
        for user in (ANN, ANN, ANN, BOB, BOB):
            scene.say("?wait", user)
        for _ in range(2):
            assert "Too many commands are running" in (await scene.room.heard())[0]
        assert running == [ANN, ANN, BOB]


async def test_even_telling_that_the_bot_is_busy_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=CommandLimits(user_rate=MANY.user_rate, room_rate=MANY.room_rate, max_running=1))

    async with scene.running():
        scene.say("?ping")
        scene.say("?ping")
        scene.say("?ping")
        assert "too busy to answer" in caplog.text
        assert {(await scene.room.heard())[1], (await scene.room.heard())[1]} == {"m1", "m2"}


async def test_a_user_in_a_hurry_is_told_once_and_then_met_with_silence() -> None:
    scene = Scene(limits=CommandLimits(user_rate=Rate(2, 0.1)))

    async with scene.running():
        answers = [await scene.answer("?ping") for _ in range(3)]
        assert answers == ["Pong!", "Pong!", "Too many commands. Try again in 10 s"]
        scene.say("?ping")
        scene.say("?ping")
        assert "Pong" in await scene.answer("?ping", BOB)
        scene.now += 10
        assert "Pong" in await scene.answer("?ping")
        assert scene.room.silent


async def test_two_bots_do_not_answer_each_other_for_ever() -> None:
    scene = Scene(limits=CommandLimits(user_rate=Rate(5, 1.0), outgoing_rate=MANY.outgoing_rate))

    @scene.registry.command("echo", "Orders itself.")
    async def echo(context: Context) -> None:
        await context.reply("?echo")

    async with scene.running():
        answer = await scene.answer("?echo")
        rounds = 0
        while answer.startswith("?"):
            answer = await scene.answer(answer)
            rounds += 1
        assert rounds < 6
        scene.say(answer)
        assert "Pong" in await scene.answer("?ping", BOB)


async def test_without_a_room_nothing_happens_and_answers_fail_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene()
    started, go, failed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @scene.registry.command("wait", "Waits.")
    async def wait(context: Context) -> None:
        started.set()
        await go.wait()
        try:
            await context.reply("done")
        finally:
            failed.set()

    async with scene.running():
        scene.say("?wait")
        await started.wait()
        scene.bot.detach()
        go.set()
        scene.say("?ping")
        scene.bot.on_joined(frozenset({BOB}))
        await failed.wait()
        assert "cannot answer" in caplog.text
        assert scene.room.silent
        scene.bot.attach(scene.room)
        assert "Pong" in await scene.answer("?ping")


async def test_close_ends_running_commands() -> None:
    scene = Scene()
    started, cancelled = asyncio.Event(), asyncio.Event()

    @scene.registry.command("wait", "Waits.")
    async def wait(context: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with scene.running():
        scene.say("?wait")
        await started.wait()
        await scene.bot.close()
        assert cancelled.is_set()


# --- events -----------------------------------------------------------------------------------------------------


def listening(scene: Scene, *kinds: EventKind) -> asyncio.Queue[Event]:
    events: asyncio.Queue[Event] = asyncio.Queue()

    async def note(event: Event) -> None:
        events.put_nowait(event)

    for kind in kinds:
        scene.registry.on(kind)(note)
    return events


@pytest.mark.parametrize("text", ["hi", "", "?", "?? what", "!'quoted'", "?unknown"])
async def test_what_is_no_known_command_is_an_ordinary_message(text: str) -> None:
    scene = Scene()
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        scene.say(text)
        event = await events.get()
        assert event.message is not None
        assert (event.kind, event.user_id, event.message.text) == (EventKind.MESSAGE, ANN, text)
        assert await event.display_name() == "Ann"
        assert "Pong" in await scene.answer("?ping")
        assert events.empty()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("?Rules please", "rules"),
        ("¿ ＲＵＬＥＳ", "rules"),
        ("/rules", ""),
        ("the rules", ""),
        ("?", ""),
    ],
)
async def test_the_word_in_the_place_of_a_command_is_told(text: str, word: str) -> None:
    scene = Scene()
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        scene.say(text)
        assert (await events.get()).unknown_command == word


async def test_the_word_in_the_place_of_a_command_follows_the_prefix_of_the_room() -> None:
    scene = Scene()
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        scene.bot.apply_settings(RoomSettings(prefix="!"))
        scene.say("!rules")
        scene.say("?rules")
        seen = [await events.get() for _ in range(2)]
        assert [(event.unknown_command, event.prefixes) for event in seen] == [("rules", ("!",)), ("", ("!",))]


async def test_an_event_tells_who_else_is_in_the_room() -> None:
    scene = Scene()
    events = listening(scene, EventKind.USER_JOIN)

    async with scene.running():
        scene.bot.on_joined(frozenset({BOB}))
        event = await events.get()
        assert event.others == {ANN, BOB}


async def test_mentions_and_replies_are_recognised_by_id_alone() -> None:
    scene = Scene()
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        scene.say("@bot hi", mentions=(Mention(BOB, "bob"), Mention(BOT, "bot")))
        scene.say("@bot hi", mentions=(Mention(BOB, "bot"),), reply_to="other")
        scene.say("yes", reply_to="own0")
        seen = [await events.get() for _ in range(3)]
        assert [(e.mentions_bot, e.replies_to_bot) for e in seen] == [(True, False), (False, False), (False, True)]


@pytest.mark.parametrize(("user", "is_admin"), [(BOB, True), (ANN, False), (None, False)])
async def test_an_event_tells_whether_its_user_is_an_admin(user: int | None, is_admin: bool) -> None:
    scene = Scene(permissions=StaticPermissions(frozenset({BOB})))
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        scene.say("hi", user)
        assert (await events.get()).is_admin is is_admin


async def test_all_events_have_one_shape_and_may_speak() -> None:
    scene = Scene()
    events = listening(scene, *EventKind)

    async with scene.running():
        scene.bot.on_joined(frozenset({BOB, ANN}))
        scene.bot.on_left(frozenset({ANN}))
        message_id = scene.say("hi")
        scene.bot.on_kicked()
        seen = [await events.get() for _ in range(6)]
        assert sorted((e.kind, e.user_id or 0, e.mesh_id) for e in seen) == sorted(
            (kind, user, Room.mesh_id)
            for kind, user in [
                (EventKind.CONNECTED, 0),
                (EventKind.USER_JOIN, ANN),
                (EventKind.USER_JOIN, BOB),
                (EventKind.USER_LEFT, ANN),
                (EventKind.MESSAGE, ANN),
                (EventKind.KICKED, 0),
            ]
        )
        assert scene.looked_up == [[ANN, BOB]]
        for event in seen:
            await event.reply("r")
            assert await scene.room.heard() == ("r", message_id if event.message else None)
        await seen[0].send("s")
        assert await scene.room.heard() == ("s", None)


async def test_a_failing_or_slow_event_handler_stops_no_other_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(limits=CommandLimits(handler_timeout_s=0.01))

    @scene.registry.on(EventKind.USER_JOIN)
    async def fails(event: Event) -> None:
        raise ValueError("internal detail")

    @scene.registry.on(EventKind.USER_JOIN)
    async def hangs(event: Event) -> None:
        await asyncio.Event().wait()

    events = listening(scene, EventKind.USER_JOIN)

    async with scene.running():
        scene.bot.on_joined(frozenset({ANN}))
        assert (await events.get()).user_id == ANN
        assert caplog.text.count("a handler of on_user_join failed") == 2
        assert scene.room.silent


async def test_a_reaction_is_an_event_of_its_own_and_answered_where_it_is_to() -> None:
    scene = Scene()
    messages, reactions = listening(scene, EventKind.MESSAGE), listening(scene, EventKind.REACTION)

    async with scene.running():
        scene.say("", OTHER_BOT, reaction=Reaction("👍", "own0"))
        scene.say("", BOT, reaction=Reaction("👍", "own0"))
        scene.say("", reaction=Reaction("👍", "own0"))
        event = await reactions.get()
        assert (event.emoji, event.reacted_to, event.user_id, event.message) == ("👍", "own0", ANN, None)
        assert (event.replies_to_bot, event.is_reaction_to("own0"), event.is_reaction_to("own1")) == (
            True,
            True,
            False,
        )
        await event.react("❤️")
        assert await scene.room.heard() == ("❤️", "own0")
        await event.reply("Thanks")
        assert await scene.room.heard() == ("Thanks", "own0")
        scene.say("", BOB, reaction=Reaction("👎", "m7"))
        event = await reactions.get()
        assert (event.user_id, event.replies_to_bot, event.is_reaction_to("own0")) == (BOB, False, False)
        assert (event.reacts_with("👎"), event.reacts_with("👎🏽"), event.reacts_with("👍")) == (True, True, False)
        scene.say("hi")
        event = await messages.get()
        await event.react("👍")
        assert await scene.room.heard() == ("👍", event.message and event.message.id)
        await event.react("👍", to="own3")
        assert await scene.room.heard() == ("👍", "own3")
        assert not event.reacts_with("👍")
        assert (event.emoji, event.is_reaction_to("own0"), reactions.empty(), messages.empty()) == (
            "",
            False,
            True,
            True,
        )


async def test_two_bots_that_react_to_each_other_end_by_themselves() -> None:
    scene = Scene()

    @scene.registry.on(EventKind.REACTION)
    async def react(event: Event) -> None:
        await event.react("👍")

    async with scene.running():
        for count in range(20):
            scene.now += 1
            scene.say("", reaction=Reaction("👍", "m1"))
            said, reply_to = await scene.room.heard()
            if said != "👍":
                assert (count, reply_to) == (8, "m1")
                assert said.startswith("This looks like two bots")
                break
        else:
            pytest.fail("it never ends")
        scene.say("", reaction=Reaction("👍", "m1"))
        await scene.bot.settle()
        assert scene.room.silent


async def test_users_who_react_to_one_message_are_no_bot() -> None:
    scene = Scene()

    @scene.registry.on(EventKind.REACTION)
    async def count(event: Event) -> None:
        await event.send("One more")

    async with scene.running():
        for user in range(10, 50):
            scene.now += 1
            scene.say("", user, reaction=Reaction("👍", "own0"))
            assert await scene.room.heard() == ("One more", None)


async def test_a_flood_of_events_has_a_bound_and_harms_no_command(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=CommandLimits(max_running=2))

    @scene.registry.on(EventKind.MESSAGE)
    async def hangs(event: Event) -> None:
        await asyncio.Event().wait()

    async with scene.running():
        for _ in range(30):
            scene.say("hi")
        assert caplog.text.count("on_message is lost") == 1, "not for each message"
        assert "Pong" in await scene.answer("?ping")


# --- the room ---------------------------------------------------------------------------------------------------


async def test_watchers_are_told_all_changes_in_order_and_one_that_fails_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    told: list[Change] = []

    def fails(change: Change) -> None:
        raise ValueError("internal detail")

    async with scene.running():
        scene.bot.watch(fails)
        scene.bot.watch(told.append)
        ended = VideoEnded(Playback(url="https://a"))
        scene.bot.on_joined(frozenset({BOB}))
        scene.bot.on_change(ended)
        scene.bot.on_left(frozenset({BOB}))
        assert told == [UsersJoined(frozenset({BOB})), ended, UsersLeft(frozenset({BOB}))]
        assert caplog.text.count("a watcher failed at VideoEnded") == 1
        scene.bot.detach()
        scene.bot.on_change(ended)
        assert len(told) == 3


async def test_what_a_room_has_told_before_it_is_the_bots_is_told_when_it_is() -> None:
    scene = Scene()
    told: list[Change] = []

    async with scene.running():
        scene.bot.watch(told.append)
        scene.bot.attach(scene.room)
        assert told == []
        scene.room.state = RoomState(known=True, playback=Playback(url="https://a"))
        scene.bot.attach(scene.room)
        assert told == [RoomKnown(scene.room.state)]


async def test_a_command_is_given_the_room_as_it_was() -> None:
    scene = Scene()

    @scene.registry.command("where", "Where we are.")
    async def where(context: Context) -> None:
        assert context.room.playback
        await context.reply(f"{context.room.playback.position_at(context.server_now):.0f} s")

    async with scene.running():
        clock = scene.room.server_clock = ServerClock(steady=lambda: 5.0, wall=lambda: 0.0)
        clock.observe(1000.0)
        clock.observe(1030.0)
        scene.room.state = RoomState(known=True, playback=Playback(status="PLAY", position=7.0, time=1000.0))
        assert await scene.answer("?where") == "37 s"


# --- code of others ---------------------------------------------------------------------------------------------


def foreign(scene: Scene) -> Registry:
    """A plugin of the bot."""
    registry = Registry("greet.py")
    scene.registry.include([registry])
    return registry


def test_failures_of_others_are_named_and_told_and_those_of_ours_are_not(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=dataclasses.replace(MANY, handler_timeout_s=0.01))
    part = foreign(scene)

    async def fails(_: object) -> None:
        raise ValueError("internal detail")

    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    async def says(_: object) -> None:
        raise RaveError(Code.CLOSED, "the mesh is not connected")

    for name, handler in ("fail", fails), ("hang", hangs), ("say", says):
        part.command(name, "Theirs.")(handler)
        part.on(EventKind.USER_JOIN)(handler)
        scene.registry.command(f"our{name}", "Ours.")(handler)
        scene.registry.on(EventKind.USER_JOIN)(handler)

    async def body() -> None:
        for name in ("ourfail", "ourhang", "oursay"):
            await scene.answer(f"?{name}")
        assert scene.troubles == []
        for name, told in ("fail", "Something went wrong"), ("hang", "That took too long"), ("say", "The mesh is"):
            answer = await scene.answer(f"?{name}")
            assert answer.startswith(told)
            assert f"command {name} of greet.py" in caplog.text
            assert incident(answer) in caplog.text
        assert scene.troubles == [
            ("greet.py", "the command fail failed: ValueError"),
            ("greet.py", "the command hang took too long"),
        ]
        scene.troubles.clear()
        scene.bot.on_joined(frozenset({ANN}))
        await scene.bot.settle()
        assert caplog.text.count("a handler of on_user_join failed in greet.py") == 2, (
            "a connection that is gone is no failure"
        )
        assert caplog.text.count("a handler of on_user_join failed") == 4
        assert scene.troubles == [
            ("greet.py", "a handler of on_user_join failed: ValueError"),
            ("greet.py", "a handler of on_user_join took too long"),
        ]

    scene.play(body)


async def test_code_of_others_takes_no_place_away_from_ours(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(limits=CommandLimits(max_running=2, user_rate=MANY.user_rate, room_rate=MANY.room_rate))
    part = foreign(scene)

    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    part.command("hang", "Hangs.")(hangs)
    part.on(EventKind.MESSAGE)(hangs)
    events = listening(scene, EventKind.MESSAGE)

    async with scene.running():
        for _ in range(3):
            scene.say("hi")
            assert (await events.get()).user_id == ANN
        assert caplog.text.count("on_message is lost") == 1
        assert "on_message is lost for greet.py" in caplog.text
        for _ in range(2):
            scene.say("?hang")
        assert "Too many commands are running" in await scene.answer("?hang")
        assert "command hang of greet.py not run" in caplog.text
        assert "Pong" in await scene.answer("?ping")


async def test_a_cooldown_begins_with_a_run_that_was_allowed() -> None:
    scene = Scene(permissions=StaticPermissions(frozenset({BOB})))
    told: list[int | None] = []

    @scene.registry.command("dice", "Rolls.", permission=Permission.ADMIN, cooldown=30.0)
    async def dice(context: Context) -> None:
        told.append(context.user_id)
        await context.reply("4")

    async with scene.running():
        assert "Only admins" in await scene.answer("?dice", ANN)
        assert await scene.answer("?dice", BOB) == "4"
        scene.now += 9.5
        assert await scene.answer("?dice", BOB) == "You may use ?dice again in 21 s"
        scene.say("?dice", BOB)
        await scene.bot.settle()
        assert scene.room.silent, "that is said once"
        scene.permissions = scene.bot.permissions = StaticPermissions(frozenset({ANN, BOB}))
        assert await scene.answer("?dice", ANN) == "4"
        scene.now += 21
        assert await scene.answer("?dice", BOB) == "4"
        assert told == [BOB, ANN, BOB]


async def test_a_run_that_came_to_nothing_for_what_was_written_begins_no_cooldown() -> None:
    scene = Scene(limits=replace(MANY, user_rate=Rate(4, 1.0)))

    @scene.registry.command("dice", "Rolls.", cooldown=30.0)
    async def dice(context: Context) -> None:
        if context.args:
            raise RaveError(Code(context.args[0]), "no such dice")
        await context.reply("4")

    async with scene.running():
        for _ in range(3):
            assert (await scene.answer("?dice InvalidArgument")).startswith("No such dice")
        assert await scene.answer("?dice") == "4"
        assert await scene.answer("?dice") == "Too many commands. Try again in 1 s", "the throttle counts them all"
        assert (await scene.answer("?dice Network", BOB)).startswith("No such dice")
        assert await scene.answer("?dice", BOB) == "You may use ?dice again in 30 s"


# --- built-in commands ------------------------------------------------------------------------------------------


async def test_hello_greets_by_display_name_and_never_tells_a_peer_id() -> None:
    scene = Scene()

    async with scene.running():
        assert await scene.answer("?hello") == "Hello, Ann!"
        for sender in (77, None):
            answer = await scene.answer("?hello", sender)
            assert answer.startswith("Hello, ")
            assert DEVICE not in answer


async def test_help_lists_what_the_asker_may_run_and_no_more() -> None:
    scene = Scene(permissions=StaticPermissions(admins=frozenset({BOB})))

    @scene.registry.command("leave", "Leaves the mesh.", permission=Permission.ADMIN)
    async def leave(context: Context) -> None: ...

    async with scene.running():
        for_ann = await scene.answer("!help")
        assert "ping" in for_ann
        assert "leave" not in for_ann
        assert "Instead of ? you may also write !" in for_ann
        assert "leave" in await scene.answer("?help", BOB)


async def test_help_is_short_with_one_prefix_and_no_line_of_it_is_a_command() -> None:
    scene = Scene(prefixes=("*",))

    async with scene.running():
        answer = await scene.answer("*help")
        assert "Instead" not in answer
        assert not any(line.startswith("*") for line in answer.splitlines())


async def test_info_tells_mesh_server_and_version() -> None:
    scene = Scene()

    async with scene.running():
        assert await scene.answer("?info") == (
            "Mesh: Films (11111111)\nServer: ws.example\nBot: ravesvc 1.2, 9 commands"
        )
        scene.facts.title, scene.facts.server = "**\u202e**", ""
        assert (await scene.answer("?info")).startswith("Mesh: untitled (11111111)\nServer: unknown\n")


async def test_status_tells_connection_and_users() -> None:
    scene = Scene()

    async with scene.running():
        expected = "Connected for 15 min 0 s, 0 reconnections\nMesh 11111111: 3 users"
        assert await scene.answer("?status") == expected
        scene.facts.connected_since, scene.facts.reconnects = None, 1
        assert (await scene.answer("?status")).startswith("Connecting, 1 reconnection\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (11_550, "3 h 12 min"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
