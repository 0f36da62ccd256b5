"""What holds for the source as a whole, by the measurements of `make stats`."""

from __future__ import annotations

from pathlib import Path

import pytest
from import_graph import circles, graph, imports
from naming import classes_of_one_name, constants, lacks_unit
from source import Source, of_checkout

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source() -> Source:
    return of_checkout(ROOT)


def test_a_class_name_means_one_class(source: Source) -> None:
    assert len(source.modules) > 100
    assert classes_of_one_name(source.modules) == {}


def test_modules_import_each_other_in_no_circle(source: Source) -> None:
    # lint-imports sees to packages: it knows the few imports between them that are yet to go.
    assert circles(graph(imports(source.modules))) == []


def test_a_constant_of_a_time_or_size_has_its_unit_in_its_name(source: Source) -> None:
    found = [
        f"{place} {name}"
        for module in source.modules
        for name, value, place in constants(module)
        if lacks_unit(name, value)
    ]
    assert found == []
