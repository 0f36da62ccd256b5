"""A video: what is read as one, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common.video import MAX_TITLE_CHARS, Video
from ravesvc.errors import Code, RaveError

PLAIN = {"provider": "youtube", "id": "abcdefghijk", "url": "https://www.youtube.com/watch?v=abcdefghijk"}


def test_least() -> None:
    video = Video.from_object(PLAIN)
    assert video == Video(**PLAIN)
    assert video.key == ("youtube", "abcdefghijk")


def test_there_and_back() -> None:
    video = Video(
        **PLAIN,
        title="A film",
        author="Ann",
        seconds=212.5,
        live=True,
        mature=True,
        thumbnail="https://img.example/1.jpg",
        views=3,
    )
    assert Video.from_object(json.loads(json.dumps(video.to_object()))) == video


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "You Tube"},
        {"provider": None},
        {"id": ""},
        {"id": "../etc"},
        {"id": "a" * 65},
        {"url": "http://www.youtube.com/"},
        {"url": "https://" + "a" * 2000},
        {"url": "https://exämple/"},
        {"url": "https://a b\n"},
        {"thumbnail": "file:///etc/passwd"},
        {"seconds": "long"},
        {"live": "no"},
        {"views": 1.5},
    ],
)
def test_none(change: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as e:
        Video.from_object({**PLAIN, **change})
    assert e.value.code is Code.BAD_DATA


def test_what_is_unlikely_is_unknown() -> None:
    video = Video.from_object({**PLAIN, "seconds": 1e9, "views": -3, "title": "a\nb" + "x" * 500, "author": 7})
    assert (video.seconds, video.views, video.author) == (None, 0, "")
    assert video.title.startswith("a?b")
    assert len(video.title) == MAX_TITLE_CHARS
    assert Video.from_object({**PLAIN, "seconds": 0}).seconds is None


@given(st.dictionaries(st.sampled_from([*Video.__dataclass_fields__, "x"]), st.none() | st.text() | st.floats()))
def test_what_is_read_is_read_again_as_the_same(change: dict[str, Any]) -> None:
    with contextlib.suppress(RaveError):
        video = Video.from_object({**PLAIN, **change})
        assert Video.from_object(video.to_object()) == video
