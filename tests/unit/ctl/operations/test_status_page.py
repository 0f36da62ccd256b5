from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.ctl.operations.status_page import page
from ravesvc.ctl.operations.status_view import StatusView


def view(heights: Sequence[int], head: int = 2, foot: int = 0) -> StatusView:
    """Meshes with so many lines each, which begin with the number of the mesh."""
    blocks = [[[f"{number}.{line}"] for line in range(height)] for number, height in enumerate(heights)]
    return StatusView(
        [[f"head {line}"] for line in range(head)], [["TITLES"]] if blocks else [], blocks, [["foot"]] * foot
    )


def text(heights: Sequence[int], rows: int, top: int = 0, **parts: int) -> list[str]:
    found = page(view(heights, **parts), rows, top, "q quits")
    return [*("".join(line) for line in found.lines), found.footer]


def test_what_has_room_is_shown_and_nothing_said_of_rows() -> None:
    assert text([1, 1], 6) == ["head 0", "head 1", "TITLES", "0.0", "1.0", "q quits"]
    assert text([1, 1], 7, foot=1) == ["head 0", "head 1", "TITLES", "0.0", "1.0", "foot", "q quits"]
    assert text([1], 12)[2:5] == ["", "TITLES", "0.0"]
    assert text([], 6)[1:3] == ["head 1", ""]


def test_a_mesh_is_shown_whole_or_not_at_all() -> None:
    assert text([1, 2, 2], 7)[2:] == [
        "TITLES",
        "0.0",
        "1.0",
        "1.1",
        "rows 1-2 of 3, q quits, arrows and PgUp/PgDn scroll",
    ]
    assert text([1, 2, 2], 7, 2)[2:6] == ["TITLES", "2.0", "2.1", ""]


@pytest.mark.parametrize("top", [3, 99])
def test_the_last_page_is_full(top: int) -> None:
    assert text([1] * 5, 6, top)[3:] == ["3.0", "4.0", "rows 4-5 of 5, q quits, arrows and PgUp/PgDn scroll"]


def test_a_long_head_leaves_room_and_says_that_there_is_more() -> None:
    assert text([1], 6, head=9)[:4] == ["head 0", "head 1 …", "TITLES", "0.0"]


def test_a_screen_without_room_says_so() -> None:
    assert text([1, 1], 3)[-1] == "q quits, no room for 2 rows"


@given(st.lists(st.integers(1, 2), max_size=30), st.integers(1, 40), st.integers(-5, 50), st.integers(1, 9))
def test_a_page_is_as_high_as_the_screen(heights: list[int], rows: int, top: int, head: int) -> None:
    found = page(view(heights, head), rows, top, "q quits")
    assert len(found.lines) == rows - 1
    assert 0 <= found.top <= max(0, len(heights) - 1)
    assert found.top + found.shown <= len(heights)
    # From the end on, nothing more than one page is gone back.
    if found.shown and found.top < top:
        assert found.top + found.shown == len(heights)
