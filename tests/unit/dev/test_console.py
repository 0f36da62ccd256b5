from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import termios
from collections.abc import Iterator

import pytest

from ravesvc.dev.console import Output, ScriptConsole, TerminalConsole


def test_a_reader_that_has_gone_is_no_failure() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        output = Output(stream)
        output.write("seen\n")
        assert os.read(reader, 100) == b"seen\n"
        os.close(reader)
        output.write("not seen\n")
        assert output.gone
        output.write("nor this\n")


async def all_lines(console: ScriptConsole | TerminalConsole) -> list[str]:
    lines = []
    async with asyncio.timeout(10):
        while (line := await console.line()) is not None:
            lines.append(line)
    return lines


async def test_a_script_is_read_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        console = ScriptConsole()
        os.write(writer, b"one\ntw")
        assert await console.line() == "one"
        console.set_prompt("Ann> ")
        console.show("two\nrows")
        os.write(writer, b"o\n\xff\nthree")
        os.close(writer)
        assert await all_lines(console) == ["two", "\ufffd", "three"]
    assert capsys.readouterr().out == "two\nrows\n"


class Tty:
    """A terminal that is standard input and output."""

    def __init__(self) -> None:
        self.keys, slave = os.openpty()
        os.set_blocking(self.keys, False)
        termios.tcsetwinsize(self.keys, (20, 30))
        self._stdin = os.fdopen(slave, closefd=False)
        self.stdout = os.fdopen(os.dup(slave), "w")
        self._slave = slave

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the test, because pytest has other streams for its fixtures."""
        monkeypatch.setattr(sys, "stdin", self._stdin)
        monkeypatch.setattr(sys, "stdout", self.stdout)

    async def type(self, keys: bytes) -> None:
        os.write(self.keys, keys)
        await asyncio.sleep(0)

    async def until_written(self, text: str) -> str:
        """What the terminal gets, up to a text."""
        written = ""
        deadline = asyncio.get_running_loop().time() + 10
        while text not in written:
            assert asyncio.get_running_loop().time() < deadline, f"it has written {written!r}"
            await asyncio.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                written += os.read(self.keys, 1000).decode()
        return written

    def settings(self) -> object:
        return termios.tcgetattr(self._slave)

    def hang_up(self) -> None:
        os.close(self.keys)
        self.keys = -1

    def close(self) -> None:
        if self.keys >= 0:
            self.hang_up()
        self._stdin.close()
        self.stdout.close()
        os.close(self._slave)


@pytest.fixture
def tty() -> Iterator[Tty]:
    terminal = Tty()
    yield terminal
    terminal.close()


async def test_a_line_is_typed_below_what_is_shown(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    tty.use(monkeypatch)
    before = tty.settings()
    with TerminalConsole() as console:
        console.set_prompt("Ann> ")
        await tty.type(b"hello")
        await tty.until_written("Ann> hello")
        console.show("Botty> hi")
        assert "Botty> hi\r\nAnn> hello" in await tty.until_written("Ann> hello")
        await tty.type(b"\x1b[D\x1b[DX\r/users\r")
        assert await console.line() == "helXlo"
        assert await console.line() == "/users"
        assert "Ann> /users\r\n" in await tty.until_written("/users\r\nAnn> ")
        os.kill(os.getpid(), signal.SIGWINCH)
        await tty.until_written("Ann> ")
        await tty.type(b"\x04")
        assert await console.line() is None
        os.kill(os.getpid(), signal.SIGCONT)
        await tty.until_written("Ann> ")
    assert tty.settings() == before


async def test_what_a_plugin_prints_stands_above_the_line(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    tty.use(monkeypatch)
    with TerminalConsole() as console:
        console.set_prompt("Ann> ")
        await tty.until_written("Ann> ")
        print("pri", end="")
        print("nted\x1b[2J")
        assert "printed?[2J\r\nAnn> " in await tty.until_written("printed?[2J\r\nAnn> ")
    assert sys.stdout is tty.stdout


async def test_the_end_of_the_terminal_is_the_end(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    tty.use(monkeypatch)
    with TerminalConsole() as console:
        tty.hang_up()
        assert await all_lines(console) == []
        console.show("nobody sees it")


async def test_an_output_that_has_gone_ends_a_script_before_the_rest_of_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return spare

    reader, writer = os.pipe()
    spare = os.dup(writer)
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        monkeypatch.setattr(sys, "stdout", Gone())
        console = ScriptConsole()
        os.write(writer, b"one\ntwo\nthree\n")
        assert await console.line() == "one"
        console.show("text")
        assert await console.line() is None
        os.close(writer)
        os.close(spare)
