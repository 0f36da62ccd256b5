"""Where in a video a room is, and what reports that lack parts make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.room.playback import Playback, PlaybackReport

VIDEO = Playback(url="https://a", instance_id="i", status="PLAY", position=10.0, time=1000.0, started=True)


@pytest.mark.parametrize(
    ("status", "speed", "now", "position"),
    [
        ("PLAY", 1.0, 1005.0, 15.0),
        ("PLAY", 2.0, 1005.0, 20.0),
        ("PLAY", 0.5, 1005.0, 12.5),
        ("PAUS", 1.0, 1005.0, 10.0),
        ("WAIT", 1.0, 1005.0, 10.0),
        # Our idea of the server's clock may be a little behind.
        ("PLAY", 1.0, 999.0, 10.0),
    ],
)
def test_the_position_moves_while_it_plays(status: str, speed: float, now: float, position: float) -> None:
    video = Playback(status=status, speed=speed, position=10.0, time=1000.0)
    assert video.position_at(now) == position


def test_without_a_time_the_position_is_the_last_one() -> None:
    assert Playback(status="PLAY", position=10.0).position_at(5000.0) == 10.0


def apply(**report: object) -> Playback:
    after = PlaybackReport(**report).apply(VIDEO)  # type: ignore[arg-type]
    assert after
    return after


def test_a_report_that_says_nothing_changes_nothing() -> None:
    assert apply() == VIDEO


def test_a_position_comes_with_its_own_time_or_with_none() -> None:
    assert (apply(position=30.0, time=1100.0).position, apply(position=30.0, time=1100.0).time) == (30.0, 1100.0)
    assert (apply(position=30.0).position, apply(position=30.0).time) == (30.0, None)


def test_a_time_without_a_position_moves_the_position_on() -> None:
    paused = apply(status="PAUS", time=1020.0)
    assert (paused.position, paused.time) == (30.0, 1020.0)
    resumed = PlaybackReport(status="PLAY", time=1500.0).apply(paused)
    assert resumed
    assert resumed.position_at(1501.0) == 31.0


def test_a_status_alone_leaves_the_time_unknown() -> None:
    paused = apply(status="PAUS")
    assert (paused.position, paused.time) == (10.0, None)
    assert apply(status="PLAY") == VIDEO


def test_the_speed_stays_until_another_is_told_and_with_another_video_is_normal() -> None:
    fast = apply(speed=1.5)
    again = PlaybackReport(position=3.0).apply(fast)
    other = PlaybackReport(url="https://b").apply(fast)
    assert again
    assert other
    assert (fast.speed, again.speed, other.speed) == (1.5, 1.5, 1.0)


def test_so_does_the_duration() -> None:
    known = apply(duration=60.0)
    again = PlaybackReport(position=3.0).apply(known)
    other = PlaybackReport(url="https://b").apply(known)
    assert again
    assert other
    assert (known.duration, again.duration, other.duration) == (60.0, 60.0, None)


@pytest.mark.parametrize(
    ("report", "same"),
    [
        ({"instance_id": "i"}, True),
        ({"url": "https://a"}, True),
        ({"instance_id": "i", "url": "https://b"}, False),
        ({"instance_id": "j", "url": "https://a"}, False),
        ({"instance_id": "j"}, False),
        ({"video_url": "https://stream"}, True),
        ({"video_url": "https://other"}, False),
        # A stream's address may change while it runs.
        ({"video_url": "https://other", "instance_id": "i"}, True),
    ],
)
def test_when_a_report_is_about_the_same_playing(report: dict[str, str], same: bool) -> None:
    before = Playback(url="https://a", video_url="https://stream", instance_id="i", started=True)
    after = PlaybackReport(**report).apply(before)  # type: ignore[arg-type]
    assert after
    assert (before.same_playing(after), after.started) == (same, same)


texts = st.sampled_from(["", "a", "b"])
reports = st.builds(
    PlaybackReport,
    no_video=st.booleans(),
    url=texts,
    video_url=texts,
    instance_id=texts,
    status=st.sampled_from(["", "PLAY", "WAIT", "VOTE"]),
)


@pytest.mark.slow
@given(st.lists(reports))
def test_each_report_is_told_from_the_one_before_as_it_was_applied(history: list[PlaybackReport]) -> None:
    """Whether it is the same video can be seen afterwards by the two values alone."""
    before: Playback | None = None
    for report in history:
        after = report.apply(before)
        if before and after and before.same_playing(after):
            assert after.started or not before.started
            assert after.url == (before.url or after.url)
            assert after.instance_id == (before.instance_id or after.instance_id)
        elif after and before:
            assert (after.url, after.instance_id) == (report.url, report.instance_id)
        before = after
