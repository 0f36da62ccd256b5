"""Runs of lines that stand in two files, equal or alike but for their names: what was written twice."""

from __future__ import annotations

import ast
import keyword
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import product
from typing import NamedTuple

from source import Module

_STRING = re.compile(r"""[rbfRBF]{0,2}("[^"]*"|'[^']*')""")
_NUMBER = re.compile(r"\b\d[\d_.]*\b")
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")


class Line(NamedTuple):
    """A line of code: its number in the file, and what is compared of it."""

    number: int
    text: str


class Run(NamedTuple):
    """A run: how many lines of code it has, and where it begins in both files."""

    length: int
    left: str
    right: str


def runs(left: Collection[Module], right: Collection[Module], *, least: int, shapes: bool) -> list[Run]:
    """All runs of at least so many lines between the modules of two sides, the longest first.

    Args:
        shapes: whether names, texts and numbers are left out of the comparison.
    """
    lines = {module.path: _lines(module, shapes=shapes) for module in (*left, *right)}
    found = []
    for one, other in product(left, right):
        for length, i, j in common_runs(
            [line.text for line in lines[one.path]], [line.text for line in lines[other.path]], least
        ):
            starts = (f"{each.path}:{lines[each.path][at].number}" for each, at in ((one, i), (other, j)))
            found.append(Run(length, *starts))
    return sorted(found, key=lambda run: (-run.length, run.left, run.right))


def common_runs(left: Sequence[str], right: Sequence[str], least: int) -> list[tuple[int, int, int]]:
    """The runs that can't be made longer: their length, and where they begin on both sides."""
    places = defaultdict(list)
    for at, text in enumerate(right):
        places[text].append(at)
    found = []
    # By the place on the right where a run has got to: its length.
    open_runs: dict[int, int] = {}
    for at in range(len(left) + 1):
        here = places.get(left[at], ()) if at < len(left) else ()
        longer = {there: open_runs.get(there - 1, 0) + 1 for there in here}
        for there, length in open_runs.items():
            if there + 1 not in longer and length >= least:
                found.append((length, at - length, there + 1 - length))
        open_runs = longer
    return found


def shape(line: str) -> str:
    """A line without its names, texts and numbers: all but Python's own words and signs."""
    return _WORD.sub(_kind_of_word, _NUMBER.sub("0", _STRING.sub('""', line)))


def _kind_of_word(found: re.Match[str]) -> str:
    word = found[0]
    if keyword.iskeyword(word):
        return word
    return "Name" if word[0].isupper() else "name"


def _lines(module: Module, *, shapes: bool) -> list[Line]:
    """Its lines of code, but for imports and docstrings: these are alike where nothing was written twice."""
    skipped = {number for node in ast.walk(module.tree) for number in _skipped(node)}
    numbered = ((number, line.strip()) for number, line in enumerate(module.text.splitlines(), 1))
    code = [Line(n, line) for n, line in numbered if line and not line.startswith("#") and n not in skipped]
    return [Line(each.number, shape(each.text)) for each in code] if shapes else code


def _skipped(node: ast.AST) -> range:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
            return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return range(0)
