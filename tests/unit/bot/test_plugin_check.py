"""What a file of plugins has, and what is wrong with it, without a bot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ravesvc.bot.plugin_check import main

PLUGIN = """
from typing import Literal
from ravesvc.commands import Permission, command, every, on_error, on_message, setting

@command("roll", "Rolls a die.", permission=Permission.ADMIN)
async def roll(context, sides: int = 6): ...

@command("team go", "Makes a team go.")
async def go(context, where: Literal["left", "right"]): ...

@every("10m")
async def stretch(event): ...

@on_message
async def listen(event): ...

@on_message
async def count(event): ...

@on_error
async def explain(context, error): ...

setting("sides", "How many sides a die has", default=6)
"""
SHOWN = """\
roll [sides], for admins: Rolls a die.
team, for all users: Has sub-commands, which help lists
team go <left|right>, for all users: Makes a team go.
on_message, 2 times
every 10min
on_error
setting fun.sides: How many sides a die has
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "fun.py"
    # The process of the tests goes on with its rights.
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["", str(found)])
    return found


def test_what_a_file_has_is_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PLUGIN)
    assert main() == 0
    assert capsys.readouterr().out == f"{file} is fine.\n{SHOWN}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 +", ", line 1: SyntaxError: invalid syntax"),
        (PLUGIN.replace('"roll"', '"forgetme"'), ", line 5: there is a command forgetme already"),
        (PLUGIN.replace("sides: int", "sides: dict"), ", line 5: the parameter sides of roll"),
        ("raise SystemExit(0)", ", line 1: SystemExit: 0"),
        ("#" * 300_000, ": it is larger than 256 KiB"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    file.write_text(text)
    assert main() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{file}{told}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["fun.txt", ".fun.py", "_fun.py", "fun"])
def test_a_file_that_no_bot_looks_at_is_told(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["", name])
    assert main() == 1
    assert capsys.readouterr().err.startswith(f"{name}: bots load files whose names end with .py")


@pytest.mark.parametrize("text", ["", "raise KeyError('\\x1b[2J')", "\x1b[2J = 1 +"])
def test_no_text_of_a_file_reaches_the_terminal_as_it_is(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    evil = tmp_path / "\x1b[2J.py"
    evil.write_text(text)
    monkeypatch.setattr(sys, "argv", ["", str(evil)])
    main()
    out, err = capsys.readouterr()
    assert "?[2J.py" in out + err
    assert "\x1b" not in out + err


def test_what_a_file_imports_is_checked_with_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"import _fun\n{PLUGIN}")
    (file.parent / "_fun.py").write_text("1 +")
    assert main() == 1
    assert capsys.readouterr().err.startswith(f"{file.parent / '_fun.py'}, line 1: SyntaxError")
    (file.parent / "_fun.py").write_text("")
    assert main() == 0
