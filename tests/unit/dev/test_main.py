"""The program `ravesvc-dev`, as its author has it: with a script, and on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.ctl.terminal import Terminal

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-m", "ravesvc.dev")
POINTS = """
from ravesvc.commands import command, on_user_join

@command("point", "Gives you a point.")
async def point(context):
    mine = await context.store.of(context.user_id).update("points", lambda points: points + 1, 0)
    await context.reply(f"{await context.display_name()} has {mine}")
"""


class Script:
    """The program, with lines that are written one after another."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._temporary = directory / "tmp"
        self._temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "ravesvc.dev", *arguments],
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(CHECKOUT),
                "TMPDIR": str(self._temporary),
                # A proxy, and a home where nothing may be written.
                "HTTPS_PROXY": "http://127.0.0.1:9",
                "HOME": "/nonexistent",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # What it never says is waited for no longer than this.
        self._limit = threading.Timer(60, self.process.kill)
        self._limit.start()

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def until(self, text: str) -> None:
        """Read lines up to one with a text."""
        assert self.process.stdout
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}, but:\n{''.join(seen)}")

    def end(self) -> int:
        """The end of the script; returns the exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(20)
        assert list(self._temporary.iterdir()) == [], "it has left something behind"
        return self.process.returncode

    def close(self) -> None:
        self._limit.cancel()
        self._limit.join()
        self.process.kill()
        self.process.wait()
        for stream in self.process.stdin, self.process.stdout:
            assert stream
            stream.close()


@pytest.fixture
def points(tmp_path: Path) -> Path:
    file = tmp_path / "author/points.py"
    file.parent.mkdir()
    file.write_text(POINTS)
    return file


@pytest.fixture
def script(tmp_path: Path, points: Path) -> Iterator[Script]:
    program = Script(tmp_path, "author/points.py")
    yield program
    program.close()


def test_a_script(script: Script, points: Path) -> None:
    script.until("* author/points.py is loaded. Commands: point\n")
    script.type("?point")
    script.until("Botty> Ann has 1\n")
    script.type("/as Bob")
    script.until("* Bob has joined\n")
    script.type("?point")
    script.until("Botty> Bob has 1\n")
    # Nothing is typed until the file is loaded: the program has to notice it.
    points.write_text(POINTS.replace("has {mine}", "owns {mine}"))
    script.until("* author/points.py is loaded. Commands: point\n")
    script.type("?point")
    script.until("Botty> Bob owns 2\n")
    points.write_text("\n1 +\n")
    script.until("! author/points.py, line 2: SyntaxError: invalid syntax; the former version goes on\n")
    points.write_text(POINTS)
    script.until("* author/points.py is loaded. Commands: point\n")
    script.type("/restart")
    script.until("* The bot has started again\n")
    script.type("?point")
    script.until("Botty> Bob has 3\n")
    assert script.end() == 1, "a file has failed to load"
    assert [each.name for each in points.parent.iterdir()] == ["points.py"]


def test_a_terminal(points: Path) -> None:
    terminal = Terminal([*PROGRAM, str(points)], 100, 24)
    try:
        terminal.until_shown("\nAnn>")
        terminal.type("?point\rnot yet")
        terminal.until_shown("Ann> ?point\nBotty> Ann has 1\nAnn> not yet")
        terminal.type("\x15/as Bob\r")
        terminal.until_shown("Ann> /as Bob\n* Bob has joined\nBob>")
        terminal.type("\x04")
        assert terminal.wait() == 0
        assert terminal.settings() == terminal.before
        assert not terminal.screen.text.rstrip().endswith("Bob>")
    finally:
        terminal.close()
