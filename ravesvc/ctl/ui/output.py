"""Output and questions of ravectl. Every text is made safe for a terminal.

No other module of ravectl writes text to a terminal, so that none has to remember the filter. Sequences that control
the terminal are added here alone, after it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

from ravesvc.common import dates
from ravesvc.common.error_text import Audience, present
from ravesvc.common.text import count, printable
from ravesvc.ctl.ui import columns
from ravesvc.errors import RaveError

_MAX_LINE_CHARS = 2000
# A title has up to 300 characters, and stands in the middle of a line.
_MAX_TITLE_CELLS = 40


def print_line(text: str, colour: str = "") -> None:
    """One line on standard output; `colour` has the SGR parameters (ECMA-48), empty for none."""
    shown = printable(text, _MAX_LINE_CHARS)
    sys.stdout.write(f"{_coloured(shown, colour) if colour else shown}\n")
    sys.stdout.flush()


def print_row(cells: Sequence[str], colours: Mapping[int, str]) -> None:
    """Print a line of a table, of padded cells, without a flush: a table appears at once.

    `colours` has the SGR parameters (ECMA-48) of cells by number.
    """
    shown = [printable(cell, _MAX_LINE_CHARS) for cell in cells]
    for number, colour in colours.items():
        shown[number] = _coloured(shown[number], colour)
    sys.stdout.write(columns.join(shown) + "\n")


def has_colours() -> bool:
    """Whether standard output takes colours; see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def redraw(text: str) -> None:
    """A text in place of the line that is being written, which it does not end."""
    sys.stdout.write("\r" + printable(text, _MAX_LINE_CHARS))
    sys.stdout.flush()


def enter_screen() -> None:
    """Go to the alternate screen, without a cursor, and without a new line for what is too long."""
    _control("?1049h", "?25l", "?7l")


def draw_screen(rows: Sequence[tuple[Sequence[str], Mapping[int, str]]], cells: int) -> None:
    """Draw all rows of a screen of so many cells: for each its padded cells, and colours as for `print_row`.

    Each cell is put at its place, so that one which the terminal draws wider than we think moves no other.
    """
    coloured = has_colours()
    drawn = []
    for number, (pieces, colours) in enumerate(rows, 1):
        # Before the text: after a full line the last cell would be erased.
        drawn.append(f"\033[{number}H\033[K")
        at = 0
        for which, piece in enumerate(pieces):
            shown = columns.cut(printable(piece, _MAX_LINE_CHARS), cells - at) if at < cells else ""
            colour = colours.get(which) if coloured else None
            drawn.append(f"\033[{number};{at + 1}H{_coloured(shown, colour) if colour else shown}")
            at += columns.width(piece) + columns.GAP_CELLS
    sys.stdout.write("".join(drawn))
    sys.stdout.flush()


def leave_screen() -> None:
    """Go back to the screen that was shown before, as it was."""
    _control("?7h", "?25h", "?1049l")


def _control(*functions: str) -> None:
    sys.stdout.write("".join(f"\033[{each}" for each in functions))
    sys.stdout.flush()


def print_error(message: str) -> None:
    """Print what has failed, in one line on standard error."""
    sys.stderr.write(printable(f"ravectl: {message}", _MAX_LINE_CHARS) + "\n")


def print_failure(error: RaveError) -> None:
    """Print a failure on standard error, and on another line what to do about it."""
    sys.stderr.write(f"ravectl: {present(error, Audience.OPERATOR)}\n")


def print_json(document: object) -> None:
    """Print JSON for programs, in printable ASCII."""
    sys.stdout.write(json.dumps(document, indent=2).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def print_problem(text: str) -> None:
    """One line on standard error, about something else than what was asked for: a file, an entry."""
    sys.stderr.write(printable(text, _MAX_LINE_CHARS) + "\n")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as need be, the last as long as it is."""
    # Before widths are computed: they are those of what is shown.
    shown = [[printable(cell, _MAX_LINE_CHARS) for cell in cells] for cells in rows]
    for cells in columns.fit(titles, shown, 0, flexible=()):
        print_line(columns.join(cells))


def ask(question: str) -> str:
    """Ask the user at the terminal; returns the answer, empty if there is none."""
    sys.stderr.write(printable(question, _MAX_LINE_CHARS) + " ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
    return answer.strip()


def confirm(question: str) -> bool:
    """Ask the user at the terminal a question; returns whether the answer is yes."""
    return ask(f"{question} [y/N]").lower() in ("y", "yes")


def date_column(times: Sequence[int]) -> list[str]:
    """Times of one list in microseconds since the epoch, see `ravesvc.common.dates`; 0 is none."""
    return dates.dates([each / 1_000_000 for each in times])


def title(text: str) -> str:
    """The title of a mesh as a cell of a table: cut where it is long, "-" if it is not known."""
    return columns.cut(printable(text, _MAX_LINE_CHARS), _MAX_TITLE_CELLS) or "-"


def _coloured(text: str, colour: str) -> str:
    return f"\033[{colour}m{text}\033[0m"


def counts(admins: int, permissions: int) -> str:
    """The contents of a store in words."""
    return f"{count(admins, 'admin')}, {count(permissions, 'command permission')}"
