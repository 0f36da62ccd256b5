"""A screen of its own on the terminal, for what is drawn again and again, and keys that are read at once.

It is the alternate screen of the terminal, so all that was there before is there again in the end. Its control
sequences are those that all terminals of today know. curses would need an entry for the terminal in the database of
this machine, and over SSH there may be none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Callable
from enum import Enum, auto
from types import TracebackType
from typing import Any

from ravesvc.ctl.ui import output

_MAX_READ_BYTES = 1024
_USUAL_SIZE = (80, 24)


class Key(Enum):
    """A key that does something."""

    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    HOME = auto()
    END = auto()
    QUIT = auto()


# What follows the beginning of a sequence. Terminals send several forms of these keys.
_SEQUENCES = {
    b"A": Key.UP,
    b"B": Key.DOWN,
    b"H": Key.HOME,
    b"F": Key.END,
    b"1~": Key.HOME,
    b"4~": Key.END,
    b"5~": Key.PAGE_UP,
    b"6~": Key.PAGE_DOWN,
    b"7~": Key.HOME,
    b"8~": Key.END,
}
_LETTERS = {b"q": Key.QUIT, b"Q": Key.QUIT}
_TYPED = re.compile(rb"\x1b(?:\[|O)([0-9;]*[A-Za-z~])|([^\x1b])", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:(?:\[|O)[0-9;]*)?\Z")


def read_keys(typed: bytes) -> tuple[list[Key], bytes]:
    """The keys in what was typed, and its end if that is the beginning of a sequence. Other keys do nothing."""
    rest = match.group() if (match := _UNFINISHED.search(typed)) else b""
    found = _TYPED.findall(typed.removesuffix(rest))
    keys = (_SEQUENCES.get(sequence) or _LETTERS.get(letter) for sequence, letter in found)
    return [key for key in keys if key], rest


class Screen:
    """The screen while it is entered as a context, in a coroutine.

    It handles the signals of a terminal: its size has changed; it is stopped by Ctrl-Z, and goes on.

    Args:
        pressed: called with each key.
        redraw: called when all has to be drawn again.
    """

    def __init__(self, pressed: Callable[[Key], None], redraw: Callable[[], None]) -> None:
        self._pressed = pressed
        self._redraw = redraw
        self._typed = b""
        # What the terminal was set to before; None when no keys can be read.
        self._before: list[Any] | None = None

    @property
    def has_keys(self) -> bool:
        """Whether keys can be read."""
        return self._before is not None

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            cells, rows = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return _USUAL_SIZE
        # A serial line has no size.
        return cells or _USUAL_SIZE[0], rows or _USUAL_SIZE[1]

    def __enter__(self) -> Screen:
        """Show the screen."""
        loop = asyncio.get_running_loop()
        if sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin)
            loop.add_reader(sys.stdin, self._read)
        loop.add_signal_handler(signal.SIGWINCH, self._redraw)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        loop.add_signal_handler(signal.SIGCONT, self._go_on)
        self._show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show what was there before, also after a failure."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            loop.remove_signal_handler(number)
        if self.has_keys:
            loop.remove_reader(sys.stdin)
        self._hide()

    def _show(self) -> None:
        output.enter_screen()
        self._take_keys()

    def _take_keys(self) -> None:
        if self.has_keys:
            # Ctrl-C and Ctrl-Z stay signals.
            tty.setcbreak(sys.stdin)

    def _hide(self) -> None:
        # The terminal may have gone.
        with contextlib.suppress(OSError):
            output.leave_screen()
        if self._before is not None:
            with contextlib.suppress(termios.error):
                # Keeps what was typed ahead, for the shell.
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def _suspend(self) -> None:
        """Stop as a program does that knows nothing of Ctrl-Z, with the terminal as it was."""
        self._hide()
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGTSTP)
        # It goes on here.
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        self._show()
        self._redraw()

    def _go_on(self) -> None:
        """A shell, or whatever used the terminal after SIGSTOP, may have changed it."""
        self._take_keys()
        self._redraw()

    def _read(self) -> None:
        typed = os.read(sys.stdin.fileno(), _MAX_READ_BYTES)
        if not typed:
            # The terminal has gone; SIGHUP ends the program.
            asyncio.get_running_loop().remove_reader(sys.stdin)
        keys, self._typed = read_keys(self._typed + typed)
        for key in keys:
            self._pressed(key)
