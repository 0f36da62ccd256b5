"""How far a login is, for a terminal and for a file."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable

from ravesvc.ctl import output
from ravesvc.words import printable

_TIMED = "waiting"
_WORDS = {
    "sending": "Sending the mail",
    _TIMED: "Follow the link in the mail",
    "signing-in": "Signing in",
}


def words(step: str, seconds: float) -> str:
    """A step, and the time that is left for it if there is a limit."""
    text = _WORDS.get(step, printable(step, 80))
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    return f"{text}, {minutes}:{rest:02} left" if step == _TIMED else text


class Lines:
    """One line for each step."""

    def __init__(self) -> None:
        self._step = ""

    def show(self, step: str, seconds: float) -> None:
        """A step is under way; `seconds` are left."""
        if step != self._step:
            self._step = step
            output.say(words(step, seconds))

    def draw(self) -> None:
        """Some time has passed: nothing new."""

    def end(self) -> None:
        """Something else follows: all lines stay."""


class Spinner:
    """One line that is drawn again and again, without any sequence that not every terminal knows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._frames = itertools.cycle("|/-\\")
        self._step = ""
        self._deadline = 0.0
        self._width = 0

    def show(self, step: str, seconds: float) -> None:
        """A step is under way; `seconds` are left."""
        self._step, self._deadline = step, self._clock() + seconds
        self.draw()

    def draw(self) -> None:
        """Some time has passed."""
        if self._step:
            line = f"{next(self._frames)} {words(self._step, self._deadline - self._clock())}"
            # A line that is too long would not be drawn over, but scroll.
            self._draw(line[: _columns() - 1])

    def end(self) -> None:
        """Something else follows: the line goes."""
        self._step = ""
        if self._width:
            self._draw("")
            sys.stdout.write("\r")
            sys.stdout.flush()

    def _draw(self, line: str) -> None:
        sys.stdout.write("\r" + line.ljust(self._width))
        sys.stdout.flush()
        self._width = len(line)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80
