"""The table of faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.integration.fault_table import named, rows

TESTS = Path(__file__).parents[1] / "integration"


def functions_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.slow
def test_every_row_names_a_test_that_there_is() -> None:
    found = named()
    assert len(found) > 40
    for file, test in found:
        assert (TESTS / file).is_file(), file
        assert not test or test in functions_of(file), f"{file}::{test}"


def test_every_row_has_a_test() -> None:
    for row in rows():
        assert len(row.split("|")) == 6, row
        assert re.search(r"`test_\w+\.py(::\w+)?`", row.split("|")[4]), row
