"""Nothing that ravectl prints controls the terminal, whatever the service answers."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ravesvc.ctl
from ravesvc.bus import Variant
from ravesvc.ctl import output
from ravesvc.ctl.main import main
from ravesvc.errors import Code, RaveError
from tests.unit.conftest import BusDaemon
from tests.unit.fake_service import WHEN_US, FakeService, answer

ID = "1c2d3e4f-0a1b-4c2d-8e3f-4a5b6c7d8e9f"
# Colours, a title of the window, a line of its own, the C1 form of an escape, and letters that run the other way.
EVIL = "a\x1b[31mb\x1b]0;c\x07d\r\ne\x9bf\u202eg\x7fh\u2028i"

COMMANDS = (
    "status",
    "list",
    f"show {ID}",
    f"explain {ID}",
    f"users {ID}",
    f"start {ID}",
    "plan",
    "admin list",
    "admin claim",
    "perm list",
    "ignore list",
    "blocklist list",
    f"blocklist history {ID}",
    "blocklist stats",
    "discover",
    "roll",
    "refresh",
    "store info",
    "status --check",
    "status --json",
)


@pytest.fixture
def service(bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_daemon.address)
    fake = FakeService(bus_daemon.address)
    fill(fake)
    yield fake
    fake.stop()


def fill(fake: FakeService) -> None:
    manager = fake.manager
    texts = ("Store", "StoreError", "LoginStep", "Version", "Status", "DiscoveryError", "BlocklistError", "Obstacle")
    manager.status |= dict.fromkeys(texts, Variant("s", EVIL))
    manager.status |= dict.fromkeys(("CommandErrors", "Outages", "Pauses"), Variant("as", [EVIL]))
    manager.meshes = [[EVIL, EVIL, EVIL, "/"]]
    manager.described = [[EVIL, EVIL, EVIL, EVIL, WHEN_US, 1, 1, True]]
    manager.decisions = [[EVIL, EVIL, EVIL]]
    manager.users = [[7, EVIL, True]]
    manager.lines = [EVIL]
    manager.permissions = [[EVIL, True, EVIL, WHEN_US]]
    manager.admins = manager.ignored = [[1, 2, WHEN_US]]
    manager.found = (0, EVIL)
    fake.blocklist.entries = [[EVIL, EVIL, WHEN_US, 0, EVIL, EVIL, 1]]
    fake.blocklist.events = [[WHEN_US, EVIL, EVIL, EVIL, EVIL]]


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("refuses", [False, True], ids=["answers", "refuses"])
def test_what_the_service_answers(
    service: FakeService, capsys: pytest.CaptureFixture[str], command: str, refuses: bool
) -> None:
    service.manager.error = RaveError(Code.INTERNAL, EVIL, hint=EVIL) if refuses else None
    main(command.split())
    printed = capsys.readouterr()
    assert printed.out + printed.err
    assert is_plain(printed.out)
    assert is_plain(printed.err)


def test_documents_keep_what_they_hold(service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meshes"][0]["State"] == EVIL


def test_questions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer(monkeypatch, "yes\n")
    assert output.agrees(EVIL)
    assert is_plain(capsys.readouterr().err)


def test_a_line_that_is_drawn_again(capsys: pytest.CaptureFixture[str]) -> None:
    output.redraw(EVIL)
    assert is_plain(capsys.readouterr().out.removeprefix("\r"))


def test_colours_come_after_the_filter(capsys: pytest.CaptureFixture[str]) -> None:
    output.row([EVIL, "x"], {1: "31"})
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
        for path in Path(directory).glob("*.py")
        if any(writes_text(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert writing == {"output.py"}
