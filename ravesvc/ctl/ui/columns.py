"""Text in columns that fit a terminal. Pure.

Widths are in cells of a terminal, of which an emoji takes two and an accent none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_GAP = "  "
_MORE = "…"
# A flexible column is not cut below this.
_MIN_COLUMN_CELLS = 8


def width(text: str) -> int:
    """How many cells a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def cut(text: str, cells: int) -> str:
    """A text of at most so many cells, with a mark in the place of what is missing."""
    if width(text) <= cells:
        return text
    kept, left = 0, cells - 1
    while left >= _cells(text[kept]):
        left -= _cells(text[kept])
        kept += 1
    return text[:kept] + _MORE


def fit(titles: Sequence[str], rows: Sequence[Sequence[str]], cells: int, flexible: Sequence[int]) -> list[list[str]]:
    """The titles and the rows, each cell padded to the width of its column.

    When all that is wider than `cells`, the `flexible` columns (by number) are cut; each takes what another leaves.
    """
    natural = [max(map(width, column)) for column in zip(titles, *rows, strict=True)]
    room = cells - sum(natural) - len(_GAP) * (len(titles) - 1) + sum(natural[number] for number in flexible)
    widths = dict(enumerate(natural)) | _share({number: natural[number] for number in flexible}, room)
    return [
        [_pad(cut(cell, widths[number]), widths[number]) for number, cell in enumerate(row)]
        for row in (titles, *rows)
    ]


def join(row: Sequence[str]) -> str:
    """A row as a line."""
    return _GAP.join(row).rstrip()


def _share(wanted: dict[int, int], room: int) -> dict[int, int]:
    """The width of each column: the narrowest first, because they may need less than their share."""
    given = {}
    for left, (number, cells) in zip(
        range(len(wanted), 0, -1), sorted(wanted.items(), key=lambda each: each[1]), strict=True
    ):
        given[number] = min(cells, max(_MIN_COLUMN_CELLS, room // left))
        room -= given[number]
    return given


def _pad(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def _cells(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
