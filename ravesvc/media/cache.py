"""What providers have answered, and how much of a day's quota is used: an SQLite file that may be lost.

The provider's terms allow to keep its answers for 30 days. The file outlives the helper, which ends when it is idle.
If the file fails, the process uses a cache in memory instead: a lost cache must not cause an error in a chat.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ravesvc.common import json_fields
from ravesvc.common.text import printable
from ravesvc.common.video import Video
from ravesvc.errors import RaveError

_log = logging.getLogger(__name__)

# UnicodeDecodeError: SQLite's error messages quote the definition of a damaged table.
_BROKEN = (sqlite3.Error, UnicodeDecodeError)
_MAX_REASON_CHARS = 200

DAY_S = 86_400.0
MAX_AGE_S = 30 * DAY_S
# Rows; a video takes some 400 bytes.
_MAX_SEARCHES = 5_000
_MAX_VIDEOS = 20_000
# Writes between two prunings.
_WRITES_PER_PRUNE = 200

_SCHEMA = """
CREATE TABLE IF NOT EXISTS search (words TEXT PRIMARY KEY, at REAL NOT NULL, ids TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS video (id TEXT PRIMARY KEY, at REAL NOT NULL, video TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (what TEXT PRIMARY KEY, date TEXT NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS search_at ON search (at);
CREATE INDEX IF NOT EXISTS video_at ON video (at);
"""


class Cache:
    """`path` is None for one in memory. Blocks as long as the disk does, for single rows."""

    def __init__(self, path: Path | None, wall: Callable[[], float] = time.time) -> None:
        """`wall` returns the time in seconds since the epoch."""
        self._wall = wall
        self._writes = 0
        self._database = _memory() if path is None else _opened(path)
        self._prune()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def search(self, words: str, max_age: float) -> list[Video] | None:
        """What a search has found that is at most `max_age` seconds old; None if there was none."""
        rows = self._run("SELECT ids FROM search WHERE words = ? AND at BETWEEN ? AND ?", words, *self._span(max_age))
        if not rows:
            return None
        ids = _decoded(rows[0][0]).get("ids")
        found = [self._stored(key, MAX_AGE_S) for key in ids if isinstance(key, str)] if isinstance(ids, list) else []
        return [video for video in found if video]

    def save_search(self, words: str, videos: Iterable[Video]) -> None:
        """Store what a search has found."""
        found = list(videos)
        self.save_videos(found)
        ids = json.dumps({"ids": [_key(*video.key) for video in found]})
        self._write("INSERT OR REPLACE INTO search VALUES (?, ?, ?)", words, self._wall(), ids)

    def video(self, provider: str, video_id: str, max_age: float) -> Video | None:
        """A video that was looked up or found at most `max_age` seconds ago."""
        return self._stored(_key(provider, video_id), max_age)

    def save_videos(self, videos: Iterable[Video]) -> None:
        """Store videos."""
        for video in videos:
            content = json.dumps(video.to_object())
            self._write("INSERT OR REPLACE INTO video VALUES (?, ?, ?)", _key(*video.key), self._wall(), content)

    def quota_used(self, what: str, date: str) -> int:
        """How much of a quota is used on a date."""
        rows = self._run("SELECT count FROM used WHERE what = ? AND date = ?", what, date)
        return max(0, json_fields.as_int(rows[0][0]) or 0) if rows else 0

    def set_quota_used(self, what: str, date: str, count: int) -> None:
        """Store how much of a quota is used; replaces what was stored for an earlier date."""
        self._run("INSERT OR REPLACE INTO used VALUES (?, ?, ?)", what, date, count)

    def _stored(self, key: str, max_age: float) -> Video | None:
        rows = self._run("SELECT video FROM video WHERE id = ? AND at BETWEEN ? AND ?", key, *self._span(max_age))
        with contextlib.suppress(RaveError):
            return Video.from_object(_decoded(rows[0][0])) if rows else None
        return None

    def _span(self, max_age: float) -> tuple[float, float]:
        # A row from the future counts as old: the clock was ahead when it was written.
        now = self._wall()
        return now - min(max_age, MAX_AGE_S), now + 60

    def _write(self, statement: str, *values: Any) -> None:
        self._run(statement, *values)
        self._writes += 1
        if self._writes % _WRITES_PER_PRUNE == 0:
            self._prune()

    def _prune(self) -> None:
        """Delete rows that are too old, and the oldest rows of a table that has too many."""
        for table, most in ("search", _MAX_SEARCHES), ("video", _MAX_VIDEOS):
            self._run(f"DELETE FROM {table} WHERE at NOT BETWEEN ? AND ?", *self._span(MAX_AGE_S))  # noqa: S608 - ours
            excess = f"SELECT at FROM {table} ORDER BY at DESC LIMIT 1 OFFSET ?"  # noqa: S608 - ours
            self._run(f"DELETE FROM {table} WHERE at <= ({excess})", most)  # noqa: S608 - ours

    def _run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._execute(statement, values)
        except _BROKEN as e:
            reason = printable(str(e), _MAX_REASON_CHARS)
            _log.warning("The cache of videos can't be used any more (%s): memory takes its place", reason)
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = _memory()
            return self._execute(statement, values)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._database:
            return self._database.execute(statement, values).fetchall()


def _opened(path: Path) -> sqlite3.Connection:
    """The file's database; an empty one for a file that is none, one in memory if the disk fails."""
    try:
        return _connected(path)
    except _BROKEN as e:
        _log.warning("The cache of videos at %s is begun anew: %s", path, printable(str(e), _MAX_REASON_CHARS))
    with contextlib.suppress(OSError, *_BROKEN):
        for each in path, *(path.with_name(path.name + end) for end in ("-wal", "-shm")):
            each.unlink(missing_ok=True)
        return _connected(path)
    return _memory()


def _connected(path: Path) -> sqlite3.Connection:
    # No other process has it open: a wait for a lock would hold up the event loop in vain.
    database = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        # A crash of the process loses nothing, one of the machine the last rows.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except _BROKEN:
        database.close()
        raise
    return database


def _memory() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.executescript(_SCHEMA)
    return database


def _decoded(text: object) -> json_fields.Object:
    try:
        return json_fields.parse_object(text if isinstance(text, str) else "", "a cached answer")
    except RaveError:
        return {}


def _key(provider: str, video_id: str) -> str:
    return f"{provider}/{video_id}"
