"""What must hold of values, whatever they were read from."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravesvc.errors import RaveError


def all_values(value: object) -> Iterator[object]:
    """A value and all in it: keys and values of mappings, elements of the rest."""
    yield value
    if isinstance(value, dict):
        for pair in value.items():
            yield from all_values(pair)
    elif isinstance(value, (tuple, list, set, frozenset)):
        for each in value:
            yield from all_values(each)


def is_finite(value: object) -> bool:
    """Whether a value, if it is a number, is one to calculate with."""
    return not isinstance(value, float) or math.isfinite(value)


def check_errors(errors: list[RaveError]) -> None:
    """Assert that errors are fit for people, and raise the first, if there is one."""
    for error in errors:
        assert isinstance(error, RaveError)
        assert len(error.message) < 1000
        assert error.message.isprintable()
        error.message.encode()
    if errors:
        raise errors[0]
