from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot.text import plain, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" \n", []),
        (" short ", ["short"]),
        ("exactly 10", ["exactly 10"]),
        ("123456 890 x", ["123456 890", "x"]),  # the blank right after the limit is a boundary too
        ("one two three", ["one two", "three"]),
        ("line 1\nline 2", ["line 1", "line 2"]),
        ("aaaaaa\nb cd e", ["aaaaaa", "b cd e"]),  # a line end goes before a later blank
        ("a\nbb cc dd ee", ["a\nbb cc dd", "ee"]),  # unless it would leave a part nearly empty
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
        ("a\n\n\n\n\n\n\n\n\n\n\n\nb", ["a", "b"]),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert split(text, 10) == parts


@given(st.text(alphabet="ab \n\t", max_size=200), st.integers(1, 20))
def test_split_loses_nothing_but_blanks(text: str, length: int) -> None:
    parts = split(text, length)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part.strip() and len(part) <= length for part in parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Well @Ann Lee", ["Well", "@Ann Lee"]),
        ("@Ann Lee @Ann Lee", ["@Ann Lee", "@Ann Lee"]),
        ("12345678@Ann Lee", ["12345678", "@Ann Lee"]),
        ("@Ann Lee12 is here", ["@Ann Lee12", "is here"]),
    ],
)
def test_split_keeps_together_what_it_is_told_to(text: str, parts: list[str]) -> None:
    assert split(text, 10, ["@Ann Lee"]) == parts


def test_split_cuts_what_is_longer_than_a_part() -> None:
    assert split("a @abcdefghijk", 5, ["@abcdefghijk"]) == ["a", "@abcd", "efghi", "jk"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ann", "Ann"),
        ("  Ann \n\t B. ", "Ann B."),
        ("\x1b[31mred\x07\x00", "[31mred"),
        ("evil\u202etxt\u200b\ufeff", "eviltxt"),
        ("**bold** `code`", "bold code"),
        ("snake_case", "snake_case"),
        ("\u2028\x00", ""),
        ("0123456789ab", "012345678…"),
        ("01234567 9ab", "01234567 9ab"[:9].rstrip() + "…"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text, 10) == shown
