"""The table of faults names tests that exist, and says which of them are in the long run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "integration"


def named() -> list[tuple[str, str]]:
    """File and test of every row; `::test` stands for the file that was named before it."""
    found = []
    for row in (TESTS / "README.md").read_text().splitlines():
        if not row.startswith("| ") or row.startswith("| Fault"):
            continue
        file = ""
        for name in re.findall(r"`((?:test_\w+\.py)?(?:::\w+)?)`", row.split("|")[4]):
            path, _, test = name.partition("::")
            file = path or file
            found.append((file, test))
    return found


def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.slow
def test_every_row_names_a_test_that_there_is() -> None:
    rows = named()
    assert len(rows) > 40
    for file, test in rows:
        assert (TESTS / file).is_file(), file
        assert not test or test in functions_of(file), f"{file}::{test}"


def test_every_row_has_a_test() -> None:
    rows = [row for row in (TESTS / "README.md").read_text().splitlines() if row.startswith("| ")]
    for row in rows[1:]:
        assert len(row.split("|")) == 6, row
        assert re.search(r"`test_\w+\.py(::\w+)?`", row.split("|")[4]), row


def test_the_long_ones_are_marked() -> None:
    for row in (TESTS / "README.md").read_text().splitlines():
        for file, test in re.findall(r"`(test_\w+\.py)::(\w+)` \(faults\)", row):
            source = (TESTS / file).read_text()
            marked = bool(re.search(r"^pytestmark = \[?pytest\.mark\.faults\b", source, re.M))
            decorated = re.search(rf"@pytest\.mark\.faults\n(?:@.*\n)*def {test}\(", source)
            assert marked or decorated, f"{file}::{test}"
