from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.errors import RaveError
from ravesvc.store import room_document
from ravesvc.store.forget import names_user, without_user

ANN, BOB = 900000001, 900000002

VALUES = [
    ([], [], 0),
    ([ANN, BOB, ANN], [BOB], 2),
    ([str(ANN), float(ANN), f"{ANN}_0123abcd", f"kicked by {ANN}!"], [], 4),
    ([ANN * 10 + 1, f"1{ANN}", f"{ANN}1", True, None], [ANN * 10 + 1, f"1{ANN}", f"{ANN}1", True, None], 0),
    ([{"user": ANN, "title": "one"}, {"user": BOB, "title": "two"}], [{"user": BOB, "title": "two"}], 1),
    ([{"video": {"id": "x"}, "skips": [ANN, BOB]}], [{"video": {"id": "x"}, "skips": [BOB]}], 1),
    ([{"video": {"by": ANN}, "user": BOB}], [{"user": BOB}], 1),
    ({"prefix": "?", "set_by": ANN}, {"prefix": "?"}, 1),
    ({"limits": {str(ANN): 3, str(BOB): 4}}, {"limits": {str(BOB): 4}}, 1),
    ({"current": {"user": ANN}, "entries": [[{"user": ANN}]]}, {"entries": [[]]}, 2),
]


@pytest.mark.parametrize(("before", "after", "removed"), VALUES)
def test_what_names_the_user_goes_and_all_else_stays(before: Any, after: Any, removed: int) -> None:
    unchanged = json.dumps(before)
    assert without_user(before, ANN) == (after, removed)
    assert json.dumps(before) == unchanged, "it is not changed in place"


def test_a_truth_value_is_no_id() -> None:
    assert without_user([True, 1, {"on": True}], 1) == ([True, {"on": True}], 1)


def test_a_name_may_name_a_user_as_well() -> None:
    assert names_user(f"of-{ANN}", ANN)
    assert not names_user(f"of-{ANN}0", ANN)


USERS = st.sampled_from([ANN, BOB, float(ANN), str(ANN), f"{ANN}_device", f"<@{ANN}> was here"])
SCALARS = USERS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.just(str(ANN)), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(st.lists(JSON, max_size=5) | st.dictionaries(st.text(max_size=3) | st.just(str(ANN)), JSON, max_size=5))
def test_the_id_is_nowhere_afterwards(value: Any) -> None:
    try:
        value = room_document.parse(json.dumps(value))
    except RaveError:
        return
    after, removed = without_user(value, ANN)
    assert not names_user(json.dumps(after), ANN)
    assert without_user(after, ANN) == (after, 0)
    if not names_user(json.dumps(value), ANN):
        assert (after, removed) == (value, 0)


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
