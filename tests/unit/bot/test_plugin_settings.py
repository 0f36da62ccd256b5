"""Settings that a plugin declares, in rooms: what authors may declare, what admins write, what is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

from ravesvc.bot import plugins
from ravesvc.bot.built_in_commands import built_in_commands
from ravesvc.bot.command import Registry
from ravesvc.bot.registration import registering
from ravesvc.bot.room_settings import OPTIONS
from ravesvc.bot.settings_keeper import SettingsKeeper
from ravesvc.commands import Duration, setting
from ravesvc.errors import RaveError
from ravesvc.testing import FakeRoom, FakeService
from tests.unit.examples.shipped import only

WELCOME = """
import asyncio
from typing import Literal
from ravesvc.commands import Duration, command, on_user_join, setting

greeting = setting("greeting", "What new users are told", default="Welcome!")
wait = setting("wait", "How long they wait", default=Duration(90), between=(1, 600))
most = setting("most", "How many are greeted", default=5, between=(1, 20))
share = setting("share", "How many of all", default=0.5)
loud = setting("loud", "In capitals", default=False)
color = setting("color", "The color", default="red", kind=Literal["red", "dark blue"])

@command("values", "Tells them.")
async def values(context):
    await context.reply(repr([each.of(context) for each in (greeting, wait, most, share, loud, color)]))

@on_user_join
async def join(event):
    await event.send(greeting.of(event))

@command("later", "Tells one later.")
async def later(context):
    await asyncio.sleep(30)
    await context.reply(greeting.of(context))
"""
DEFAULTS = "['Welcome!', 90.0, 5, 0.5, False, 'red']"


@pytest.fixture
def welcome(tmp_path: Path) -> Path:
    file = tmp_path / "welcome.py"
    file.write_text(WELCOME)
    return file


def room_with(documents: dict[str, str] | None = None) -> FakeRoom:
    room = FakeRoom(admins=["Ann"])
    room.service.documents = documents if documents is not None else {}
    return room


# --- in a room --------------------------------------------------------------------------------------------------


async def test_each_room_has_its_values(welcome: Path) -> None:
    async with room_with() as room, room_with() as other:
        room.load(welcome)
        other.load(welcome)
        assert await room.say("?values") == [DEFAULTS]
        for text in (
            "greeting Hi  there, you",
            "wait 2 min",
            "most ２０",
            "share 0,25",
            "loud ON",
            "color Dark Blue",
        ):
            assert only(await room.say(f"?settings welcome.{text}")).startswith("Changed:\n• **welcome.")
        assert await room.say("?values") == ["['Hi  there, you', 120.0, 20, 0.25, True, 'dark blue']"]
        assert await room.join("Bob") == ["Hi  there, you"]
        assert await other.say("?values") == [DEFAULTS]
        assert await room.say("?settings Welcome.Greeting DEFAULT") == [
            "Changed:\n• **welcome.greeting** = Welcome!: What new users are told"
        ]
        assert await room.join("Cy") == ["Welcome!"]


async def test_what_was_set_outlives_the_bot_and_the_file(welcome: Path) -> None:
    async with room_with() as room:
        room.load(welcome)
        await room.say("?settings welcome.most 7")
        await room.say("?settings lang de")
        assert json.loads(room.service.documents["settings"]) == {"lang": "de", "welcome.most": "7"}
        await room.say("?settings lang default")
    async with room_with(room.service.documents) as later:
        assert "welcome" not in only(await later.say("?settings"))
        assert only(await later.say("?settings welcome.most 8")).startswith("There is no setting welcome.most")
        await later.say("?settings games off")
        later.load(welcome)
        assert "• **welcome.most** = 7: How many are greeted" in only(await later.say("?settings welcome"))
        assert ", 7, " in only(await later.say("?values"))
        await later.say("?settings welcome.most default")
        assert json.loads(room.service.documents["settings"]) == {"games": "off"}


async def test_a_command_that_runs_reads_the_value_of_that_moment(welcome: Path) -> None:
    async with room_with() as room:
        room.load(welcome)
        await room.say("?later", user="Bob")
        await room.say("?settings welcome.greeting Hi")
        assert await room.run_for(31) == ["Hi"]


@pytest.mark.parametrize("text", ['"99"', '"x"', '""', "7", "null", '["7"]', '"' + "9" * 501 + '"'])
async def test_what_can_not_be_read_is_the_default(welcome: Path, text: str) -> None:
    async with room_with({"settings": f'{{"welcome.most": {text}, "welcome.wait": "5s"}}'}) as room:
        room.load(welcome)
        assert await room.say("?values") == ["['Welcome!', 5.0, 5, 0.5, False, 'red']"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("most 21", "The setting welcome.most can't be 21. It can be: a number from 1 to 20"),
        ("most two", "The setting welcome.most can't be two. It can be: a number from 1 to 20"),
        ("wait 1h", "The setting welcome.wait can't be 1h. It can be: a time from 1s to 10min"),
        ("wait 5s now", "The setting welcome.wait can't be 5s now. It can be: a time from 1s to 10min"),
        ("share half", "The setting welcome.share can't be half. It can be: a number"),
        ("loud loud", "The setting welcome.loud can't be loud. It can be: on, off"),
        ("color blue", "The setting welcome.color can't be blue. It can be: red, dark blue"),
        (
            "greeting " + "x" * 501,
            "The setting welcome.greeting can't be xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…. It can be: text of up to",
        ),
        ("greeting a\nb", "The setting welcome.greeting can't be a b. It can be: text of up to 500 characters"),
        (
            "colour red",
            "There is no setting welcome.colour. There are: welcome.greeting, welcome.wait, welcome.most, "
            "welcome.share, welcome.loud, welcome.color",
        ),
    ],
)
async def test_mistakes_are_answered_in_words(welcome: Path, text: str, said: str) -> None:
    async with room_with() as room:
        room.load(welcome)
        assert only(await room.say(f"?settings welcome.{text}")).startswith(said)
        assert room.service.documents == {}


async def test_settings_of_plugins_are_for_admins(welcome: Path) -> None:
    async with room_with() as room:
        room.load(welcome)
        assert only(await room.say("?settings welcome.most 7", user="Bob")).startswith(
            "Only admins may use ?settings"
        )
        assert ", 5, " in only(await room.say("?values"))


async def test_a_setting_is_explained(welcome: Path) -> None:
    async with room_with() as room:
        room.load(welcome)
        await room.say("?settings welcome.greeting " + "long " * 80)
        assert only(await room.say("?settings welcome.greeting")).splitlines() == [
            f"• **welcome.greeting** = {('long ' * 80).strip()}: What new users are told",
            "• Values: text of up to 500 characters, default",
        ]
        listed = only(await room.say("?settings welcome"))
        assert f"= {('long ' * 12)[:59].rstrip()}…: What" in listed
        assert "• **welcome.wait** = 90s: How long they wait" in listed


async def test_a_long_list_names_the_plugins(welcome: Path, tmp_path: Path) -> None:
    async with room_with() as room:
        (tmp_path / "hello.py").write_text(WELCOME.replace('"values"', '"v"').replace('"later"', '"l"'))
        (tmp_path / "short.py").write_text('from ravesvc.commands import setting\nsetting("x", "It", default=1)')
        room.load(tmp_path / "short.py")
        assert only(await room.say("?settings")).endswith("\n• **short.x** = 1: It")
        room.load(welcome)
        room.load(tmp_path / "hello.py")
        *_, last = only(await room.say("?settings")).splitlines()
        assert last == "• Of plugins: hello, short, welcome. Write for example ?settings hello"
        assert only(await room.say("?settings short")) == "Settings of this room:\n• **short.x** = 1: It"


async def test_more_than_a_document_can_have_is_refused(tmp_path: Path) -> None:
    async with room_with() as room:
        for number in range(8):
            lines = ["from ravesvc.commands import setting"]
            lines += [f'setting("s{each}", "It", default="")' for each in range(16)]
            (tmp_path / f"p{number}.py").write_text("\n".join(lines))
            room.load(tmp_path / f"p{number}.py")
        said = [only(await room.say(f"?settings p{n // 16}.s{n % 16} {'é' * 500}")) for n in range(8 * 16)]
        assert said[0].startswith("Changed:")
        assert said[-1] == "The settings of a room have at most 60 KiB. Reset one of them first"
        assert 50_000 < len(room.service.documents["settings"].encode()) <= 60 * 1024
        await room.say("?settings p0.s0 default")
        assert only(await room.say(f"?settings p7.s15 {'é' * 500}")).startswith("Changed:")


def test_a_list_for_the_service_fits_into_one_message() -> None:
    registry = Registry()
    parts = [Registry(f"{number}.py") for number in range(40)]
    registry.include(parts)
    for part in parts:
        with registering(part):
            for number in range(16):
                setting(f"x{number}", "é" * 100, default="é" * 500)
    service: Any = FakeService()
    listed, total = SettingsKeeper(service, lambda settings: None, registry).listed()
    assert total == len(OPTIONS) + 40 * 16
    assert len(OPTIONS) < len(listed) < total
    assert sum(len(text.encode()) for line in listed for text in line) <= 32 * 1024
    assert listed[-1][1] == "é" * 59 + "…"


# --- what authors may declare -----------------------------------------------------------------------------------

TYPES = """
from enum import Enum
from typing import Annotated, Literal
from ravesvc.commands import Member, Range, setting

Of = Enum("Of", "RED BLUE")
Bounded = Annotated[int, Range(1, 6)]

class Own:
    @classmethod
    def from_word(cls, word):
        return cls()

"""


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ('"two words", "It", default=1', "'two words' can't name a setting: take letters, digits and _, at most 32"),
        ('"a.b", "It", default=1', "'a.b' can't name a setting"),
        ('"9lives", "It", default=1', "'9lives' can't name a setting"),
        ('"made_by", "It", default=1', "'made_by' can't name a setting"),
        ('"x" * 33, "It", default=1', "can't name a setting"),
        ('5, "It", default=1', 'write setting("name", "What it is", default=...)'),
        ('"x", "", default=1', "the setting x needs a sentence of at most 100 characters"),
        ('"x", "a\\nb", default=1', "the setting x needs a sentence"),
        ('"x", "It", default=None', "the setting x has a type that no admin can write: use str, int, float, bool, "),
        ('"x", "It", default=[]', "the setting x has a type that no admin can write"),
        ('"x", "It", default=1, kind=[int]', "the setting x has a type that no admin can write"),
        ('"x", "It", default=1, kind=Member', "the setting x has a type that no admin can write"),
        ('"x", "It", default=Of.RED', "the setting x has a type that no admin can write"),
        ('"x", "It", default=Own()', "the setting x has a type that no admin can write"),
        ('"x", "It", default=1, kind=Bounded', "the setting x has a type that no admin can write"),
        ('"x", "It", default="5", kind=int', "the default of the setting x is not of its type"),
        ('"x", "It", default=True, kind=int', "the default of the setting x is none of its values: a whole number"),
        ('"x", "It", default="blue", kind=Literal["red"]', "the default of the setting x is none of its values: red"),
        ('"x", "It", default=9, between=(1, 5)', "the default of the setting x is none of its values: a number from"),
        ('"x", "It", default="a\\nb"', "the default of the setting x is none of its values: text of up to 500"),
        ('"x", "It", default=1.0, between=(5, 1)', "the bounds of the setting x are no pair: write between=(1, 20)"),
        ('"x", "It", default=1, between=5', "the bounds of the setting x are no pair"),
        ('"x", "It", default="a", between=(1, 2)', "the setting x has bounds, but only numbers and times have some"),
        ('"x", "It", default="a", kind=Literal["a", "A"]', "the setting x has the choice a, which can't be written"),
        ('"x", "It", default="a", kind=Literal["a", "Default"]', "can't have the choice Default, which resets it"),
    ],
)
def test_what_can_not_work_is_refused_with_its_line(tmp_path: Path, declared: str, words: str) -> None:
    file = tmp_path / "own.py"
    text = f"{TYPES}setting({declared})\n"
    with pytest.raises(RaveError) as error:
        plugins.FileWithHelpers(file, text.encode(), {}).execute({})
    assert str(error.value).startswith(f"{file}, line {text.count(chr(10))}: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("games.py", "games is a setting of the bot: give the file another name"),
        ("lang.py", "lang is a setting of the bot"),
        ("a+b.py", "can't be named a+b.…: give the file another name"),
        (f"{'x' * 33}.py", "can't be named"),
    ],
)
def test_a_file_whose_settings_can_not_be_named_is_refused(tmp_path: Path, name: str, words: str) -> None:
    content = b'from ravesvc.commands import setting\nsetting("x", "It", default=1)\n'
    with pytest.raises(RaveError) as error:
        plugins.FileWithHelpers(tmp_path / name, content, {}).execute({})
    assert ", line 2: " in str(error.value)
    assert words in str(error.value)


def test_two_settings_of_one_name_are_refused(tmp_path: Path) -> None:
    lines = ["from ravesvc.commands import setting", *['setting("{}", "It", default=1)'] * 2]
    with pytest.raises(RaveError, match="line 3: the setting x is declared twice"):
        plugins.FileWithHelpers(tmp_path / "own.py", "\n".join(lines).format("x", "X").encode(), {}).execute({})


def test_a_file_has_so_many_settings(tmp_path: Path) -> None:
    lines = ["from ravesvc.commands import setting", *(f'setting("x{n}", "It", default={n})' for n in range(17))]
    with pytest.raises(RaveError, match="line 18: a file has at most 16 settings"):
        plugins.FileWithHelpers(tmp_path / "own.py", "\n".join(lines).encode(), {}).execute({})
    registry = plugins.FileWithHelpers(tmp_path / "own.py", "\n".join(lines[:-1]).encode(), {}).execute({})
    assert [each.name for each in registry.settings][-1] == "own.x15"


def test_settings_of_one_plugin_belong_to_one_file(tmp_path: Path, welcome: Path) -> None:
    taken = plugins.FileWithHelpers(welcome, welcome.read_bytes(), {}).execute(built_in_commands().owners()).owners()
    (tmp_path / "more").mkdir()
    second = shutil.copy(welcome, tmp_path / "more/Welcome.py")
    commands = {key: owner for key, owner in taken.items() if key.startswith("settings ")}
    with pytest.raises(RaveError) as error:
        plugins.FileWithHelpers(second, second.read_bytes(), {}).execute(commands)
    assert str(error.value) == (
        f"{second}, line 6: there are settings of welcome already: they belong to {welcome}"
        " (give one of the files another name)"
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/etc/rave/commands.d/Night Owl.py", "night-owl.x"),
        ("party_pack.games.dice", "dice.x"),
        ("this program", "this-program.x"),
        ("/etc/rave/commands.d/привет.py", "привет.x"),
    ],
)
def test_a_setting_is_named_by_file_or_module(source: str, name: str) -> None:
    with registering(Registry(source)):
        assert setting("X", "It", default=1).name == name


@pytest.mark.parametrize(
    ("default", "kind", "values"),
    [
        (5, float, "a number"),
        (Duration(5400), None, "a time such as 90s or 10min"),
        ("b", Literal["a", "b"], "a, b"),
        (2, Literal[1, 2], "1, 2"),
        ("", None, "text of up to 500 characters"),
        (True, None, "on, off"),
    ],
)
def test_a_setting_has_a_default_of_its_type(default: Any, kind: Any, values: str) -> None:
    made = setting("x", "It", default=default, kind=kind)
    assert (made.default, made.values) == (default, values)
    assert kind is not float or isinstance(made.default, float)
