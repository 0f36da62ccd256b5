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


def test_the_commands_of_the_documentation_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = manual.programs((manual.ROOT / "docs/commands.md").read_text())
    (
        roll,
        team,
        pizza,
        coin,
        checks,
        praise,
        vote,
        order,
        ordering,
        points,
        talk,
        talking,
        fact,
        asking,
        welcome,
        film,
        stretch,
        scores,
        darts,
        trial,
    ) = programs
    (tmp_path / "roll.py").write_text(roll)
    (tmp_path / "team.py").write_text(team)
    (tmp_path / "coin.py").write_text(coin)
    (tmp_path / "checks.py").write_text(checks)
    (tmp_path / "praise.py").write_text(praise)
    (tmp_path / "vote.py").write_text(vote)
    (tmp_path / "pizza.py").write_text(pizza)
    (tmp_path / "order.py").write_text(order)
    (tmp_path / "points.py").write_text(points)
    (tmp_path / "talk.py").write_text(talk)
    (tmp_path / "fact.py").write_text(fact)
    (tmp_path / "welcome.py").write_text(welcome)
    (tmp_path / "film.py").write_text(film)
    (tmp_path / "stretch.py").write_text(stretch)
    (tmp_path / "_scores.py").write_text(scores)
    (tmp_path / "darts.py").write_text(darts)
    monkeypatch.chdir(tmp_path)
    exec(trial, {})
    exec(ordering, {})
    exec(talking, {})
    exec(asking, {})

    async def body() -> None:
        async with FakeRoom() as room:
            room.load("welcome.py")
            assert await room.join("Ann") == ["Welcome, Ann!"]
            room.load("stretch.py")
            assert await room.run_for(1800) == ["1 min of 3", "2 min of 3", "3 min of 3", "Time to stretch!"]
            room.load("film.py")
            assert await room.show("https://rave.example/a") == ["On now: https://rave.example/a"]
            assert await room.show("") == ["Nothing plays"]
            room.load("coin.py")
            (told,) = await room.say("?flip edge")
            assert told.startswith("A coin has no such side. Write heads or tails (error ")
            assert await room.say("?flip") == ["Sorry, the coin is lost"]
            assert await room.say("?flip", user="Bob") == ["?flip can be used again in 10 s"]
            (failure,) = room.failures
            assert failure == "coin.py: the command flip failed: RuntimeError"
            room.failures.clear()
            room.load("checks.py")
            assert "nly the leader of the room may do that" in (await room.say("?suggest bunny"))[0]
            room.load("praise.py")
            assert await room.say("?praise @Ann", user="Bob") == ["Well done @Ann, says @Bob"]
            assert [mention.handle for mention in room.mentions] == ["Ann", "Bob"]
            room.load("vote.py")
            assert await room.say("?vote") == ["Pizza? React with 👍 or 👎"]
            assert room.reactions == [("👍", "?vote")]
            assert await room.react("👍🏽", user="Bob") == ["Bob is for it"]
            assert await room.react("👍", user="Bob") == []
            assert await room.react("👍", user="Bob", to="Pizza? React with 👍 or 👎") == ["Bob is for it"]
            room.load("darts.py")
            assert re.fullmatch("You have [0-9]+", (await room.say("?dart"))[0])
            room.load("pizza.py")
            assert await room.say("?pizza 6 large") == ["12 pounds of pizza"]
            assert "rite ?pizza <1-6> [small|large]" in (await room.say("?pizza 7"))[0]
            assert "hat is odd. Take one more" in (await room.say("?socks 3"))[0]
            assert await room.say("?socks 4") == ["4 socks"]
            assert "e are closed" in (await room.say("?socks 9"))[0]
            room.load("points.py")
            assert await room.say("?points") == ["No points yet"]
            assert await room.say("?point") == ["1 of 1 points are yours"]
            assert await room.say("?points") == ["Ann: 1"]
            room.load("fact.py")
            room.http.answers["https://facts.example/big%20dogs"] = WebResponse(404)
            (told,) = await room.say("?fact big dogs")
            assert told.startswith("There is no fact about that")
            room.load("team.py")
            assert await room.say("?remind 1h30min The  tea") == ["In 5400 seconds: The  tea"]
            assert await room.say("?squad Blue @Ann") == ["Team blue: Ann"]
            (told,) = await room.say("?team green")
            assert told.startswith("“green” is none of: red, blue. Write ?team <red|blue> [@members ...] (error ")
            assert "Only admins may use ?team clear" in (await room.say("?team clear"))[0]

    asyncio.run(body())


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
