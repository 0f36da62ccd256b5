"""Text in columns that fit a terminal. Pure.

Widths are in cells of a terminal, of which an emoji takes two and an accent none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_GAP = "  "
GAP_CELLS = len(_GAP)
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


def wrap(text: str, cells: int) -> list[str]:
    """A text in lines of at most so many cells, broken between words, or in a word that is longer than a line.

    A number stays with the word after it.
    """
    lines = [""]
    for word in _words(text):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width(joined) <= cells:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        *full, lines[-1] = _pieces(word, cells)
        lines[-1:-1] = full
    return lines


def fit(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    cells: int,
    flexible: Sequence[int],
    least: Sequence[int] | None = None,
) -> list[list[str]]:
    """The titles and the rows, each cell padded to the width of its column.

    When all that is wider than `cells`, the `flexible` columns (by number) are cut; each takes what another leaves.
    A column is at least as wide as `least` says, unless it is cut.
    """
    least = least or [0] * len(titles)
    natural = [
        max(narrowest, *map(width, column))
        for narrowest, column in zip(least, zip(titles, *rows, strict=True), strict=True)
    ]
    room = cells - sum(natural) - GAP_CELLS * (len(titles) - 1) + sum(natural[number] for number in flexible)
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


def _words(text: str) -> list[str]:
    """The words of a text; a number and the word after it count as one."""
    words: list[str] = []
    for word in text.split(" "):
        if words and words[-1].isdecimal() and word[:1].isalpha():
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def _pieces(word: str, cells: int) -> list[str]:
    """A word in pieces of at most so many cells, but of one letter at least."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and width(pieces[-1]) + _cells(letter) > cells:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _pad(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def _cells(letter: str) -> int:
    # Such as accents and the sign that makes an emoji of a letter, and the vowels of Hangul syllables.
    if unicodedata.category(letter) in ("Mn", "Me") or "\u1160" <= letter <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
