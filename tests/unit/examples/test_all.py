"""The plugins in docs/examples together, and the tutorial about them."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from tests.integration import manual
from tests.unit.examples.shipped import EXAMPLES, new_room

FILES = sorted(EXAMPLES.glob("*.py"))
TUTORIAL = (EXAMPLES.parent / "tutorial.md").read_text()
INSTALLED = "/usr/share/rave-orchestrator/plugins"

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def commands_of(file: Path) -> dict[str, str]:
    """The names of the commands in a file, with the names of their groups."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return {
        ast.literal_eval(call.args[0]): next(
            (ast.literal_eval(each.value) for each in call.keywords if each.arg == "group"), ""
        )
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "command"
    }


def lessons() -> dict[str, str]:
    """The text of each lesson, by its file, in the order of the tutorial."""
    found = {}
    for section in TUTORIAL.split("\n## ")[1:]:
        named = re.findall(r"\(examples/(\w+\.py)\)", section)
        assert len(set(named)) == 1, section.splitlines()[0]
        found[named[0]] = section
    return found


async def test_all_may_be_enabled_at_once() -> None:
    async with new_room() as room:
        for file in FILES:
            room.load(file)
        assert await room.say("?roll 0d6") != []
        assert await room.say("?welcome", user="Eve") != []
        assert await room.say("?cmd list", user="Bob") == ["Text commands: none yet"]
        await room.join("Dora")
        assert len(await room.run_for(60)) == 1


async def test_help_lists_each_command() -> None:
    async with new_room() as room:
        for file in FILES:
            room.load(file)
        overview = "\n".join(await room.say("?help", user="Eve"))
        for file in FILES:
            commands = commands_of(file)
            assert commands or "on_" in file.read_text()
            for name, group in commands.items():
                family = name.split()[0]
                assert group, f"{file.name}: {name} has no group"
                assert re.search(rf"\b{family}\b", overview), f"{family} of {file.name}"
                told = "\n".join(await room.say(f"?help {family}", user="Eve"))
                assert f"?{name}**: " in told
                room.pass_time(60)


def test_no_name_belongs_to_two_files() -> None:
    owners: dict[str, str] = {}
    for file in FILES:
        for family in {name.split()[0] for name in commands_of(file)}:
            assert owners.setdefault(family, file.name) == file.name


@each_file
def test_a_file_says_what_it_does_and_how_it_is_enabled(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    assert docstring
    first, rest = docstring.split("\n", 1)
    assert first.endswith((".", ":"))
    assert f"\n    ln -s {INSTALLED}/{file.name} /etc/rave/commands.d/\n    ravectl refresh" in rest
    for family in {name.split()[0] for name in commands_of(file)}:
        assert f"?{family}" in docstring, f"{family} is not explained"


def test_the_table_leads_to_each_section_that_has_code_and_to_each_lesson_that_it_names() -> None:
    links = re.findall(r"\]\(([\w.]*)#([\w-]+)\)", TUTORIAL)
    rules = {anchor(title): text for title, text in sections((EXAMPLES.parent / "commands.md").read_text())}
    lead_to = {part for page, part in links if page == "commands.md"}
    assert {name for name, text in rules.items() if manual.programs(f"\n{text}")} <= lead_to <= set(rules)
    assert {part for page, part in links if not page} <= {anchor(title) for title, _ in sections(TUTORIAL)}


def sections(page: str) -> list[tuple[str, str]]:
    """The title and the text of each section of a page."""
    return [(title, text) for title, _, text in (each.partition("\n") for each in page.split("\n## ")[1:])]


def anchor(title: str) -> str:
    """What a link to a section names."""
    return title.lower().replace(" ", "-")


@each_file
def test_each_file_has_a_lesson(file: Path) -> None:
    lesson = lessons()[file.name]
    assert manual.programs(f"\n{lesson}"), "it shows no code"


@pytest.mark.parametrize("name", list(lessons()))
def test_what_a_lesson_shows_stands_in_its_file(name: str) -> None:
    source = unindented((EXAMPLES / name).read_text())
    for excerpt in manual.programs(lessons()[name]):
        for part in re.split(r"^ *\.\.\. *$\n?", excerpt, flags=re.M):
            assert f"\n{unindented(part)}\n" in f"\n{source}\n", textwrap.shorten(part, 200)


def unindented(text: str) -> str:
    """The lines of a text without indentation, so that a part of a function may stand at the margin."""
    return "\n".join(line.strip() for line in text.strip().splitlines())
