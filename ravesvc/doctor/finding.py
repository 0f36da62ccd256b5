"""What a check has found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingState(StrEnum):
    """Whether what a check is about can be relied on."""

    HELD = "held"
    NOT_HELD = "not held"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked, in a few words.
        why: what was seen, one sentence without a final stop.
        hint: what to do about it; empty where nothing is to be done.
        fatal: that no bot can run until this holds.
    """

    name: str
    state: FindingState
    why: str
    hint: str = ""
    fatal: bool = False


def held(name: str, why: str) -> Finding:
    """All is well."""
    return Finding(name, FindingState.HELD, why)


def not_held(name: str, why: str, hint: str, *, fatal: bool = False) -> Finding:
    """Something is to be done."""
    return Finding(name, FindingState.NOT_HELD, why, hint, fatal)


def unknown(name: str, why: str, hint: str = "") -> Finding:
    """It could not be found out."""
    return Finding(name, FindingState.UNKNOWN, why, hint)
