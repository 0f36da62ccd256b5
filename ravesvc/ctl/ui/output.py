"""What ravectl says and asks. Whatever comes from elsewhere is made fit for a terminal.

No other module of ravectl writes text to a terminal, so that none has to remember the filter. Sequences that control
the terminal are added here alone, after it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence

from ravesvc.common.text import count, printable
from ravesvc.ctl.ui import columns

_LONGEST = 2000
_HOME_AND_CLEAR = "\033[H\033[2J"


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(printable(text, _LONGEST) + "\n")
    sys.stdout.flush()


def row(cells: Sequence[str], colours: Mapping[int, str]) -> None:
    """A line of a table, whose cells are padded, which stays in a buffer: a table is to appear at once.

    `colours` has the SGR parameters (ECMA-48) of cells by number.
    """
    shown = [printable(cell, _LONGEST) for cell in cells]
    for number, colour in colours.items():
        shown[number] = f"\033[{colour}m{shown[number]}\033[0m"
    sys.stdout.write(columns.join(shown) + "\n")


def redraw(text: str) -> None:
    """A text in place of the line that is being written, which it does not end."""
    sys.stdout.write("\r" + printable(text, _LONGEST))
    sys.stdout.flush()


def clear() -> None:
    """An empty terminal, to be written from its top."""
    sys.stdout.write(_HOME_AND_CLEAR)


def complain(message: str, hint: str = "") -> None:
    """A failure on standard error, and what to do about it."""
    lines = [f"ravectl: {message}"] + ([f"hint: {hint}"] if hint else [])
    sys.stderr.write("".join(printable(line, _LONGEST) + "\n" for line in lines))


def dump(document: object) -> None:
    """A document for programs, in printable ASCII; each of them reads its escapes."""
    sys.stdout.write(json.dumps(document, indent=2).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def report(text: str) -> None:
    """One line on standard error, about something else than what was asked for: a file, an entry."""
    sys.stderr.write(printable(text, _LONGEST) + "\n")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as need be, the last as long as it is."""
    # Before widths are computed: they are those of what is shown.
    shown = [[printable(cell, _LONGEST) for cell in cells] for cells in rows]
    for cells in columns.fit(titles, shown, 0, flexible=()):
        say(columns.join(cells))


def ask(question: str) -> str:
    """The answer of whoever sits at the terminal; empty if there is none."""
    sys.stderr.write(printable(question, _LONGEST) + " ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
    return answer.strip()


def agrees(question: str) -> bool:
    """Whether whoever sits at the terminal says yes."""
    return ask(f"{question} [y/N]").lower() in ("y", "yes")


def date(microseconds: int) -> str:
    """A time since the epoch, in the local time zone; 0 is none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(microseconds // 1_000_000)) if microseconds else "-"


def counts(admins: int, permissions: int) -> str:
    """What a store holds."""
    return f"{count(admins, 'admin')}, {count(permissions, 'command permission')}"
