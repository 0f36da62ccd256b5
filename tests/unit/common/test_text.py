from __future__ import annotations

import pytest

from ravesvc.common.text import count, printable


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Zoë \N{CLAPPER BOARD}", "Zoë \N{CLAPPER BOARD}"),
        ("a\nb\rc\td", "a?b?c?d"),
        ("\033[41m\x9b\u202e\u2028\0", "?[41m????"),
        ("\ud800", "?"),
        (None, ""),
        (5, ""),
        ({"a": "b"}, ""),
    ],
)
def test_what_controls_a_terminal_or_systemd_is_replaced(text: object, made: str) -> None:
    assert printable(text, 100) == made


def test_it_is_cut() -> None:
    assert printable("123456", 5) == "12345"


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (1, "mesh", "1 mesh"),
        (0, "mesh", "0 meshes"),
        (2, "process", "2 processes"),
        (3, "more try", "3 more tries"),
        (2, "day", "2 days"),
        (2, "command permission", "2 command permissions"),
    ],
)
def test_things_are_counted(number: int, noun: str, said: str) -> None:
    assert count(number, noun) == said
