"""What must hold of values, whatever they were read from."""

from __future__ import annotations

import json
import math
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar, cast

from ravesvc.errors import Code, RaveError

T = TypeVar("T")


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


def from_bus(value: Any) -> Any:
    """A JSON value as the message bus could have carried it: no null, integers of 64 bits, texts of UTF-8."""
    if isinstance(value, dict):
        return {from_bus(key): from_bus(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [from_bus(inner) for inner in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode().replace("\0", "")
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(2**64 - 1, value))
    return "" if value is None else value


def bus_body(data: bytes) -> list[Any]:
    """The values of a message, from a JSON list of them; raises `RaveError` for what is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise RaveError(Code.BAD_DATA, "no JSON") from None
    if not isinstance(found, list):
        raise RaveError(Code.BAD_DATA, "no list of values")
    return [from_bus(value) for value in found]


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as e:
        return cast("T", e.value)
    work.close()
    raise AssertionError("it waits")
