"""A real terminal with a program on it: a pseudo-terminal, and an emulator that draws what comes from it."""

from __future__ import annotations

import copy
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyte
from wcwidth import wcwidth

TIMEOUT_S = 20.0
_ALTERNATE_SCREEN = 1049
_AUTOWRAP = 7
# Opens its terminal, which so becomes the one that Ctrl-C and a change of the size go to, and becomes the program.
_ON_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Screen(pyte.Screen):
    """What is seen. `scrolled` counts the lines that have left at the top, `modes` is what was set and reset."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows)
        self.scrolled = 0
        self.modes: list[str] = []
        self._main: tuple[Any, Any] | None = None

    @property
    def alternate(self) -> bool:
        return self._main is not None

    def draw(self, data: str) -> None:
        for letter in data:
            # The original drops all that follows such a letter.
            if wcwidth(letter) == 0 and self.cursor.x:
                at = self.cursor.x - 1
                last = self.buffer[self.cursor.y][at]
                self.buffer[self.cursor.y][at] = last._replace(data=last.data + letter)
            else:
                super().draw(letter)

    def index(self) -> None:
        self.scrolled += self.cursor.y == self.lines - 1
        super().index()

    def set_mode(self, *modes: int, **options: Any) -> None:
        self.modes += [f"+{mode}" for mode in modes]
        super().set_mode(*modes, **options)
        if options.get("private") and _ALTERNATE_SCREEN in modes:
            self._main = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        self.modes += [f"-{mode}" for mode in modes]
        super().reset_mode(*modes, **options)
        if options.get("private") and _ALTERNATE_SCREEN in modes and self._main:
            self.buffer, self.cursor = self._main
            self._main = None

    @property
    def text(self) -> str:
        """The rows, without spaces at their ends and empty rows at the bottom."""
        return "\n".join(row.rstrip() for row in self.display).rstrip("\n") + "\n"

    def row(self, text: str) -> str:
        """The first row with a text."""
        return next(row.rstrip() for row in self.display if text in row)

    def find(self, text: str, below: str) -> Any:
        """The first character of a text where it is first seen below a row with another, with its colour."""
        above = next(number for number, row in enumerate(self.display) if below in row)
        at = next(number for number, row in enumerate(self.display) if number > above and text in row)
        # By cells: an emoji has two.
        cells = [self.buffer[at][column].data for column in range(self.columns)]
        column = next(start for start in range(self.columns) if "".join(cells[start:]).startswith(text))
        return self.buffer[at][column]


class Terminal:
    """A program on a terminal. `raw` is all that it has written, `before` what the terminal was set to."""

    def __init__(self, words: Sequence[str], columns: int, rows: int, **environment: str) -> None:
        self._master, slave = os.openpty()
        self.screen = Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self._set_size(columns, rows)
        self.before = termios.tcgetattr(self._master)
        usual = {
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "PYTHONUTF8": "1",
            "TZ": "UTC",
            "COLUMNS": "",
            "LINES": "",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=os.environ | usual | environment,
        )
        os.close(slave)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """As a user drags the window; the kernel sends SIGWINCH."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, condition: Callable[[], object]) -> None:
        """Draw what comes until a condition holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, f"it never came to that; the screen:\n{self.screen.text}"
            self._read(0.05)

    def until_shown(self, text: str) -> None:
        """Draw what comes until a text is on the screen."""
        self.until(lambda: text in self.screen.text)

    def wait(self) -> int:
        """Draw what comes until the program ends; returns its exit status."""
        self.until(lambda: self.process.poll() is not None)
        while self._read(0.05):
            pass
        return self.process.returncode

    def settings(self) -> list[Any]:
        """What stty(1) would say."""
        return termios.tcgetattr(self._master)

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            found = os.read(self._master, 65536)
        except OSError:
            # All programs have closed it.
            return False
        self.raw += found
        self._stream.feed(found)
        return bool(found)

    def close(self) -> None:
        """End all."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.send_signal(signal.SIGCONT)
        self.process.wait()
        os.close(self._master)
