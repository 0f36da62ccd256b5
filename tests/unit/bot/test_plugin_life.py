"""From the load of a plugin to its end: timers, tasks, and what it is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bot.bot import Bot
from ravesvc.bot.command import Registry
from ravesvc.bot.plugin_tasks import MAX_TASKS
from ravesvc.bot.plugins import PluginLoader, Sources, load_file
from ravesvc.errors import RaveError
from ravesvc.testing import FakeRoom
from tests.unit.conftest import until

HEAD = "import asyncio\nfrom ravesvc.commands import command, every, on_connected, on_load, on_unload\n"


def failures(room: FakeRoom) -> list[str]:
    """Those of plugins so far, with the names of their files; the test has looked at them."""
    found = [failure.rpartition("/")[2] for failure in room.failures]
    room.failures.clear()
    return found


TALKER = """
@on_load
async def load(event):
    await event.send("load {n}")
    asyncio.create_task(talk(event))

async def talk(event):
    while True:
        await asyncio.sleep(0)
        talked.append("{n}")

talked = []

@on_connected
async def connected(event):
    await event.send("connected {n}")

@on_unload
async def unload(event):
    await event.send("unload {n}")
"""


class Fleet:
    """One bot in a room, and the loader of its plugins."""

    def __init__(self, room: FakeRoom, directory: Path) -> None:
        self.room = room
        self.directory = directory
        bot, registry = _parts(room)
        self.loader = PluginLoader(registry, Sources(directory), lambda errors: None, lambda: bot)

    async def refresh(self, name: str, text: str | None) -> list[str]:
        """What the bot says when this file has come, has changed or, with None, is gone."""
        file = self.directory / name
        if text is None:
            file.unlink()
        else:
            file.write_text(HEAD + text)
        await self.loader.read([])
        return await self.room._settle()


def _parts(room: FakeRoom) -> tuple[Bot, Registry]:
    return room._bot, room._registry


@asynccontextmanager
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    directory = tmp_path / "commands.d"
    directory.mkdir(mode=0o755)
    async with FakeRoom() as room:
        own = Fleet(room, directory)
        yield own
        await own.loader.close()


def tasks_of_plugins() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_guarded"]  # type: ignore[union-attr]


async def test_a_new_version_ends_the_old_one_and_is_told_that_the_bot_is_there(tmp_path: Path) -> None:
    async with fleet(tmp_path) as own:
        assert await own.refresh("talk.py", TALKER.replace("{n}", "1")) == ["load 1", "connected 1"]
        (old,) = tasks_of_plugins()
        assert await own.refresh("talk.py", TALKER.replace("{n}", "2")) == ["unload 1", "load 2", "connected 2"]
        assert old.done()
        assert len(tasks_of_plugins()) == 1
        assert await own.refresh("talk.py", None) == ["unload 2"]
        assert tasks_of_plugins() == []


async def test_a_version_that_is_unchanged_or_broken_ends_nothing(tmp_path: Path) -> None:
    async with fleet(tmp_path) as own:
        await own.refresh("talk.py", TALKER.replace("{n}", "1"))
        (task,) = tasks_of_plugins()
        assert await own.refresh("talk.py", TALKER.replace("{n}", "1")) == []
        assert await own.refresh("talk.py", "nonsense") == []
        assert tasks_of_plugins() == [task]
        assert not task.done()


async def test_a_file_that_comes_before_the_room_is_told_once_it_is_there(tmp_path: Path) -> None:
    async with fleet(tmp_path) as own:
        own.room._bot.detach()
        assert await own.refresh("talk.py", TALKER.replace("{n}", "1")) == []
        assert await own.room.connect() == ["load 1", "connected 1"]
        assert await own.room.connect() == ["connected 1"]


async def test_the_end_of_the_bot_is_the_end_of_its_plugins(tmp_path: Path) -> None:
    async with fleet(tmp_path) as own:
        await own.refresh("talk.py", TALKER.replace("{n}", "1"))
        await own.loader.close()
        assert await own.room._settle() == ["unload 1"]
        assert tasks_of_plugins() == []


async def test_a_plugin_that_ends_without_a_room_has_nobody_to_tell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(tmp_path) as own:
        await own.refresh("talk.py", TALKER.replace("{n}", "1"))
        own.room._bot.detach()
        caplog.set_level(logging.WARNING)
        await own.refresh("talk.py", None)
        assert caplog.records == []
        assert tasks_of_plugins() == []


async def test_a_task_that_catches_its_end_is_ended_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravesvc.bot.plugin_tasks._END_S", 0.05)
    text = """
@on_load
async def load(event):
    asyncio.create_task(cling({n}))

async def cling(times):
    for _ in range(times):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""
    async with fleet(tmp_path) as own:
        await own.refresh("cling.py", text.replace("{n}", "3"))
        await own.refresh("cling.py", None)
        assert tasks_of_plugins() == []
        assert caplog.records == []
        await own.refresh("cling.py", text.replace("{n}", "4"))
        (task,) = tasks_of_plugins()
        await own.refresh("cling.py", None)
        assert "cling.py: its tasks don't end: cling" in caplog.text
        caplog.clear()
        task.cancel()
        await asyncio.wait([task])


async def test_one_task_too_many_is_the_fault_of_the_command_that_starts_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = """
@command("many", "Starts tasks.")
async def many(context):
    for _ in range(1000):
        asyncio.create_task(wait())

async def wait():
    await asyncio.sleep(3600)
"""
    caplog.set_level(logging.CRITICAL)
    async with fleet(tmp_path) as own:
        await own.refresh("many.py", text)
        (said,) = await own.room.say("?many")
        assert said.startswith("Something went wrong (error ")
        assert len(tasks_of_plugins()) == MAX_TASKS
        (said,) = await own.room.say("?ping")
        assert said == "Pong!", "the program itself may go on"
        await own.refresh("many.py", None)
        assert tasks_of_plugins() == []
        assert failures(own.room) == ["many.py: the command many failed: RuntimeError"]


TASKS = """
from ravesvc.commands import UserError
kept = []

@command("start", "Starts tasks.")
async def start(context, how: str):
    def begin(): return asyncio.create_task(fail(how))
    match how:
        case "kept":
            kept.append(begin())
        case "later":
            asyncio.create_task(fail("later"))
        case "gather":
            await context.reply(str(await asyncio.gather(begin(), begin(), return_exceptions=True)))
        case "wait":
            (task,), _ = await asyncio.wait([begin()])
            await context.reply(str(task.exception()))
        case "group":
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail(how))
            except* ValueError as error:
                await context.reply(str(error.exceptions[0]))
        case "awaited":
            await begin()
        case "cancelled":
            begin().cancel()
        case "closed":
            asyncio.create_task(refuse())
        case _:
            begin()

async def fail(how):
    if how == "later":
        await asyncio.sleep(0.01)
    raise ValueError(how)

async def refuse():
    raise UserError("no")
"""


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ("forgotten", "the task fail failed: ValueError"),
        ("kept", "the task fail failed: ValueError"),
        ("later", "the task fail failed: ValueError"),
        ("awaited", "the command start failed: ValueError"),
        *((how, "") for how in ("gather", "wait", "group", "cancelled", "closed")),
    ],
)
async def test_a_task_that_fails_is_named_unless_something_awaits_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, failure: str
) -> None:
    caplog.set_level(logging.ERROR)
    async with fleet(tmp_path) as own:
        await own.refresh("tasks.py", TASKS)
        said = await own.room.say(f"?start {how}")
        if how in ("gather", "wait", "group"):
            assert "ValueError" in said[0] or said == [how]
        if how == "later":
            await until(lambda: own.room.failures)
        assert failures(own.room) == ([f"tasks.py: {failure}"] if failure else [])
        gc.collect()
        assert "never retrieved" not in caplog.text
        assert caplog.text.count("Traceback") == bool(failure)


async def test_timers_run_by_the_clock_and_end_with_the_file(tmp_path: Path) -> None:
    text = """
@every("10m")
async def ten(event):
    await event.send("ten")

@every(900)
async def fifteen(event):
    await event.send("fifteen")
"""
    async with fleet(tmp_path) as own:
        assert await own.refresh("tick.py", text) == []
        assert await own.room.run_for(599) == []
        assert await own.room.run_for(1) == ["ten"]
        assert await own.room.run_for(600) == ["fifteen", "ten"]
        assert sorted(await own.room.run_for(600)) == ["fifteen", "ten"]
        assert await own.refresh("tick.py", None) == []
        assert await own.room.run_for(3600) == []


async def test_a_run_of_a_timer_ends_with_the_file(tmp_path: Path) -> None:
    text = """
ended = []

@every("1m")
async def tick(event):
    await event.send("begun")
    try:
        await asyncio.Event().wait()
    finally:
        await event.send("ended")
"""
    async with fleet(tmp_path) as own:
        await own.refresh("tick.py", text)
        running = asyncio.create_task(own.room.run_for(60))
        await until(lambda: own.room._sent)
        await own.refresh("tick.py", None)
        assert await running == ["begun", "ended"]


async def test_a_timer_that_fails_runs_again_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = """
runs = []

@every("1m")
async def tick(event):
    runs.append(1)
    if len(runs) == 1:
        raise KeyError("first")
    await event.send(f"run {len(runs)}")
"""
    async with fleet(tmp_path) as own:
        await own.refresh("tick.py", text)
        assert await own.room.run_for(120) == ["run 2"]
        assert "a handler of every failed in" in caplog.text
        assert failures(own.room) == ["tick.py: a handler of every failed: KeyError"]
        caplog.clear()


async def test_without_a_room_a_timer_rests(tmp_path: Path) -> None:
    text = '@every("1m")\nasync def tick(event):\n    await event.send("tick")\n'
    async with fleet(tmp_path) as own:
        await own.refresh("tick.py", text)
        own.room._bot.detach()
        assert await own.room.run_for(180) == []
        await own.room.connect()
        assert await own.room.run_for(60) == ["tick"]


async def test_fake_room_has_timers_and_ends_what_it_has_loaded(tmp_path: Path) -> None:
    file = tmp_path / "talk.py"
    file.write_text(
        HEAD + TALKER.replace("{n}", "1") + '\n@every(60)\nasync def tick(event):\n    await event.send("tick")\n'
    )
    async with FakeRoom() as room:
        room.load(file)
        assert await room.run_for(130) == ["tick", "tick"]
        assert room.unasked == ["load 1", "connected 1"]
    assert room.unasked == ["load 1", "connected 1", "unload 1"]


COOLDOWNS = """
from ravesvc.commands import Cooldown, Per

@command("own", "For each user.", cooldown=30)
async def own(context):
    await context.reply("own")

@command("all", "For the room.", cooldown=Cooldown(30, Per.ROOM))
async def all_(context):
    await context.reply("all")

@command("role", "For admins, and for others.", cooldown=Cooldown(30, Per.ROLE))
async def role(context):
    await context.reply("role")

@command("free", "Not for admins.", cooldown=Cooldown(30, admins=False))
async def free(context):
    await context.reply("free")
"""


async def test_a_cooldown_is_of_a_user_or_of_the_room_and_may_spare_admins(tmp_path: Path) -> None:
    file = tmp_path / "rests.py"
    file.write_text(HEAD + COOLDOWNS)
    async with FakeRoom(admins=["Eve"]) as room:
        room.load(file)
        assert [await room.say("?own", user=user) for user in ("Ann", "Bob")] == [["own"], ["own"]]
        assert await room.say("?own") == ["You may use ?own again in 30 s"]
        assert await room.say("?all") == ["all"]
        assert await room.say("?all", user="Bob") == ["?all can be used again in 30 s"]
        assert [await room.say("?role", user=user) for user in ("Ann", "Eve")] == [["role"], ["role"]]
        assert await room.say("?role", user="Bob") == ["?role can be used again in 30 s"]
        assert await room.say("?role", user="Eve") == ["?role can be used again in 30 s"]
        assert (
            "• It may be used every 30 s by users, and by admins, in this room" in (await room.say("?help role"))[0]
        )
        assert [await room.say("?free", user="Eve") for _ in range(2)] == [["free"], ["free"]]
        assert await room.say("?free") == ["free"]
        assert await room.say("?free") == ["You may use ?free again in 30 s"]
        assert "• It may be used every 30 s in this room" in (await room.say("?help all"))[0]


CHECKS = """
from ravesvc.commands import UserError

async def is_early(context):
    if context.text == "late":
        raise UserError("it is too late for that", hint="come back tomorrow")

async def is_ann(context):
    if await context.display_name() != "Ann":
        raise UserError("only Ann may do that")

@command("dance", "Dances.", checks=[is_early, is_ann], cooldown=30)
async def dance(context, when: str, times: int = 1):
    await context.reply(f"dancing {when}")
"""


async def test_checks_run_one_after_another_before_the_words_are_read(tmp_path: Path) -> None:
    file = tmp_path / "dance.py"
    file.write_text(HEAD + CHECKS)
    async with FakeRoom() as room:
        room.load(file)
        (said,) = await room.say("?dance late", user="Bob")
        assert said.startswith("It is too late for that. Come back tomorrow (error ")
        (said,) = await room.say("?dance now never", user="Bob")
        assert said.startswith("Only Ann may do that (error ")
        (said,) = await room.say("?dance now never")
        assert said.startswith("“never” is no whole number")
        assert await room.say("?dance now") == ["dancing now"], "what was refused begins no cooldown"


async def test_checks_of_a_file_come_first_and_are_for_all_of_its_commands(tmp_path: Path) -> None:
    (tmp_path / "dance.py").write_text(
        f"""{HEAD}from ravesvc.commands import check
@command("sing", "Sings.")
async def sing(context):
    await context.reply("la")

@command("sing loud", "Sings.")
async def loud(context):
    await context.reply("LA")
{CHECKS}
@check
async def is_awake(context):
    if context.user_id != 2:
        raise UserError("the bot sleeps")
"""
    )
    (tmp_path / "other.py").write_text(
        f"{HEAD}@command('other', 'Works.')\nasync def other(context):\n    await context.reply('other')\n"
    )
    async with FakeRoom() as room:
        room.load(tmp_path / "dance.py")
        room.load(tmp_path / "other.py")
        assert await room.say("?sing", user="Ann") == ["la"]
        assert await room.say("?sing loud", user="Ann") == ["LA"]
        for text in ("?sing", "?sing loud", "?dance late"):
            assert (await room.say(text, user="Bob"))[0].startswith("The bot sleeps (error ")
        assert await room.say("?other", user="Bob") == ["other"]
        assert (await room.say("?dance late"))[0].startswith("It is too late")


async def test_a_check_that_returns_something_fails(tmp_path: Path) -> None:
    """As one that returns False would refuse elsewhere."""
    file = tmp_path / "dance.py"
    file.write_text(
        HEAD + "async def no(context):\n    return False\n" + CHECKS.replace("[is_early, is_ann]", "[no]")
    )
    async with FakeRoom() as room:
        room.load(file)
        (said,) = await room.say("?dance now")
        assert said.startswith("Something went wrong")
        assert failures(room) == ["dance.py: the command dance failed: TypeError"]


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("def bad(context): ...", "bad is no coroutine: write async def bad(...)"),
        ("async def bad(): ...", "bad has other parameters than it gets: write async def bad(context)"),
    ],
)
def test_a_check_that_can_not_be_run_is_refused(tmp_path: Path, check: str, told: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(f"{HEAD}\n{check}\n@command('x', 'X.', checks=[bad])\nasync def x(context): ...\n")
    with pytest.raises(RaveError, match=re.escape(told)):
        load_file(file, {})


FAILS = """
from ravesvc.commands import on_error

@on_error
async def explain(context, error):
    if isinstance(error, ValueError):
        raise error
    await context.reply(f"Oh no: {type(error).__name__}")

@command("key", "Fails.")
async def key(context):
    raise KeyError("x")

@command("value", "Fails, and its explanation as well.")
async def value(context):
    raise ValueError("x")
"""


async def test_a_file_explains_its_own_failures_and_they_are_named_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(tmp_path) as own:
        await own.refresh("fails.py", FAILS)
        assert await own.room.say("?key") == ["Oh no: KeyError"]
        assert "command key of" in caplog.text
        (said,) = await own.room.say("?value")
        assert said.startswith("Something went wrong (error ")
        assert "the handler of errors of" in caplog.text
        assert len(failures(own.room)) == 2
        caplog.clear()
