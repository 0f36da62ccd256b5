from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.common.forget import mentions, without_users
from ravesvc.errors import RaveError
from ravesvc.store import room_document

ANN, BOB = 900000001, 900000002

VALUES = [
    ([], [], 0),
    ({"users": [ANN, BOB, ANN]}, {"users": [BOB]}, 2),
    ({"users": [str(ANN), float(ANN), f"{ANN}_0123abcd", f"000{ANN}"]}, {"users": []}, 4),
    ({"users": [ANN * 10 + 1, f"1{ANN}", f"{ANN}1", True]}, {"users": [ANN * 10 + 1, f"1{ANN}", f"{ANN}1", True]}, 0),
    ([{"user": ANN, "title": "one"}, {"user": BOB, "title": "two"}], [{"user": BOB, "title": "two"}], 1),
    ([{"video": {"id": "x"}, "served": [ANN, BOB]}], [{"video": {"id": "x"}, "served": [BOB]}], 1),
    ([{"video": {"by": ANN}, "user": BOB}], [{"user": BOB}], 1),
    ({"prefix": "?", "set_by": ANN}, {"prefix": "?"}, 1),
    ({"users": {str(ANN): 3, str(BOB): 4}}, {"users": {str(BOB): 4}}, 1),
    ({"asked_by": {"user": ANN, "name": "Ann"}}, {}, 1),
    ({"users": [[ANN], {"actor": ANN}, [BOB]]}, {"users": [[], [BOB]]}, 2),
    ({"current": {"user": ANN}, "entries": [[{"user": ANN}]]}, {"entries": [[]]}, 2),
]


@pytest.mark.parametrize(("before", "after", "removed"), VALUES)
def test_what_names_the_user_goes_and_all_else_stays(before: Any, after: Any, removed: int) -> None:
    unchanged = json.dumps(before)
    assert without_users(before, {ANN}) == (after, removed)
    assert json.dumps(before) == unchanged, "it is not changed in place"


def test_several_users_go_at_once() -> None:
    assert without_users({"users": [ANN, 3, BOB]}, {ANN, BOB}) == ({"users": [3]}, 2)


def test_a_truth_value_is_no_id() -> None:
    before = {"users": [True, 1, {"by": True}]}
    assert without_users(before, {1}) == ({"users": [True, {"by": True}]}, 1)


@pytest.mark.parametrize("user", [1, 2, 5, 7, 2024, 1_700_000_000])
def test_numbers_and_free_texts_that_are_equal_to_an_id_are_none(user: int) -> None:
    video = {"id": "5", "url": "https://x/5", "title": "5 of 7", "author": "2024", "views": 2024, "seconds": 7}
    document = {
        "version": 1,
        "entries": [{"video": video, "user": 555, "asked_at": 1_700_000_000, "round": 2}],
        "round": 1,
        "settings": {"max_per_user": "5", "queue_limit": 2},
        "hits": [{"number": 1}, {"number": 2}],
        "log": [{"action": "kick", "user": 555, "actor": 556, "reason": "2", "time": 1_700_000_000}],
    }
    assert without_users(document, {user}) == (document, 0)


def test_a_number_of_its_own_is_mentioned() -> None:
    assert mentions(f"of-{ANN}", ANN)
    assert mentions(f'"000{ANN}"', ANN)
    assert not mentions(f"of-{ANN}0", ANN)


USERS = st.sampled_from([ANN, BOB, float(ANN), str(ANN), f"{ANN}_device"])
SCALARS = USERS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
KEYS = st.text(max_size=3) | st.sampled_from(["user", "users", "actor", "set_by", "served", "title", str(ANN)])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=30,
)


def named(value: Any, key: str = "") -> bool:
    """Whether a key that holds users names the user, spelled out anew."""
    holds = key in ("user", "users", "actor", "by", "served") or key.endswith("_by")
    if isinstance(value, list):
        return any(named(each, key) for each in value)
    if isinstance(value, dict):
        return any((holds and named(each, key)) or named(inner, each) for each, inner in value.items())
    return holds and type(value) is not bool and str(value).partition("_")[0].removesuffix(".0") == str(ANN)


@pytest.mark.slow
@given(st.lists(JSON, max_size=5) | st.dictionaries(KEYS, JSON, max_size=5))
def test_no_key_that_holds_users_names_the_user_afterwards(value: Any) -> None:
    try:
        value = room_document.parse(json.dumps(value))
    except RaveError:
        return
    after, removed = without_users(value, {ANN})
    assert not named(after)
    assert without_users(after, {ANN}) == (after, 0)
    assert (removed > 0) == named(value)
    if not removed:
        assert after == value


@pytest.mark.slow
@given(JSON)
def test_a_document_comes_back_as_it_is_spelled(value: Any) -> None:
    document = {"value": value}
    try:
        parsed = room_document.parse(json.dumps(document))
        text = room_document.to_text(parsed)
    except RaveError:
        return
    assert parsed == document
    assert room_document.to_text(room_document.parse(text)) == text
    assert room_document.size(text) == len(text.encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid"),
        ("{", "not valid"),
        ("[" * 100_000, "not valid"),
        ("1", "object or list"),
        ('"text"', "object or list"),
        ("null", "object or list"),
        ("[NaN]", "not valid"),
        ("[1e999]", "not valid"),
        ("[-Infinity]", "not valid"),
        ("[" * 17 + "]" * 17, "more than 16"),
        ('{"a":' * 17 + "[]" + "}" * 17, "more than 16"),
    ],
)
def test_what_is_no_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        room_document.parse(text)
    assert caught.value.__cause__ is None


def test_half_of_a_pair_is_no_text() -> None:
    with pytest.raises(RaveError, match="Unicode"):
        room_document.to_text(room_document.parse(r'["\ud800"]'))


def test_whole_numbers_have_one_spelling() -> None:
    text = "[900000001.0, 9.00000001e8, 0.5, 1e30, -0.0]"
    assert room_document.to_text(room_document.parse(text)) == "[900000001,900000001,0.5,1e+30,0]"


def test_a_document_may_be_as_deep_as_it_is_allowed() -> None:
    text = "[" * 16 + "]" * 16
    assert room_document.to_text(room_document.parse(text)) == text
