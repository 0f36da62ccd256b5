"""The table of `make mutations`, which would else rot: it is run now and then."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
# For those who try or test the service; they promise its users nothing.
WITHOUT = {"dev", "hostile", "simulator"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.promise)
def test_a_mutation_fits_the_source_and_leaves_it_python(mutation: Mutation) -> None:
    ast.parse(mutation.applied((ROOT / "ravesvc" / mutation.file).read_text()))
    assert (ROOT / "tests/unit" / mutation.tests).is_file()


def test_there_are_mutations_in_all_parts() -> None:
    parts = {path.parent.name for path in (ROOT / "ravesvc").glob("*/__init__.py")}
    assert {each.part for each in MUTATIONS} == parts - WITHOUT


def test_a_text_that_is_not_there_once_is_an_error() -> None:
    mutation = MUTATIONS[0]._replace(text="a", by="b")
    assert mutation.applied("cat") == "cbt"
    for source in "dog", "banana":
        with pytest.raises(ValueError, match="has not exactly once"):
            mutation.applied(source)
