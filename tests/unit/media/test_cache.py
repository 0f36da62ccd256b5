from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ravesvc.common.video import Video
from ravesvc.media import cache as module
from ravesvc.media import quota
from ravesvc.media.cache import DAY_S, Cache


class Wall:
    now = 1_796_040_000.0

    def __call__(self) -> float:
        return self.now


def video(number: int) -> Video:
    return Video(provider="youtube", id=f"{number:011d}", url=f"https://www.youtube.com/watch?v={number:011d}")


def test_what_is_older_than_a_month_is_deleted(tmp_path: Path) -> None:
    wall = Wall()
    cache = Cache(tmp_path / "c.db", wall)
    cache.save_search("a", [video(1)])
    wall.now += 29 * DAY_S
    cache.save_search("b", [video(2)])
    cache.close()
    wall.now += 2 * DAY_S
    Cache(tmp_path / "c.db", wall).close()
    database = sqlite3.connect(tmp_path / "c.db")
    assert database.execute("SELECT words FROM search").fetchall() == [("b",)]
    assert database.execute("SELECT id FROM video").fetchall() == [("youtube/00000000002",)]
    database.close()


def test_the_oldest_go_when_there_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_VIDEOS", 10)
    monkeypatch.setattr(module, "_WRITES_PER_PRUNE", 5)
    wall = Wall()
    cache = Cache(None, wall)
    for number in range(20):
        wall.now += 1
        cache.save_videos([video(number)])
    assert cache.video("youtube", video(9).id, DAY_S) is None
    assert cache.video("youtube", video(10).id, DAY_S) == video(10)
    cache.close()


def test_what_a_clock_that_was_ahead_has_written_is_old(tmp_path: Path) -> None:
    wall = Wall()
    cache = Cache(None, wall)
    wall.now += 400 * DAY_S
    cache.save_videos([video(1)])
    wall.now -= 400 * DAY_S
    assert cache.video("youtube", video(1).id, 1e12) is None
    cache.close()


def test_rows_that_make_no_sense_are_none(tmp_path: Path) -> None:
    wall = Wall()
    cache = Cache(tmp_path / "c.db", wall)
    cache.save_search("a", [video(1), video(2)])
    for row in "x", "{}", '{"provider": "../", "id": "x"}':
        cache._run("UPDATE video SET video = ? WHERE id LIKE '%1'", row)
        assert cache.search("a", DAY_S) == [video(2)]
    cache._run("UPDATE search SET ids = '[]'")
    assert cache.search("a", DAY_S) == []
    cache.close()


def test_a_disk_that_fails_is_replaced_by_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path / "c.db", Wall())
    cache._database.close()
    cache.set_quota_used("searches", "2026-11-29", 7)
    assert cache.quota_used("searches", "2026-11-29") == 7
    assert "memory takes its place" in caplog.text
    cache.close()


def test_a_quota_is_of_its_date() -> None:
    cache = Cache(None, Wall())
    cache.set_quota_used("searches", "2026-11-29", 7)
    assert cache.quota_used("searches", "2026-11-30") == 0
    assert cache.quota_used("others", "2026-11-29") == 0
    cache.close()


@pytest.mark.parametrize(
    ("now", "date", "ends"),
    [
        ("2026-11-29T07:59:59", "2026-11-28", "2026-11-29T08:00:00"),
        ("2026-11-29T08:00:00", "2026-11-29", "2026-11-30T08:00:00"),
        ("2026-07-01T06:59:59", "2026-06-30", "2026-07-01T07:00:00"),
        # The day on which summer time begins has 23 hours, that on which it ends 25.
        ("2026-03-08T08:00:00", "2026-03-08", "2026-03-09T07:00:00"),
        ("2026-11-01T07:00:00", "2026-11-01", "2026-11-02T08:00:00"),
    ],
)
def test_the_day_ends_at_midnight_pacific(now: str, date: str, ends: str) -> None:
    def at(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert quota.day(at(now)) == (date, at(ends))


def test_a_machine_without_tzdata_uses_standard_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise quota.ZoneInfoNotFoundError

    monkeypatch.setattr(quota, "ZoneInfo", missing)
    assert quota.day(1_796_040_000.0).ends % 86_400 == 8 * 3600


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "in a minute"), (61, "in a minute"), (600, "in 10 minutes"), (5400, "in 2 hours"), (72_000, "in 20 hours")],
)
def test_a_wait_in_words(seconds: float, words: str) -> None:
    assert quota.wait_words(seconds) == words
