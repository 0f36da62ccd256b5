from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common import timespan


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("5s", 5),
        ("5 sec", 5),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1h 30min", 5400),
        ("1h30m", 5400),
        (" 2 D ", 172800),
        ("0", 0),
        ("9" * 400, math.inf),
        ("9" * 400 + "ms 1s", math.inf),
    ],
)
def test_time_spans(text: str, seconds: float) -> None:
    assert timespan.parse(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "s", "-1s", "1e5", "5 parsecs", "1.s", ".5", "inf", "nan", "1,5s", "5s!"])
def test_what_is_no_time_span(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that it is one is all that counts
        timespan.parse(text)


@given(st.text())
def test_a_time_span_is_a_number_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert timespan.parse(text) >= 0


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (90, "90s"), (5400, "90min"), (172800, "2d")],
)
def test_a_time_span_is_written_as_it_is_read(seconds: float, written: str) -> None:
    assert timespan.written(seconds) == written
    assert timespan.parse(written) == seconds


@pytest.mark.parametrize(
    ("seconds", "words"), [(59, "59 seconds"), (3599, "59 minutes"), (3600, "1 hour"), (3600000, "41 days")]
)
def test_a_time_span_in_words(seconds: float, words: str) -> None:
    assert timespan.roughly(seconds) == words
