"""How dates are shown."""

from __future__ import annotations

import os
import time

import pytest

from ravesvc.common import dates

MORNING = 1_796_034_065  # 2026-11-30 10:21:05 UTC
DAY = 86_400


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, utc: None) -> None:
    """The time zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "column", "sentence"),
    [
        ("UTC", "2026-11-30 10:21 UTC", "2026-11-30 at 10:21:05 UTC"),
        ("Asia/Kolkata", "2026-11-30 15:51 IST", "2026-11-30 at 15:51:05 IST"),
        ("Europe/Berlin", "2026-11-30 11:21 CET", "2026-11-30 at 11:21:05 CET"),
    ],
    indirect=["zone"],
)
@pytest.mark.usefixtures("zone")
def test_a_date_names_its_zone(column: str, sentence: str) -> None:
    assert dates.date(MORNING) == column
    assert dates.in_sentence(MORNING) == sentence
    assert dates.to_the_second(MORNING) == sentence.replace(" at ", " ")


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
@pytest.mark.usefixtures("zone")
def test_the_name_is_that_of_the_season() -> None:
    assert dates.date(MORNING - 150 * DAY) == "2026-07-03 12:21 CEST"


@pytest.mark.usefixtures("utc")
def test_a_list_has_seconds_where_two_of_one_minute_follow_each_other() -> None:
    assert dates.dates([MORNING, MORNING + DAY]) == ["2026-11-30 10:21 UTC", "2026-12-01 10:21 UTC"]
    assert dates.dates([MORNING - DAY, MORNING, MORNING + 3.9]) == [
        "2026-11-29 10:21:05 UTC",
        "2026-11-30 10:21:05 UTC",
        "2026-11-30 10:21:08 UTC",
    ]


@pytest.mark.usefixtures("utc")
def test_a_list_may_have_no_time_at_places() -> None:
    assert dates.dates([]) == []
    assert dates.dates([0, 0]) == ["-", "-"]
    assert dates.dates([MORNING, 0, MORNING + 3]) == ["2026-11-30 10:21:05 UTC", "-", "2026-11-30 10:21:08 UTC"]


def test_the_zone_of_the_machine_is_none_that_the_caller_has_set() -> None:
    machine = dates.date(MORNING) if "TZ" not in os.environ else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        assert dates.date(MORNING) == "2026-11-30 15:51 IST"
        dates.use_zone_of_the_machine()
        assert "TZ" not in os.environ
        assert dates.date(MORNING) == machine or machine is None
    time.tzset()
