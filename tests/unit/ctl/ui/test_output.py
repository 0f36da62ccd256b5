"""Nothing that ravectl prints controls the terminal, whatever the service answers."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ravesvc.ctl
from ravesvc.bus import Variant
from ravesvc.ctl.command_line import parser
from ravesvc.ctl.main import main
from ravesvc.ctl.operations import absence
from ravesvc.ctl.ui import output
from ravesvc.doctor import machine, sandbox
from ravesvc.doctor.finding import Finding, FindingState
from ravesvc.errors import Code, RaveError
from tests.unit.fake_service import WHEN_US, FakeManagerObject, FakeService, answer

pytestmark = pytest.mark.slow

ID = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
# Colours, a title of the window, a line of its own, the C1 form of an escape, and letters that run the other way.
EVIL = "a\x1b[31mb\x1b]0;c\x07d\r\ne\x9bf\u202eg\x7fh\u2028i'j\"k\\"

# What is given for an argument; {} is a directory with files whose content and names are evil.
GIVEN = {"MESH": ID, "USER_ID": "7", "EMAIL": "bot@rave.test", "COMMAND": "ping", "DIRECTORY": "{}"}
GIVEN |= {"SETTING": "lang", "VALUE": "de"}
FILES = {"store export": f"{{}}/{EVIL}.json", "store import": f"{{}}/{EVIL}", "config check": f"{{}}/{EVIL}.yaml"}
# journalctl has a filter of its own, as has the process that loads a plugin: tests/unit/bot/test_plugin_check.py.
OTHER_PROGRAMS = ("logs", "plugin check")


def leaves(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands of a parser, without those that only have commands of their own."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield path, parser
    for action in below:
        for name, command in action.choices.items():
            yield from leaves(command, f"{path} {name}".strip())


def command_line(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """A command with all that it needs, and without a question."""
    words = path.split()
    for action in parser._actions:
        if "--yes" in action.option_strings:
            words.append("--yes")
        elif not action.option_strings and action.metavar != "NUMBER":
            words.append(FILES.get(path) or GIVEN.get(str(action.metavar)) or next(iter(action.choices or ())))
    return words


COMMANDS = [
    *(command_line(path, command) for path, command in leaves(parser()) if path not in OTHER_PROGRAMS),
    *(["status", option] for option in ("--check", "--json")),
    ["show", ID, "--json"],
    ["settings", ID],
    ["settings", ID, "lang"],
    ["admin", "undo", "1"],
    ["admin", "undo", "1"],
    ["doctor", "--json"],
]


@pytest.fixture
def service(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)
    fake = FakeService(bus_address)
    fill(fake)
    yield fake
    fake.stop()


async def log_in_evilly(manager: FakeManagerObject) -> None:
    async def rest() -> None:
        manager.account.emit("LoginProgress", "sending", 600)
        manager.account.emit("LoginProgress", EVIL, 600)
        manager.account.emit("LoginFinished", EVIL, EVIL)

    manager.later(rest())


async def roll_evilly(manager: FakeManagerObject) -> None:
    manager.emit("RollProgress", 0, 2, EVIL)
    manager.emit("RollFinished", EVIL, EVIL)


def fill(fake: FakeService) -> None:
    manager = fake.manager
    texts = ["Store", "StoreError", "LoginStep", "Version", "Status", "Summary", "ConfigNote"]
    texts += ["DiscoveryError", "BlocklistError", "Obstacle"]
    manager.status |= dict.fromkeys(texts, Variant("s", EVIL))
    manager.status |= dict.fromkeys(("CommandErrors", "Outages", "Pauses"), Variant("as", [EVIL]))
    manager.meshes = [[EVIL, EVIL, EVIL, "/"]]
    manager.described = [[EVIL, EVIL, EVIL, EVIL, WHEN_US, 1, 1, True]]
    manager.decisions = [[EVIL, EVIL, EVIL]]
    manager.users = [[7, EVIL, True]]
    manager.lines = [EVIL]
    manager.permissions = [[EVIL, True, EVIL, WHEN_US]]
    manager.admins = manager.ignored = [[1, 2, WHEN_US]]
    manager.chat_changes = [[1, WHEN_US, EVIL, 2, EVIL, False]]
    manager.found = (0, EVIL)
    manager.login_script, manager.roll_script = log_in_evilly, roll_evilly
    manager.answer = EVIL
    manager.chat_changes = [[1, WHEN_US, EVIL, 7, EVIL, False]]
    fake.blocklist.entries = [[EVIL, EVIL, WHEN_US, 0, EVIL, EVIL, 1]]
    fake.blocklist.events = [[WHEN_US, EVIL, EVIL, EVIL, EVIL]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What a stranger may have left for an operator: a configuration, an export, an old bot."""
    for name in (EVIL, f"{EVIL}.yaml", "index.js", "blocklist.json", "credentials.json"):
        (tmp_path / name).write_text(EVIL)
    return tmp_path


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda words: " ".join(word for word in words if word.isprintable())
)
@pytest.mark.parametrize("refuses", [False, True], ids=["answers", "refuses"])
def test_what_the_service_answers(
    service: FakeService,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    command: list[str],
    refuses: bool,
) -> None:
    finding = Finding(EVIL, FindingState.NOT_HELD, EVIL, EVIL)
    monkeypatch.setattr(machine, "examine", lambda _file: [finding])
    monkeypatch.setattr(sandbox, "attack", lambda: [finding])
    service.manager.error = RaveError(Code.INTERNAL, EVIL, hint=EVIL) if refuses else None
    main([word.format(directory) for word in command])
    printed = [stream.decode() for stream in capfdbinary.readouterr()]
    assert any(printed)
    assert all(map(is_plain, printed))
    if "--json" in command and not refuses:
        json.loads(printed[0])


@pytest.mark.parametrize("name", dict(leaves(parser())))
def test_what_is_typed(capfdbinary: pytest.CaptureFixture[bytes], name: str) -> None:
    with pytest.raises(SystemExit):
        main([*name.split(), f"--{EVIL}"])
    assert is_plain(capfdbinary.readouterr().err.decode())


def test_why_the_service_does_not_run(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for state in ("activating", "failed"):
        unit = {"ActiveState": state, "SubState": "start", "StatusText": EVIL, "Result": EVIL}
        absence.print_error(absence.explain(unit))
        printed = capfdbinary.readouterr().err.decode()
        assert "a?[31mb" in printed
        assert is_plain(printed)


def test_documents_keep_what_they_hold(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meshes"][0]["State"] == EVIL


def test_questions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "yes\n")
    assert output.confirm(EVIL)
    assert is_plain(capsys.readouterr().err)


def test_a_line_that_is_drawn_again(capsys: pytest.CaptureFixture[str]) -> None:
    output.redraw(EVIL)
    assert is_plain(capsys.readouterr().out.removeprefix("\r"))


def test_columns_stand_below_each_other_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("A", "B"), [("映画", "1"), ("e\u0301\x1b", "2"), ("abcdef", "3")])
    assert capsys.readouterr().out.splitlines() == ["A       B", "映画    1", "e\u0301?      2", "abcdef  3"]


def test_colours_come_after_the_filter(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_row([EVIL, "x"], {1: "31"})
    sys.stdout.flush()
    assert is_plain(capsys.readouterr().out.replace("\x1b[31mx\x1b[0m", "x"))


def writes_text(node: ast.AST) -> bool:
    """Whether it is a call of print, or of write of one of the standard streams."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    return called == "print" or called in {f"sys.{stream}.write" for stream in ("stdout", "stderr")}


def test_no_other_module_writes_text() -> None:
    (directory,) = ravesvc.ctl.__path__
    writing = {
        path.name
        for path in Path(directory).rglob("*.py")
        if any(writes_text(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert writing == {"output.py"}
