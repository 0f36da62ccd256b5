"""The progress of long operations, for a terminal and for a file."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable

from ravesvc.ctl.ui import output


def words(text: str, left: float | None) -> str:
    """A step with the seconds that are left for it, if there is a limit."""
    if left is None:
        return text
    minutes, rest = divmod(max(0, math.ceil(left)), 60)
    return f"{text}, {minutes}:{rest:02} left"


class Lines:
    """One line for each step."""

    def __init__(self) -> None:
        self._step = ""

    def show(self, step: str, left: float | None = None) -> None:
        """Show a step; `left` are the seconds left for it, None if there is no limit."""
        if step != self._step:
            self._step = step
            output.print_line(words(step, left))

    def draw(self) -> None:
        """Called at an interval; does nothing, as lines do not change."""

    def end(self) -> None:
        """End the display; all lines stay."""


class Spinner:
    """One line that is drawn again and again, without any sequence that not every terminal knows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._frames = itertools.cycle("|/-\\")
        self._step = ""
        self._deadline: float | None = None
        self._width = 0

    def show(self, step: str, left: float | None = None) -> None:
        """Show a step; `left` are the seconds left for it, None if there is no limit."""
        self._step, self._deadline = step, None if left is None else self._clock() + left
        self.draw()

    def draw(self) -> None:
        """Called at an interval; draws the next frame."""
        if self._step:
            left = None if self._deadline is None else self._deadline - self._clock()
            line = f"{next(self._frames)} {words(self._step, left)}"
            # A line that is too long would not be drawn over, but scroll.
            self._draw(line[: _columns() - 1])

    def end(self) -> None:
        """End the display, and erase the line."""
        self._step = ""
        if self._width:
            self._draw("")
            output.redraw("")

    def _draw(self, line: str) -> None:
        output.redraw(line.ljust(self._width))
        self._width = len(line)


def display() -> Lines | Spinner:
    """The display that fits standard output."""
    return Spinner() if sys.stdout.isatty() else Lines()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80
