from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.ctl.ui import columns


@pytest.mark.parametrize(
    ("text", "cells"),
    [("", 0), ("film", 4), ("Zoe\N{COMBINING DIAERESIS}", 3), ("映画", 4), ("\N{POPCORN}!", 3), ("\u2764\ufe0f", 1)],
)
def test_a_text_takes_the_cells_that_a_terminal_gives_it(text: str, cells: int) -> None:
    assert columns.width(text) == cells


@pytest.mark.parametrize(
    ("text", "cells", "kept"),
    [
        ("A film", 6, "A film"),
        ("A film", 5, "A fi…"),
        ("A film", 1, "…"),
        ("映画の夜", 8, "映画の夜"),
        ("映画の夜", 7, "映画の…"),
        ("映画の夜", 6, "映画…"),
    ],
)
def test_what_is_too_long_is_cut(text: str, cells: int, kept: str) -> None:
    assert columns.cut(text, cells) == kept


ROWS = [["1", "a title that goes on and on", "x", "an error with many words, too"], ["22", "short", "yy", ""]]
TITLES = ["N", "TITLE", "S", "ERROR"]


def shown(cells: int) -> list[str]:
    return [columns.join(row) for row in columns.fit(TITLES, ROWS, cells, (1, 3))]


def test_columns_are_as_wide_as_need_be() -> None:
    assert shown(100) == [
        "N   TITLE                        S   ERROR",
        "1   a title that goes on and on  x   an error with many words, too",
        "22  short                        yy",
    ]


def test_columns_that_can_be_cut_share_what_is_left() -> None:
    assert shown(40) == [
        "N   TITLE            S   ERROR",
        "1   a title that g…  x   an error with …",
        "22  short            yy",
    ]


def test_a_column_takes_what_another_leaves() -> None:
    rows = [["1", "short", "x", "an error with many words, too"]]
    assert [columns.join(row) for row in columns.fit(TITLES, rows, 30, (1, 3))][1] == "1  short  x  an error with ma…"


def test_on_no_terminal_at_all_something_is_left() -> None:
    assert shown(0)[1] == "1   a title…  x   an erro…"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two", ["one two"]),
        ("one two three", ["one two", "three"]),
        ("a-very-long-word it is", ["a-very-l", "ong-word", "it is"]),
        ("it is a-very-long-word", ["it is", "a-very-l", "ong-word"]),
        ("映画の夜 film", ["映画の夜", "film"]),
        ("it is 7 up", ["it is", "7 up"]),
        ("it is 7 uppermost", ["it is", "7 upperm", "ost"]),
        ("7 8 9 10 11", ["7 8 9 10", "11"]),
    ],
)
def test_a_long_line_is_broken_between_words(text: str, lines: list[str]) -> None:
    assert columns.wrap(text, 8) == lines


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=5), st.integers(20, 120))
def test_nothing_is_wider_than_the_terminal(rows: list[tuple[str, str]], cells: int) -> None:
    for row in columns.fit(["A", "B"], rows, cells, (0, 1)):
        assert columns.width("  ".join(row)) <= cells
