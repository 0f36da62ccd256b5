from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest

from ravesvc.config.declaration import (
    CHOICE,
    OPTIONAL_TEXT,
    PORTS,
    SWITCH,
    TEXT,
    TEXTS,
    TIME_SPAN,
    from_object,
    handed_over,
    option,
    section,
)
from ravesvc.errors import Code, RaveError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    key: str = option(TEXT, default="", secret=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    part: Inner = section(Inner, "the_part")
    colour: str = option(CHOICE, default="red", words=("red", "blue"))
    delay: float = option(TIME_SPAN, default=1.5)
    names: tuple[str, ...] = option(TEXTS, default=())
    ports: tuple[int, ...] = option(PORTS, default=(443,))
    loud: bool = option(SWITCH, default=False)
    made: str | None = handed_over(OPTIONAL_TEXT, default=None, secret=True)
    note: str = "not handed over"


FULL = Outer(
    part=Inner(key="hush"), colour="blue", delay=0.25, names=("a", "b"), ports=(80, 443), loud=True, made="hush"
)


def as_json(settings: Outer) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}


@pytest.mark.parametrize("settings", [Outer(), FULL])
def test_what_was_written_is_read(settings: Outer) -> None:
    assert from_object(Outer, as_json(settings)) == settings


@pytest.mark.parametrize("key", ["part", "colour", "delay", "names", "ports", "loud"])
def test_every_key_is_needed(key: str) -> None:
    source = as_json(FULL)
    del source[key]
    with pytest.raises(RaveError, match=f"^{key} must be") as e:
        from_object(Outer, source)
    assert e.value.code is Code.BAD_DATA


@pytest.mark.parametrize(
    ("key", "value"), [("colour", "green"), ("delay", "1s"), ("names", ["a", 1]), ("ports", [0]), ("loud", 1)]
)
def test_a_value_of_another_kind_is_refused(key: str, value: object) -> None:
    with pytest.raises(RaveError, match=f"^{key} must be"):
        from_object(Outer, as_json(FULL) | {key: value})


def test_a_secret_stays_out_of_the_representation() -> None:
    assert "hush" not in repr(FULL)
