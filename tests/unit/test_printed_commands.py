"""Whatever README and manual pages print to be typed is executed by a test."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from ravesvc.commands import WebResponse
from ravesvc.ctl import command_line
from ravesvc.testing import FakeRoom
from tests.integration import manual
from tests.lessons import LEFT_OUT, printed

INTEGRATION = Path(manual.__file__).parent
GREET = (manual.ROOT / "config/greet.py").read_text()
# Nothing to be typed: the tree.
TREE = "Where things are"
# Nor here: how the parts work together.
DIAGRAM = "Three ways in"


def executed() -> set[str]:
    """The chapters of the README whose commands some test asks for."""
    found = set()
    for file in INTEGRATION.glob("test_*.py"):
        for function in ast.parse(file.read_text()).body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for node in ast.walk(function):
                    match node:
                        case ast.Call(func=ast.Name("commands"), args=[ast.Constant(str(chapter))]):
                            found.add(chapter)
    return found


@pytest.mark.slow
def test_every_chapter_of_the_readme_is_executed() -> None:
    printed = {chapter for chapter in manual.chapters() if manual.commands(chapter)} - {TREE, DIAGRAM}
    assert len(printed) > 5
    assert printed == executed()


def test_shell_stands_indented_and_python_fenced() -> None:
    assert manual.README.count("```") == 2 * len(manual.programs())


def test_the_python_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The third has a test of its own: it needs a simulator.
    greet, trial, _ = manual.programs()
    assert greet == GREET
    (tmp_path / "greet.py").write_text(greet)
    monkeypatch.chdir(tmp_path)
    scope = {"FakeRoom": FakeRoom}
    exec(f"async def trial():\n{textwrap.indent(trial, '    ')}", scope)
    asyncio.run(scope["trial"]())  # type: ignore[arg-type]


@pytest.mark.slow
def test_ravectl_takes_what_the_troubleshooting_names() -> None:
    table = manual.README.split("\n## Troubleshooting\n")[1].split("\n## ")[0]
    found = {text.replace("<id>", "1c2d").replace("<user id>", "5") for text in re.findall(r"`(ravectl .+?)`", table)}
    assert len(found) > 15
    for text in found - {"ravectl blocklist add"}:
        command_line.parser().parse_args(text.replace("<command>", "ping").split()[1:])


def printed_searches() -> dict[str, str]:
    """Each command that searches the journal by a field, and the file that prints it."""
    files = subprocess.run(
        ["git", "ls-files", "README.md", "docs", "packaging", "units", "config", "debian", "ravesvc"],
        cwd=manual.ROOT, capture_output=True, text=True, check=True, timeout=20,
    ).stdout.split()  # fmt: skip
    found = {}
    for name in files:
        text = (manual.ROOT / name).read_text(errors="replace")
        # As mdoc(7) writes a command.
        text = re.sub(r"^\.(Nm|Fl|Ar|Cm|Ql|Dl) ", " ", text, flags=re.M).replace(" Fl ", " -")
        for line in text.splitlines():
            for match in re.finditer(r"journalctl\b([^`'\"#]*('[^']*'[^`'\"#]*)*)", line):
                found[match[0]] = name
    return found


def test_what_is_printed_to_search_the_journal_matches_what_no_bot_can_forge() -> None:
    """What starts with an underscore the journal itself has noted; all else is chosen by the program that writes."""
    searches = printed_searches()
    assert len(searches) > 10
    by_fields = {search: name for search, name in searches.items() if re.search(r"[A-Z]+=|\s-t\b", search)}
    assert by_fields, "there are some"
    trusted = r"-u rave-orchestrator\b|\b_SYSTEMD_UNIT="
    assert [f"{name}: {search}" for search, name in by_fields.items() if not re.search(trusted, search)] == []


def test_the_trials_of_the_documentation_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs themselves are played in test_lessons.py."""
    trials = [each for each in manual.programs((manual.ROOT / "docs/commands.md").read_text()) if "FakeRoom" in each]
    assert len(trials) == 4
    monkeypatch.chdir(tmp_path)
    for name in ("roll", "order", "talk", "fact"):
        Path(f"{name}.py").write_text(printed(name))
    for trial in trials:
        exec(trial, {})


async def test_the_programs_of_the_documentation_that_no_lesson_plays_work(tmp_path: Path) -> None:
    for name in LEFT_OUT:
        (tmp_path / f"{name}.py").write_text(printed(name))
    async with FakeRoom() as room:
        room.load(tmp_path / "tell.py")
        assert await room.show("https://rave.example/a") == ["On now: https://rave.example/a"]
        assert await room.show("") == ["Nothing plays"]
        room.load(tmp_path / "fact.py")
        room.http.answers["https://facts.example/big%20dogs"] = WebResponse(404)
        (told,) = await room.say("?fact big dogs")
        assert told.startswith("There is no fact about that")


@pytest.mark.parametrize("page", sorted((manual.ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_documentation_names_what_there_is(page: Path) -> None:
    text = page.read_text()
    assert f"(docs/{page.name})" in manual.README
    targets = set(re.findall(r"^([a-z-]+):", (manual.ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"^    make ([a-z-]+)", text, re.M)) <= targets
    places = [manual.ROOT, manual.ROOT / "ravesvc", manual.ROOT / "ravesvc/orchestrator"]
    places += [manual.ROOT / "tests/unit", manual.ROOT / "tests/integration", manual.ROOT / "docs"]
    for name in re.findall(r"(?<![\w/<])(?:\w+/)*\w+\.(?:py|toml|md)\b", text):
        assert any((place / name).is_file() for place in places) or name in (
            "discord.py",
            "fact.py",
            "order.py",
            "roll.py",
            "_scores.py",
            "talk.py",
        ), name


@pytest.mark.process
def test_whatever_a_page_prints_is_an_example() -> None:
    """tests/integration/test_man_examples.py executes those of all pages."""
    for name, source in manual.pages().items():
        assert source.count("\n.Bd -literal") == len(manual.literal(source)), name
        printed = set(manual.literal(source)) - {GREET}
        assert printed <= set(manual.examples(source)), name


def test_what_a_reader_sees() -> None:
    source = (
        ".Sh NAME\n.Bd -literal\nno\n.Ed\n.Sh EXAMPLES\nSo:\n.Bd -literal -offset indent\na \\e\n  b\n.Ed\n.Sh X\n"
    )
    assert manual.literal(source) == ["no\n", "a \\\n  b\n"]
    assert manual.examples(source) == ["a \\\n  b\n"]
    assert manual.examples(".Sh NAME\n") == []
