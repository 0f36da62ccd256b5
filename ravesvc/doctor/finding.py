"""The result of a check. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingState(StrEnum):
    """Whether the checked property holds."""

    HELD = "held"
    NOT_HELD = "not held"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked, in a few words.
        why: what the check saw, one sentence without a final stop.
        hint: what the operator can do about it; empty if nothing has to be done.
        fatal: whether no bot can run until this holds.
    """

    name: str
    state: FindingState
    why: str
    hint: str = ""
    fatal: bool = False


def held(name: str, why: str) -> Finding:
    """A finding that nothing has to be done."""
    return Finding(name, FindingState.HELD, why)


def not_held(name: str, why: str, hint: str, *, fatal: bool = False) -> Finding:
    """A finding that the operator should do something."""
    return Finding(name, FindingState.NOT_HELD, why, hint, fatal)


def unknown(name: str, why: str, hint: str = "") -> Finding:
    """A finding that the check could not be made."""
    return Finding(name, FindingState.UNKNOWN, why, hint)
