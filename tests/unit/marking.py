"""Which tests `make check` leaves to `make test`: those that are marked `mongo`, `process` or `slow`.

Where a fixture is the reason, all tests that use it are marked in one place:

    @pytest.fixture
    @marks_its_tests("process")
    def program(...): ...

Otherwise the mark is on the test, its module, or the parameter with which a fixture starts a server. The simulator is
a program for developers and tests, most of which speak to it over TLS: all of them are slow.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

LEFT_OUT_OF_QUICK = ("mongo", "process", "slow")

_UNIT_TESTS = Path(__file__).parent
_MARK_OF_FILE = re.compile(rf"^pytestmark = pytest\.mark\.({'|'.join(LEFT_OUT_OF_QUICK)})$", re.M)

F = TypeVar("F", bound=Callable[..., Any])

# The programs that take so long to start that a test of `make check` may not: each with the mark of its tests.
MARK_OF_PROGRAM = {os.path.basename(sys.executable): "process", "mongod": "mongo"}  # noqa: PTH119 - no path is touched


def marks_its_tests(mark: str) -> Callable[[F], F]:
    """Have a fixture mark all tests that use it, in whatever way."""

    def note(fixture: F) -> F:
        fixture.mark_of_its_tests = mark  # type: ignore[attr-defined]
        return fixture

    return note


def mark(item: pytest.Item) -> None:
    """Give a test the marks of its fixtures and of its directory."""
    if _is_about_simulator(item.path):
        item.add_marker("slow")
    if isinstance(item, pytest.Function):
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            if found := getattr(definitions[-1].func, "mark_of_its_tests", ""):
                item.add_marker(found)


def is_file_left_out_of_quick(path: Path) -> bool:
    """Whether a whole file of tests says so. To import it and to make its tests takes as long as some tests do."""
    if _is_about_simulator(path):
        return True
    return path.name.startswith("test_") and bool(_MARK_OF_FILE.search(path.read_text(encoding="utf-8")))


def _is_about_simulator(path: Path) -> bool:
    return path.parent.name == "simulator"


def is_left_out_of_quick(item: pytest.Item) -> bool:
    """Whether `make check` leaves a test to `make test`."""
    return any(map(item.get_closest_marker, LEFT_OUT_OF_QUICK))


class Running:
    """The test that runs."""

    item: pytest.Item | None = None


def package_under_test() -> str:
    """The package of ravesvc that the running test is about, such as `store`; empty if it is about all."""
    assert Running.item, "no test runs"
    parts = Running.item.path.relative_to(_UNIT_TESTS).parts
    return parts[0] if len(parts) > 1 else ""


def refuse_programs() -> None:
    """From now on fail a test that starts one of these programs and is not marked so."""
    execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def check(popen: object, words: Any, *rest: Any) -> None:
        for word in [words] if isinstance(words, str | bytes | os.PathLike) else words:
            needed = MARK_OF_PROGRAM.get(os.path.basename(os.fsdecode(word)))  # noqa: PTH119
            assert not needed or not Running.item or Running.item.get_closest_marker(needed), (
                f"it starts {word}: mark the test {needed!r}"
            )
        execute(popen, words, *rest)

    subprocess.Popen._execute_child = check  # type: ignore[attr-defined]
