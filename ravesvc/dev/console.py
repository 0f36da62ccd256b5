"""Where lines come from and where texts go: a terminal, on which a line is edited meanwhile, or a script."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from ravesvc.ctl.ui.columns import width
from ravesvc.dev import transcript
from ravesvc.dev.line_editor import LineEditor

_READ_BYTES = 65536
_USUAL_COLUMNS = 80
_CLEAR_ROW = "\r\x1b[K"


class Console(Protocol):
    """What `Repl` reads from and writes to.

    Attributes:
        interactive: whether a person types the lines.
    """

    interactive: bool

    async def line(self) -> str | None:
        """The next line; None at the end."""

    def show(self, text: str) -> None:
        """Show a text of one or more lines."""

    def set_prompt(self, prompt: str) -> None:
        """Ask for lines with these words from now on."""


class Output:
    """Standard output, which may be gone: to write then does nothing, and `gone` is true."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.gone = False

    def write(self, text: str) -> None:
        """Write at once."""
        if self.gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self.gone = True
            # Python flushes once more when it ends.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), self._stream.fileno())


def _end(lines: asyncio.Queue[str | None]) -> None:
    """Put the end in the place of what is left of the lines."""
    while not lines.empty():
        lines.get_nowait()
    lines.put_nowait(None)


class ScriptConsole:
    """Lines of standard input that is no terminal. Implements `Console`."""

    interactive = False

    def __init__(self) -> None:
        self._output = Output(sys.stdout)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # A file can't be waited for in the event loop. A daemon, because nothing ends a read of a pipe.
        threading.Thread(target=self._read, name="script", daemon=True).start()

    async def line(self) -> str | None:
        """See `Console`."""
        return await self._lines.get()

    def show(self, text: str) -> None:
        """See `Console`."""
        self._output.write(f"{text}\n")
        if self._output.gone:
            _end(self._lines)

    def set_prompt(self, prompt: str) -> None:
        """See `Console`. A script needs none."""

    def _read(self) -> None:
        # The loop may have ended.
        with contextlib.suppress(RuntimeError):
            for line in _lines_of(sys.stdin.fileno()):
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)


def _lines_of(descriptor: int) -> Iterator[str]:
    """The lines that can be read there, each as soon as it is complete; without a lock of a file object."""
    rest = b""
    while True:
        try:
            read = os.read(descriptor, _READ_BYTES)
        except OSError:
            read = b""
        *lines, rest = (rest + read).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
        if not read:
            if rest:
                yield rest.decode(errors="replace")
            return


class TerminalConsole:
    """A terminal: what is shown stands above the line that is being edited. Implements `Console`.

    A context manager, which leaves the terminal as it was.
    """

    interactive = True

    def __init__(self) -> None:
        self._output = Output(sys.stdout)
        self._input = sys.stdin.fileno()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._editor = LineEditor()
        self._prompt = ""
        self._loop = asyncio.get_running_loop()
        self._printed = contextlib.redirect_stdout(_Printed(self._loop, self.show))

    def __enter__(self) -> TerminalConsole:
        self._before = termios.tcgetattr(self._input)
        # Ctrl-C and Ctrl-Z stay signals.
        tty.setcbreak(self._input)
        self._loop.add_reader(self._input, self._read)
        self._loop.add_signal_handler(signal.SIGCONT, self._go_on)
        self._loop.add_signal_handler(signal.SIGWINCH, self._draw)
        self._printed.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._printed.__exit__(None, None, None)
        self._loop.remove_reader(self._input)
        for number in signal.SIGCONT, signal.SIGWINCH:
            self._loop.remove_signal_handler(number)
        self._output.write(_CLEAR_ROW)
        # The terminal may have gone.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    async def line(self) -> str | None:
        """See `Console`."""
        return await self._lines.get()

    def show(self, text: str) -> None:
        """See `Console`."""
        self._output.write(f"{_CLEAR_ROW}{text}\n{self._row()}")
        if self._output.gone:
            _end(self._lines)

    def set_prompt(self, prompt: str) -> None:
        """See `Console`."""
        self._prompt = prompt
        self._draw()

    def _read(self) -> None:
        try:
            read = os.read(self._input, _READ_BYTES)
        except OSError:
            read = b""
        if not read:
            self._loop.remove_reader(self._input)
            _end(self._lines)
            return
        for line in self._editor.feed(self._decoder.decode(read)):
            # A message is shown again when it is said.
            if line.startswith("/"):
                self.show(self._prompt + transcript.plain(line))
            self._lines.put_nowait(line)
        if self._editor.ended:
            self._lines.put_nowait(None)
        self._draw()

    def _go_on(self) -> None:
        """After Ctrl-Z and `fg`."""
        tty.setcbreak(self._input)
        self._draw()

    def _draw(self) -> None:
        self._output.write(_CLEAR_ROW + self._row())

    def _row(self) -> str:
        """The prompt and what fits beside it, with the cursor in its place."""
        try:
            columns = os.get_terminal_size(self._input).columns or _USUAL_COLUMNS
        except OSError:
            columns = _USUAL_COLUMNS
        text, cursor = self._editor.view(columns - width(self._prompt) - 1)
        back = width(text) - cursor
        return self._prompt + text + (f"\x1b[{back}D" if back else "")


class _Printed(io.TextIOBase):
    """What a plugin prints, in any thread: complete lines are shown."""

    def __init__(self, loop: asyncio.AbstractEventLoop, show: Callable[[str], None]) -> None:
        self._loop = loop
        self._show = show
        self._rest = ""

    def write(self, text: str) -> int:
        """See `TextIOBase`."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._loop.call_soon_threadsafe(self._show, transcript.plain(line))
        return len(text)
