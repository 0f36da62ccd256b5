"""The loop in this process, with lines from a list: the bot and the simulator are the real ones."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ravesvc.dev import __main__ as program
from ravesvc.dev import dev_room, repl
from ravesvc.dev.dev_room import commands_directory
from ravesvc.dev.plugin_files import plugin_files
from ravesvc.dev.repl import Repl

pytestmark = pytest.mark.slow

COUNT = """
from ravesvc.commands import Member, Picture, command, on_load, on_user_join

@command("count", "Counts.")
async def count(context):
    n = await context.store.update("n", lambda n: n + 1, 0)
    await context.reply(f"count {n}")

@command("who", "Tells who is meant.")
async def who(context, *members: Member):
    await context.reply(", ".join(member.name for member in members))

@command("order", "Asks.")
async def order(context):
    n = await context.ask("How many?", int)
    await context.reply(f"{n}, coming up")

@command("fail", "Fails.")
async def fail(context):
    1 / 0

@on_user_join
async def greet(event):
    await event.send(f"Welcome, {await event.display_name()}")
"""


class Listed:
    """Lines that are given, or what is done in the place of one. Implements `Console`."""

    def __init__(self, lines: Sequence[str | Callable[[], object]], *, interactive: bool = False) -> None:
        self.interactive = interactive
        self.shown: list[str] = []
        self.prompts: list[str] = []
        self._lines = list(lines)

    async def line(self) -> str | None:
        while self._lines:
            line = self._lines.pop(0)
            if isinstance(line, str):
                return line
            line()
        return None

    def show(self, text: str) -> None:
        self.shown += text.splitlines()

    def set_prompt(self, prompt: str) -> None:
        self.prompts.append(prompt)


class Author:
    """A directory with a file of commands."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "count.py"
        self.save(COUNT)
        self._room = directory / "room"
        self._room.mkdir()

    def save(self, text: str) -> None:
        self.file.write_text(text)

    async def run(self, console: Listed, *admins: str) -> bool:
        files = plugin_files([str(self.file)], commands_directory(self._room))
        return await Repl(files, console, self._room).run(["ann", *admins])


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path)


async def test_users_talk_with_the_bot(author: Author) -> None:
    console = Listed(
        [
            *("?count", "/join Bob", "?who @Bob @ann", "/as Cy", "?order", "two", "2", "/users", "/leave Bob"),
            *("hello\tthere", "/admin Bob", "?whoami", "/help"),
        ]
    )
    assert await author.run(console, "cy")
    assert console.shown[:-10] == [
        f"* {author.file} is loaded. Commands: count, fail, order, who",
        "Ann> ?count",
        "Botty> count 1",
        "* Bob has joined",
        "Botty> Welcome, Bob",
        "Ann> ?who @Bob @ann",
        "Botty> Bob, Ann",
        "* Cy has joined",
        "Botty> Welcome, Cy",
        "Cy> ?order",
        "Botty> How many?",
        "Cy> two",
        "Botty> “two” is no whole number",
        "Cy> 2",
        "Botty> 2, coming up",
        "* Ann (admin), Botty (the bot), Bob, Cy (admin)",
        "* Bob has left",
        "Cy> hello?there",
        "* Bob is an admin now",
        "Cy> ?whoami",
        "Botty> Your user id is 100000002, and you are an admin",
    ]
    assert console.shown[-10] == "* any text    say it"
    assert list(dict.fromkeys(console.prompts)) == ["Ann> ", "Cy> "]


async def test_users_react_and_what_a_file_imports_is_loaded_with_it(author: Author) -> None:
    helper = author.file.with_name("_words.py")
    helper.write_text("thanks = 'Thanks'")
    author.save(
        "from ravesvc.commands import command, on_reaction\nfrom _words import thanks\n"
        "@command('hi', 'Says hi.')\nasync def hi(context):\n    await context.react('👋')\n"
        "    await context.reply('Hi')\n"
        "@on_reaction\nasync def reacted(event):\n    await event.send(f'{thanks} for {event.emoji}')\n"
    )
    console = Listed(
        [
            *("/react 👍", "?hi", "/react 👍"),
            lambda: helper.write_text("1 +"),
            "/react 👎",
            lambda: helper.write_text("thanks = 'Cheers'"),
            "/react 👎",
        ]
    )
    assert not await author.run(console)
    loaded = f"* {author.file} is loaded. Commands: hi"
    assert console.shown == [
        loaded,
        "! the bot has said nothing to react to",
        "Ann> ?hi",
        "* Botty reacts with 👋",
        "Botty> Hi",
        "* Ann reacts with 👍",
        "Botty> Thanks for 👍",
        f"! {helper}, line 1: SyntaxError: invalid syntax; the former version goes on",
        "* Ann reacts with 👎",
        "Botty> Thanks for 👎",
        loaded,
        "* Ann reacts with 👎",
        "Botty> Cheers for 👎",
    ]


async def test_what_is_saved_is_loaded_and_a_restart_keeps_the_store(author: Author) -> None:
    console = Listed(
        [
            *("?count", lambda: author.save(COUNT.replace("count {n}", "counted {n}")), "?count"),
            *("/restart", "?count", lambda: author.save("1 +"), "?count", "?fail", "/restart"),
        ]
    )
    assert not await author.run(console), "a file has failed to load"
    loaded = f"* {author.file} is loaded. Commands: count, fail, order, who"
    assert console.shown[:12] == [
        *(loaded, "Ann> ?count", "Botty> count 1"),
        *(loaded, "Ann> ?count", "Botty> counted 2"),
        *(loaded, "* The bot has started again", "Ann> ?count", "Botty> counted 3"),
        f"! {author.file}, line 1: SyntaxError: invalid syntax; the former version goes on",
        "Ann> ?count",
    ]
    assert console.shown[12] == "Botty> counted 4"
    fail_line = COUNT.splitlines().index("    1 / 0") + 1
    assert any(line.startswith(f"  {author.file}, line {fail_line}, in fail") for line in console.shown)
    assert "  ZeroDivisionError: division by zero" in console.shown
    assert console.shown[-2:] == [
        f"! {author.file}, line 1: SyntaxError: invalid syntax; nothing of it is loaded",
        "* The bot has started again",
    ]


GREET = """
from ravesvc.commands import command, setting

greeting = setting("greeting", "What is said", default="Hello")

@command("greet", "Greets.")
async def greet(context):
    await context.reply(greeting.of(context))
"""


async def test_a_setting_is_changed_and_a_restart_keeps_it(author: Author) -> None:
    author.save(GREET)
    name = f"{author.file.stem}.greeting"
    console = Listed(["?greet", f"?settings {name} Good day", "?greet", "/restart", "?greet"])
    assert await author.run(console)
    assert f"       • **{name}** = Good day: What is said" in console.shown
    said = [line for line in console.shown if line.startswith("Botty> ")]
    assert said == ["Botty> Hello", "Botty> Changed:", "Botty> Good day", "Botty> Good day"]


async def test_a_person_is_told_what_to_do_and_a_saved_file_is_noticed(author: Author) -> None:
    console = Listed([], interactive=True)
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    console.line = lines.get  # type: ignore[method-assign]
    running = asyncio.create_task(author.run(console))
    await console_shows(console, "* Write to the bot, such as ?help; /help lists more.")
    author.save("1 +")
    await console_shows(console, f"! {author.file}, line 1: SyntaxError: invalid syntax; the former version goes on")
    author.file.unlink()
    await console_shows(console, f"! {author.file} can't be read: No such file or directory; the former version")
    lines.put_nowait("/leave Bob")
    await console_shows(console, "! Bob is not here (see /users)")
    lines.put_nowait("?leave")
    await console_shows(console, "* Botty has left; /restart brings it back")
    author.save(COUNT.replace("Welcome", "Hello"))
    lines.put_nowait("/restart")
    await console_shows(console, "* The bot has started again")
    lines.put_nowait("/join Bob")
    await console_shows(console, "Botty> Hello, Bob")
    lines.put_nowait("/quit")
    assert await running, "what a person sees is no failure"


async def console_shows(console: Listed, text: str) -> None:
    async with asyncio.timeout(30):
        while not any(line.startswith(text) for line in console.shown):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def test_a_line_that_means_nothing_fails_a_script(
    author: Author, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Listed(["/jion Bob", "?count"])
    monkeypatch.setattr(repl, "ScriptConsole", lambda: console)
    assert program.main([str(author.file)]) == 1
    assert console.shown[1:] == [
        "! there is no /jion (/help lists what there is)",
        "Ann> ?count",
        "Botty> count 1",
    ]
    assert capsys.readouterr().err == ""


def test_a_signal_ends_it_in_order(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.save("from ravesvc.commands import on_unload\n@on_unload\nasync def end(event): await event.send('bye')\n")
    console = Listed(["hello", lambda: os.kill(os.getpid(), signal.SIGTERM), *["hello"] * 1000])
    monkeypatch.setattr(repl, "ScriptConsole", lambda: console)
    assert program.main([str(author.file)]) == 1, "it is not known how the rest would have gone"
    assert console.shown[-1] == "Botty> bye"
    assert 1 <= console.shown.count("Ann> hello") < 1000


def test_a_bot_that_does_not_come_is_told_in_words(
    author: Author, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev_room, "_JOIN_TIMEOUT_S", 0.0)
    monkeypatch.setattr(repl, "ScriptConsole", lambda: Listed([]))
    assert program.main([str(author.file)]) == 1
    assert capsys.readouterr().err.startswith("ravesvc-dev: the bot does not come into the room")


def test_ctrl_c_before_there_is_a_room(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(repl, "run", interrupt)
    assert program.main([str(author.file)]) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.py"], "none.py does not exist"),
        (["--admin", "Bob and Cy", "none.py"], "'Bob and Cy' is no name (write one word of at most"),
    ],
)
def test_a_wrong_command_line_is_told_in_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert program.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"ravesvc-dev: {why}")
