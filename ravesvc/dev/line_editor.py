"""A line that is edited on a terminal: keys in, lines out. Pure.

The kernel's own editing would not do: what it has read of an unfinished line can't be shown again below a message
that comes meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ravesvc.ctl.ui.columns import width

# More than the bot would read of a message.
MAX_LINE_CHARS = 1000
_MAX_REMEMBERED = 200

# A character, or what a key such as an arrow sends.
_KEY = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]|[^\[O])|[^\x1b]", re.S)
_END_OF_INPUT = "\x04"


class LineEditor:
    """Takes keys and keeps the line that they make.

    Attributes:
        text: the line so far.
        ended: whether the end of the input was typed, Ctrl-D on an empty line.
    """

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self._at = 0
        self._pending = ""
        self._history: list[str] = []
        # Which of the former lines is shown; their number while it is none.
        self._shown = 0
        self._actions: dict[str, Callable[[], None]] = {}
        for keys, action in (
            (("\x7f", "\b"), self._delete_before),
            (("\x1b[3~", _END_OF_INPUT), self._delete_after),
            (("\x15",), lambda: self._cut(0, self._at)),
            (("\x0b",), lambda: self._cut(self._at, len(self.text))),
            (("\x17",), self._delete_word),
            (("\x01", "\x1b[H", "\x1bOH", "\x1b[1~"), lambda: self._go(0)),
            (("\x05", "\x1b[F", "\x1bOF", "\x1b[4~"), lambda: self._go(len(self.text))),
            (("\x02", "\x1b[D", "\x1bOD"), lambda: self._go(self._at - 1)),
            (("\x06", "\x1b[C", "\x1bOC"), lambda: self._go(self._at + 1)),
            (("\x10", "\x1b[A", "\x1bOA"), lambda: self._recall(self._shown - 1)),
            (("\x0e", "\x1b[B", "\x1bOB"), lambda: self._recall(self._shown + 1)),
        ):
            self._actions |= dict.fromkeys(keys, action)

    def feed(self, keys: str) -> list[str]:
        """Take what was typed, or pasted; returns the lines that are complete now."""
        pending, self._pending = self._pending + keys, ""
        lines: list[str] = []
        at = 0
        while at < len(pending):
            found = _KEY.match(pending, at)
            if not found:
                # The rest of the key has not come yet.
                self._pending = pending[at:]
                break
            at = found.end()
            if found[0] in "\r\n":
                lines.append(self._finish())
            else:
                self._take(found[0])
        return lines

    def view(self, cells: int) -> tuple[str, int]:
        """The part of the line around the cursor that fits into so many cells, and the cell of the cursor in it."""
        start = 0
        while width(self.text[start : self._at]) >= max(cells, 1):
            start += 1
        end = len(self.text)
        while width(self.text[start:end]) > cells and end > self._at:
            end -= 1
        return self.text[start:end], width(self.text[start : self._at])

    def _take(self, key: str) -> None:
        if key == _END_OF_INPUT and not self.text:
            self.ended = True
        elif key in self._actions:
            self._actions[key]()
        elif key.isprintable() and len(self.text) < MAX_LINE_CHARS:
            self.text = self.text[: self._at] + key + self.text[self._at :]
            self._at += 1

    def _finish(self) -> str:
        line = self.text
        if line.strip() and self._history[-1:] != [line]:
            self._history = [*self._history, line][-_MAX_REMEMBERED:]
        self._shown = len(self._history)
        self.text, self._at = "", 0
        return line

    def _go(self, at: int) -> None:
        self._at = min(max(at, 0), len(self.text))

    def _cut(self, start: int, end: int) -> None:
        self.text = self.text[:start] + self.text[end:]
        self._at = start

    def _delete_before(self) -> None:
        if self._at:
            self._cut(self._at - 1, self._at)

    def _delete_after(self) -> None:
        self._cut(self._at, self._at + 1)

    def _delete_word(self) -> None:
        *before, _ = self.text[: self._at].rstrip().rpartition(" ")
        self._cut(len("".join(before)), self._at)

    def _recall(self, number: int) -> None:
        self._shown = min(max(number, 0), len(self._history))
        self.text = (*self._history, "")[self._shown]
        self._at = len(self.text)
