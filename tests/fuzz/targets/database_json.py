"""database.json, as an operator edits it."""

from __future__ import annotations

from ravesvc.config import database
from tests.fuzz.rules import all_values, check_errors, is_finite


def check(data: bytes) -> None:
    """It is a database without mistakes, or none and at least one mistake."""
    found, errors = database.parse(data, "database.json")
    assert (found is None) == bool(errors)
    check_errors(errors)
    assert found is not None
    for value in all_values(dict(found.options)):
        assert is_finite(value)
