"""The file of the video helper's cache, as a failing disk or another program leaves it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.media.cache import DAY_S, Cache

_NOW_S = 1_764_414_000.0
_VIDEO = Video(provider="youtube", id="dQw4w9WgXcQ", url="https://www.youtube.com/watch?v=dQw4w9WgXcQ")


def check(data: bytes) -> None:
    """Whatever is in it, the helper gets videos or none, can go on with it, and a quota is a number."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "videos.db")
        path.write_bytes(data)
        with contextlib.closing(Cache(path, lambda: _NOW_S)) as cache:
            found = cache.search("a film", DAY_S) or []
            assert all(isinstance(video, Video) for video in found)
            known = cache.video(*_VIDEO.key, DAY_S)
            assert cache.quota_used("youtube", "2026-11-29") >= 0
            cache.save_search("another film", [_VIDEO])
            # Damage may swallow what is kept: it may be lost.
            assert cache.search("another film", DAY_S) in ([_VIDEO], [], None)
    if not found and not known:
        raise RaveError(Code.BAD_DATA, "nothing in it")
