"""Print how easy the source is to read, in figures: of this tree, and of another revision beside it.

python3 packaging/stats/stats.py [--list] [REVISION]

They are indicators, not goals: with --list each is followed by the places that it counts. Look at those first.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import import_graph
import likeness
import naming
from source import PACKAGE, Module, Source, of_checkout, of_revision

ROOT = Path(__file__).parents[2]
THIS_FILE = "packaging/stats/stats.py"
SHORT_FILE_LINES = 50
# Shorter runs of like lines are the grammar's, not the authors'.
LEAST_RUN_LINES = 6
# A small verb that stands for all: each file that spells it is one that a new verb has to be written in. It is a word
# that nothing else is called by.
VERB = re.compile("takeover", re.IGNORECASE)
# An option of a bot that stands for all, where it is declared, handed on or described; `.name` only reads it.
OPTION = re.compile(r"(?<![\w.])leave_when_alone(_s)?\b")
OPTION_FILES = ("config/rave.yaml", "packaging/man/rave.yaml.5")
# Where a tree has this, it writes what those files say of options, and no author does.
OPTION_WRITER = "packaging/option_texts.py"


class Figure(NamedTuple):
    """One figure, and what was counted for it."""

    value: str
    found: Sequence[str] = ()


def median_file(source: Source) -> Figure:
    """Lines of the median module."""
    return Figure(f"{median(_length(module) for module in source.modules):.0f} lines")


def short_files(source: Source) -> Figure:
    """Modules that are hardly worth a file, among those that need not be there for Python's sake."""
    chosen = [module for module in source.modules if not module.path.endswith("/__init__.py")]
    short = [f"{module.path}: {_length(module)}" for module in chosen if _length(module) < SHORT_FILE_LINES]
    return Figure(f"{len(short)} of {len(chosen)}", short)


def comments(source: Source) -> Figure:
    """Lines that are comments, among all that are not blank."""
    lines = [line.strip() for module in source.modules for line in module.text.splitlines() if line.strip()]
    return Figure(f"{100 * sum(line.startswith('#') for line in lines) / len(lines):.1f} %")


def actors_in_source(source: Source) -> Figure:
    """Sentences, and names, that hide who acts."""
    return _counted(each for m in source.modules for each in naming.hidden_in(m.text, m.path, 1))


def actors_for_readers(source: Source) -> Figure:
    """The same, where people read it: texts of the program, docstrings, pages."""
    texts = [each for module in source.modules for each in naming.hidden_actors(module)]
    return _counted(iter([*texts, *naming.hidden_in_pages(source.files)]))


def doubled_classes(source: Source) -> Figure:
    """Names that mean two classes."""
    doubled = naming.classes_of_one_name(source.modules)
    return Figure(str(len(doubled)), [f"{name}: {', '.join(places)}" for name, places in doubled.items()])


def without_unit(source: Source) -> Figure:
    """Times and sizes that don't say in what."""
    named = (each for module in source.modules for each in naming.constants(module))
    return _counted(f"{place}: {name}" for name, value, place in named if naming.lacks_unit(name, value))


def longest(source: Source) -> Figure:
    """Constants that say neither what is long nor how it is measured."""
    named = (each for module in source.modules for each in naming.constants(module))
    return _counted(f"{place}: {name}" for name, _, place in named if re.match("_?LONGEST(_|$)", name))


def module_circles(source: Source) -> Figure:
    """Modules that import each other."""
    found = import_graph.imports(source.modules)
    return _circles(import_graph.graph(found), found, str)


def package_circles(source: Source) -> Figure:
    """Packages that import each other."""
    found = import_graph.imports(source.modules)
    return _circles(import_graph.package_graph(found), found, import_graph.package)


def option_places(source: Source) -> Figure:
    """Lines in which an author spells one option of a bot, outside of tests."""
    by_hand = [] if OPTION_WRITER in source.files else [path for path in OPTION_FILES if path in source.files]
    paths = [module.path for module in source.modules] + by_hand
    return _counted(
        f"{path}:{number}"
        for path in paths
        for number, line in enumerate(source.files[path].splitlines(), 1)
        if OPTION.search(line)
    )


def verb_files(source: Source) -> Figure:
    """Files in which one verb of ravectl is spelt, tests included."""
    return _counted(path for path, text in sorted(source.files.items()) if VERB.search(text) and path != THIS_FILE)


def equal_lines(source: Source) -> Figure:
    """Lines that both runners have."""
    return _longest_run(source, shapes=False)


def like_lines(source: Source) -> Figure:
    """Lines that both runners have, but for names."""
    return _longest_run(source, shapes=True)


ROWS: tuple[tuple[str, Callable[[Source], Figure]], ...] = (
    ("median file", median_file),
    (f"files under {SHORT_FILE_LINES} lines, without __init__.py", short_files),
    ("comment lines", comments),
    ("whoever, somebody, nobody, whatever ... in the source", actors_in_source),
    ("the same in what people read", actors_for_readers),
    ("class names defined in more than one module", doubled_classes),
    ("constants of a time or size without a unit", without_unit),
    ("constants named LONGEST", longest),
    ("circles of modules", module_circles),
    ("circles of packages", package_circles),
    ("places that spell one option of a bot", option_places),
    ("files that spell one verb of ravectl", verb_files),
    ("longest run of equal lines in both runners", equal_lines),
    ("longest run of like-shaped lines in both runners", like_lines),
)


def measured(source: Source) -> list[Figure]:
    """The figures of a tree, in the order of `ROWS`."""
    return [measure(source) for _, measure in ROWS]


def table(titles: Sequence[str], columns: Sequence[Sequence[Figure]]) -> Iterator[str]:
    """The lines of the table: a row for each figure, a column for each tree."""
    yield _row("", titles)
    for (label, _), *figures in zip(ROWS, *columns, strict=True):
        yield _row(label, [figure.value for figure in figures])


def listing(figures: Sequence[Figure]) -> Iterator[str]:
    """What was counted for each figure."""
    for (label, _), figure in zip(ROWS, figures, strict=True):
        if figure.found:
            yield f"\n{label}: {figure.value}"
            yield from (f"    {each}" for each in figure.found)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="stats", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="also list the places in this tree that were counted")
    parser.add_argument("revision", nargs="?", help="a revision to compare this tree with")
    arguments = parser.parse_args()
    titles, columns = ["this tree"], [measured(of_checkout(ROOT))]
    if arguments.revision:
        try:
            before = of_revision(ROOT, arguments.revision)
        except subprocess.CalledProcessError:
            # git has said why.
            return 2
        titles.insert(0, arguments.revision)
        columns.insert(0, measured(before))
    print("\n".join([*table(titles, columns), *(listing(columns[-1]) if arguments.list else ())]))
    return 0


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{label:54}" + "".join(f"{cell:>16}" for cell in cells)


def _length(module: Module) -> int:
    return len(module.text.splitlines())


def _counted(found: Iterator[str]) -> Figure:
    places = list(found)
    return Figure(str(len(places)), places)


def _circles(of: import_graph.Graph, found: Sequence[import_graph.Import], node: Callable[[str], str]) -> Figure:
    """How many there are with their sizes, and the imports that make them."""
    circles = import_graph.circles(of)
    listed = []
    for circle in circles:
        listed.append(", ".join(sorted(circle)))
        inside = (each for each in dict.fromkeys(found) if {node(each.source), node(each.target)} <= circle)
        listed += [
            f"    {each.place} imports {each.target}" for each in inside if node(each.source) != node(each.target)
        ]
    sizes = f" (of {', '.join(str(len(circle)) for circle in circles)})" if circles else ""
    return Figure(f"{len(circles)}{sizes}", listed)


def _longest_run(source: Source, *, shapes: bool) -> Figure:
    tasks = [m for m in source.modules if m.name.startswith(f"{PACKAGE}.single.")]
    units = [m for m in source.modules if m.name.startswith((f"{PACKAGE}.orchestrator.", f"{PACKAGE}.core."))]
    runs = likeness.runs(tasks, units, least=2, shapes=shapes)
    listed = [f"{run.length}: {run.left} {run.right}" for run in runs if run.length >= LEAST_RUN_LINES]
    return Figure(f"{max((run.length for run in runs), default=0)} lines", listed)


if __name__ == "__main__":
    sys.exit(main())
