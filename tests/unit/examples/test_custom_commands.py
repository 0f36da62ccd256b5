"""Text commands: who makes them, what they are called, and when they are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravesvc.testing import FakeRoom
from tests.unit.examples.shipped import EXAMPLES, new_room, only, restarted

CUSTOM = EXAMPLES / "custom_commands.py"
ADDED = ["From now on ?rules is answered with that"]


async def add_rules(room: FakeRoom) -> None:
    room.load(CUSTOM)
    assert await room.say("?cmd add Rules Be kind", user="Eve") == ADDED


@pytest.mark.parametrize("written", ["?rules", "?RULES", "¿ ｒｕｌｅｓ", "?rules please"])
async def test_a_text_command_is_answered(written: str) -> None:
    async with new_room() as room:
        await add_rules(room)
        assert await room.say(written) == ["Be kind"]


@pytest.mark.parametrize("written", ["rules", "the ?rules", "?rule", "!rules", "?", "?rulesx"])
async def test_nothing_else_is(written: str) -> None:
    async with new_room() as room:
        await add_rules(room)
        assert await room.say(written) == []


async def test_the_prefix_is_that_of_the_room() -> None:
    async with new_room(prefixes=("!", "-")) as room:
        room.load(CUSTOM)
        assert await room.say("-cmd add -rules Be kind", user="Eve") == ["From now on !rules is answered with that"]
        assert await room.say("?rules") == []
        assert await room.say("!rules") == ["Be kind"]
        assert await room.say("-rules", user="Bob") == []
        room.pass_time(3)
        assert await room.say("-rules", user="Bob") == ["Be kind"]


async def test_the_text_stays_as_it_was_written_and_can_be_changed() -> None:
    async with new_room() as room:
        await add_rules(room)
        await room.say("?cmd alias r rules", user="Eve")
        await room.say("?cmd add rules 1.  Be kind\n2. Be {brief}", user="Eve")
        assert await room.say("?r") == ["1.  Be kind\n2. Be {brief}"]


async def test_an_alias_is_another_name() -> None:
    async with new_room() as room:
        await add_rules(room)
        assert await room.say("?cmd alias R ?rules", user="Eve") == ["From now on ?r is another name of it"]
        assert await room.say("?cmd alias law r", user="Eve") == ["From now on ?law is another name of it"]
        assert await room.say("?law") == ["Be kind"]
        assert await room.say("?cmd list", user="Bob") == ["Text commands: ?rules = ?r = ?law"]


async def test_a_command_is_removed_with_its_aliases_and_an_alias_alone() -> None:
    async with new_room() as room:
        await add_rules(room)
        await room.say("?cmd add site example.org", user="Eve")
        await room.say("?cmd alias r rules", user="Eve")
        await room.say("?cmd alias law rules", user="Eve")
        assert await room.say("?cmd remove R", user="Eve") == ["Removed: ?r"]
        assert await room.say("?cmd list") == ["Text commands: ?rules = ?law, ?site"]
        assert await room.say("?cmd remove rules", user="Eve") == ["Removed: ?rules"]
        assert await room.say("?cmd list") == ["Text commands: ?site"]
        assert await room.say("?law") == []
        assert only(await room.say("?cmd remove rules", user="Eve")).startswith("There is no such text command")


async def test_the_room_remembers_them() -> None:
    async with new_room() as room:
        await add_rules(room)
        await room.say("?cmd alias r rules", user="Eve")
        async with restarted(room) as other:
            other.load(CUSTOM)
            assert await other.say("?rules") == ["Be kind"]
            assert await other.say("?r", user="Bob") == []
            other.pass_time(3)
            assert await other.say("?r", user="Bob") == ["Be kind"]


@pytest.mark.parametrize("written", ["?cmd add a b", "?cmd remove rules", "?cmd alias r rules"])
async def test_to_change_them_is_for_admins(written: str) -> None:
    async with new_room() as room:
        await add_rules(room)
        assert only(await room.say(written)).startswith("Only admins may use ?cmd")
        assert await room.say("?cmd list") == ["Text commands: ?rules"]


@pytest.mark.parametrize("name", ["ping", "PING", "?ping", "cmd", "ｐｉｎｇ"])
async def test_a_command_of_the_bot_is_no_text_command(name: str) -> None:
    async with new_room() as room:
        room.load(CUSTOM)
        assert "The bot has a command" in only(await room.say(f"?cmd add {name} Be kind", user="Eve"))
        await room.say("?cmd add rules Be kind", user="Eve")
        assert "The bot has a command" in only(await room.say(f"?cmd alias {name} rules", user="Eve"))
        assert await room.say("?ping") == ["Pong!"]


async def test_a_command_that_comes_later_takes_its_place(tmp_path: Path) -> None:
    async with new_room() as room:
        await add_rules(room)
        file = tmp_path / "rules.py"
        file.write_text(
            "from ravesvc.commands import command\n\n"
            '@command("rules", "x")\nasync def rules(context):\n    await context.reply("The real one")\n'
        )
        room.load(file)
        assert await room.say("?rules") == ["The real one"]


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("?cmd add rules", "Write ?cmd add <name> <text"),
        ("?cmd add", "Write ?cmd add <name> <text"),
        (f"?cmd add {'x' * 33} Be kind", "A name has at most 32 characters"),
        (f"?cmd add x {'y' * 301}", "A text has at most 300 characters"),
        ('?cmd add "two words" Be kind', "The name of a text command is one word"),
        ('?cmd add "" Be kind', "The name of a text command is one word"),
        ("?cmd add ? Be kind", "The name of a text command is one word"),
        ("?cmd add x ?kick @Ann", "The text must not begin like a command"),
        ("?cmd alias r nothing", "There is no such text command. ?cmd list shows all"),
        ("?cmd remove nothing", "There is no such text command"),
    ],
)
async def test_bad_input_changes_nothing(written: str, answer: str) -> None:
    async with new_room() as room:
        room.load(CUSTOM)
        assert only(await room.say(written, user="Eve")).startswith(answer)
        assert await room.say("?cmd list") == ["Text commands: none yet"]


async def test_names_are_taken_once() -> None:
    async with new_room() as room:
        await add_rules(room)
        await room.say("?cmd add site example.org", user="Eve")
        await room.say("?cmd alias r rules", user="Eve")
        assert only(await room.say("?cmd add r Red", user="Eve")) == "R is an alias already. Remove it first"
        for name in "r", "rules", "site":
            assert "There is a text command" in only(await room.say(f"?cmd alias {name} site", user="Eve"))
        assert await room.say("?cmd list") == ["Text commands: ?rules = ?r, ?site"]


async def test_a_room_has_fifty_of_them_with_three_aliases_each() -> None:
    async with new_room() as room:
        room.load(CUSTOM)
        for number in range(50):
            only(await room.say(f"?cmd add c{number} {'x' * 300}", user="Eve"))
        assert "at most 50 text commands" in only(await room.say("?cmd add more x", user="Eve"))
        assert "is answered" in only(await room.say("?cmd add c7 changed", user="Eve"))
        for number in range(3):
            assert "another name" in only(await room.say(f"?cmd alias a{number} c7", user="Eve"))
        assert "at most 3 aliases" in only(await room.say("?cmd alias more c7", user="Eve"))


async def test_another_bot_that_answers_is_not_answered_for_ever() -> None:
    async with new_room() as room:
        await add_rules(room)
        answers = 0
        for _ in range(100):
            answers += len(await room.say("?rules", user="Robot"))
            room.pass_time(0.1)
        assert answers <= 5, "ten seconds have passed"


async def test_users_and_commands_rest_after_an_answer() -> None:
    async with new_room() as room:
        await add_rules(room)
        await room.say("?cmd add site example.org", user="Eve")
        assert await room.say("?rules") == ["Be kind"]
        assert await room.say("?site") == [], "the same user"
        assert await room.say("?rules", user="Bob") == [], "the same command"
        assert await room.say("?site", user="Bob") == ["example.org"]
        room.pass_time(3)
        assert await room.say("?site") == ["example.org"]
