"""rave.yaml, as an operator edits it."""

from __future__ import annotations

import dataclasses

from ravesvc.config import rave_yaml
from ravesvc.errors import Code, RaveError
from tests.fuzz.rules import all_values, check_errors, is_finite

# PyYAML takes a second and more for a thousand brackets in each other. Only root writes the file.
MAX_CPU_S = 5.0


def check(data: bytes) -> None:
    """It is a configuration without mistakes, or none and at least one mistake."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RaveError(Code.CONFIG, "no UTF-8") from None
    found, errors = rave_yaml.read(text, "rave.yaml")
    assert (found is None) == bool(errors)
    check_errors(errors)
    assert found is not None
    for value in all_values(dataclasses.astuple(found)):
        assert is_finite(value)
