from __future__ import annotations

import pytest

from ravesvc.words import printable


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
