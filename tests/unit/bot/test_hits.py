from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot.hits import Hit, Hits
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError


def hit(number: int, message: str, name: str = "film", title: str = "A film") -> Hit:
    video = Video(provider="youtube", id=name, url=f"https://films.example/{name}", title=title)
    return Hit(video=video, number=number, message_ids=frozenset({message, f"server's {message}"}))


def test_numbers_are_those_of_the_last_search_and_messages_are_remembered_for_longer() -> None:
    hits = Hits().add([hit(1, "a", "one"), hit(2, "b", "two"), hit(3, "c", "three")]).add([hit(1, "d", "four")])
    first = hits.by_number(1)
    assert first
    assert first.id == "four"
    assert hits.by_number(2) is None
    second = hits.by_message(["nothing", "server's b"])
    assert second
    assert second.id == "two"
    assert hits.by_message([]) is None
    assert hits.by_message(["x"]) is None
    assert Hits().by_number(1) is None
    assert Hits.from_json(hits.to_json()) == hits


def test_the_oldest_give_way_by_number_and_by_size() -> None:
    hits = Hits()
    for number in range(40):
        hits = hits.add([hit(1, f"m{number}")])
    assert len(hits.all) == 30
    assert hits.by_message(["m9"]) is None
    for number in range(40):
        hits = hits.add([hit(1, f"n{number}", title="ö" * 2000)])
    assert 5 < len(hits.all) < 30
    assert len(hits.to_json().encode()) <= 32 * 1024
    assert hits.by_message(["n39"])


def test_what_is_damaged_is_left_out() -> None:
    document = json.loads(Hits().add([hit(1, "a"), hit(2, "b"), hit(3, "c")]).to_json())
    document["hits"][0]["video"]["id"] = "no id"
    document["hits"][1]["message_ids"] = [7, "b", "", "x" * 200]
    document["hits"].append("nothing")
    hits = Hits.from_json(json.dumps(document))
    assert [each.number for each in hits.all] == [2, 3]
    assert hits.all[0].message_ids == {"b"}


@pytest.mark.slow
@given(st.lists(st.integers() | st.dictionaries(st.text(), st.integers())) | st.text())
def test_hits_that_are_none_are_left_out(entries: object) -> None:
    assert Hits.from_json(json.dumps({"hits": entries})) == Hits()


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_what_is_no_document_is_said_to_be_none(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        Hits.from_json(text)
    assert caught.value.code is Code.BAD_DATA
