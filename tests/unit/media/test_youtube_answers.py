from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.media import youtube_answers as answers
from tests.unit import fake_youtube as youtube

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def test_titles_of_a_search_are_unescaped_and_ids_are_told_once() -> None:
    hits = answers.search_hits({"items": [youtube.hit(), youtube.hit(), youtube.hit(youtube.OTHER, "b")]})
    assert [(hit.id, hit.title, hit.author) for hit in hits] == [
        (youtube.ID, "Never & ever 'gonna'", "Rick & Co"),
        (youtube.OTHER, "b", "Rick & Co"),
    ]
    assert hits[0].url == f"https://www.youtube.com/watch?v={youtube.ID}"
    assert hits[0].thumbnail == "https://i.ytimg.com/vi/x/mqdefault.jpg"


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {},
        {"id": youtube.ID},
        youtube.hit(None),
        youtube.hit(7),
        youtube.hit("../../etc"),
        {"id": {"kind": "youtube#channel", "channelId": "UC1"}, "snippet": {}},
    ],
)
def test_an_entry_that_makes_no_sense_is_left_out(entry: object) -> None:
    assert [hit.id for hit in answers.search_hits({"items": [entry, youtube.hit()]})] == [youtube.ID]


@pytest.mark.parametrize("entries", [[7], [{}, youtube.hit(7)], [[youtube.hit()]], [youtube.hit("../../etc")]])
def test_entries_of_which_none_makes_sense_are_bad_data_and_none_at_all_is_no_video(entries: list[object]) -> None:
    for read in answers.search_hits, answers.details:
        assert not read({"items": []})
        with pytest.raises(RaveError, match="makes no sense") as e:
            read({"items": entries})
        assert e.value.code is Code.BAD_DATA


def test_a_title_is_one_line_of_bounded_length_and_a_wrong_picture_none() -> None:
    (hit,) = answers.search_hits({"items": [youtube.hit(title="a\n\x1b[2J" + "x" * 5000, picture="http://a/b.jpg")]})
    assert hit.title.startswith("a??[2Jx")
    assert len(hit.title) == 200
    assert hit.thumbnail == ""


def test_details_of_a_video() -> None:
    live = youtube.entry(youtube.OTHER, liveBroadcastContent="live")
    live |= {"contentDetails": {"duration": "P0D", "contentRating": {"ytRating": "ytAgeRestricted"}}}
    live |= {"statistics": {}, "status": {"embeddable": False}}
    found = answers.details({"items": [youtube.entry(), live]})
    video, embeddable = found[youtube.ID]
    assert (video.seconds, video.live, video.mature, video.views) == (213.0, False, False, 1_700_000_000)
    assert video.title == "Never & ever"
    assert embeddable
    other = found[youtube.OTHER]
    assert (other.video.seconds, other.video.live, other.video.mature, other.video.views) == (None, True, True, 0)
    assert not other.embeddable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT4M13S", 253.0),
        ("PT1H", 3600.0),
        ("PT15S", 15.0),
        ("P1DT2H", 93_600.0),
        ("P1W", 604_800.0),
        ("P0D", None),
        ("PT0S", None),
        ("", None),
        ("P", None),
        ("4:13", None),
        ("PT-4M", None),
        ("PT٣M", None),
        ("PT" + "9" * 5000 + "S", None),
        (253, None),
        (None, None),
    ],
)
def test_a_duration(text: object, seconds: float | None) -> None:
    assert answers.duration(text) == seconds


@pytest.mark.parametrize("answer", [{}, {"items": None}, {"items": {}}, {"items": "x"}])
def test_a_list_that_is_none_is_bad_data(answer: dict[str, Any]) -> None:
    for read in answers.search_hits, answers.details:
        with pytest.raises(RaveError, match="makes no sense") as e:
            read(answer)
        assert e.value.code is Code.BAD_DATA


@pytest.mark.slow
@given(JSON, JSON)
def test_no_answer_raises_anything_but_bad_data(first: Any, second: Any) -> None:
    answer = {"items": [{"id": first, "snippet": second, "contentDetails": second, "statistics": first}]}
    with contextlib.suppress(RaveError):
        assert isinstance(answers.details(answer), dict)
    assert isinstance(answers.search_hits({"items": [{"id": {"videoId": youtube.ID}, "snippet": first}]}), list)
    assert isinstance(
        answers.refusal(403, {"error": first if isinstance(first, dict) else {"errors": second}}), RaveError
    )
    source = {"title": first, "author_name": second, "thumbnail_url": first}
    with contextlib.suppress(RaveError):
        assert answers.embedded(source, youtube.ID).title


def test_a_video_by_its_link() -> None:
    video = answers.embedded(
        {"title": "T", "author_name": "A", "thumbnail_url": "https://i.ytimg.com/x.jpg"}, youtube.ID
    )
    assert (video.title, video.author, video.seconds) == ("T", "A", None)
    assert video.thumbnail == "https://i.ytimg.com/x.jpg"


@pytest.mark.parametrize(
    ("status", "reason", "code", "words"),
    [
        (403, "quotaExceeded", Code.RATE_LIMITED, "used up"),
        (403, "dailyLimitExceeded", Code.RATE_LIMITED, "used up"),
        (403, "rateLimitExceeded", Code.RATE_LIMITED, "fewer requests"),
        (429, "", Code.RATE_LIMITED, "fewer requests"),
        (403, "accessNotConfigured", Code.CONFIG, "operator's key"),
        (400, "keyInvalid", Code.CONFIG, "operator's key"),
        (400, "badRequest", Code.CONFIG, "operator's key"),
        (400, "invalidParameter", Code.SERVER_ERROR, "HTTP 400"),
        (500, "backendError", Code.SERVER_ERROR, "HTTP 500"),
        (302, "", Code.SERVER_ERROR, "HTTP 302"),
    ],
)
def test_refusals_of_the_data_api(status: int, reason: str, code: Code, words: str) -> None:
    error = answers.refusal(status, youtube.refused(status, reason).body)
    assert (error.code, words in error.message) == (code, True)
    assert youtube.KEY not in str(error)
    assert bool(error.attributes.get("used_up")) == (words == "used up")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, Code.FORBIDDEN),
        (403, Code.FORBIDDEN),
        (404, Code.NOT_FOUND),
        (400, Code.NOT_FOUND),
        (503, Code.SERVER_ERROR),
    ],
)
def test_refusals_of_a_link(status: int, code: Code) -> None:
    assert answers.link_refusal(status).code is code
