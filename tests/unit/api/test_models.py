from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.api import models
from ravesvc.api.models import Mesh, User
from ravesvc.errors import Code, RaveError

MESH = "11111111-2222-4333-8444-555555555555"
OTHER = "22222222-2222-4333-8444-555555555555"

_KEYS = ["id", "mediaUrl", "bio", "profile", "name", "handle", "country", "displayName"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "mesh", "users", "next"]), inner),
    max_leaves=8,
)


def entry(mesh: Any, users: Any = None) -> dict[str, Any]:
    return {"mesh": mesh, "users": users}


def test_a_page() -> None:
    answer = {
        "data": [
            entry(
                {"id": MESH, "server": "s1.example.test", "videoTitle": "A film"}, [{"id": 1, "displayName": "Ann"}]
            ),
            entry({"id": OTHER}),
        ],
        "paging": {"next": "https://stranger.example.test/meshes/self?lang=en&cursor=a%2Fb"},
    }
    meshes, cursor = models.page(answer, invited=True)
    assert meshes == [
        Mesh(MESH, "s1.example.test", "A film", True, (1,)),
        Mesh(OTHER, None, "", True, ()),
    ]
    assert cursor == "a/b"


@pytest.mark.parametrize("paging", [None, {}, {"next": None}, {"next": ""}])
def test_the_last_page(paging: Any) -> None:
    assert models.page({"data": [], "paging": paging}, invited=False) == ([], None)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        1,
        {},
        entry(None),
        entry({}),
        entry({"id": 5}),
        entry({"id": "../leave"}),
        entry({"id": MESH.upper()[:-1]}),
    ],
)
def test_an_entry_without_a_mesh_id_is_left_out(odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    meshes, _ = models.page({"data": [odd, entry({"id": MESH})]}, invited=False)
    assert [mesh.id for mesh in meshes] == [MESH]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("odd", [5, [], {"a": 1}, True])
def test_an_odd_value_does_not_hide_a_mesh(odd: Any) -> None:
    meshes, _ = models.page({"data": [entry({"id": MESH, "server": odd, "videoTitle": odd}, odd)]}, invited=False)
    assert meshes == [Mesh(MESH, None, "", False, ())]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": [], "paging": []},
        {"data": [], "paging": {"next": 5}},
        {"data": [], "paging": {"next": "https://api.example.test/meshes/self?lang=en"}},
        {"data": [], "paging": {"next": "https://[bad/meshes/self?cursor=1"}},
    ],
)
def test_a_page_that_is_none(answer: Any) -> None:
    with pytest.raises(RaveError) as caught:
        models.page(answer, invited=False)
    assert caught.value.code is Code.BAD_DATA


def test_one_mesh() -> None:
    answer = {"data": {"id": MESH, "server": "s1.example.test", "users": [{"id": "7"}, 8]}}
    assert models.mesh(answer) == Mesh(MESH, "s1.example.test", "", False, (7, 8))


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": {}}, {"data": {"id": "x"}}])
def test_one_mesh_that_is_none(answer: Any) -> None:
    with pytest.raises(RaveError) as caught:
        models.mesh(answer)
    assert caught.value.code is Code.BAD_DATA


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"displayName": "Ann", "name": "n", "handle": "h"}, "Ann"),
        ({"displayName": " ", "name": "n", "handle": "h"}, "n"),
        ({"displayName": 5, "handle": "h"}, "h"),
        ({}, "User 3"),
        ({"displayName": "a\ud800b\0\033[1m\nc"}, "a?b??[1m?c"),
        ({"displayName": "x" * 301}, "x" * 300),
    ],
)
def test_the_name_that_others_see(source: Any, name: str) -> None:
    assert models.users({"data": [source | {"id": 3}]}) == {3: User(3, name)}


def test_users_without_a_positive_id_are_left_out() -> None:
    assert models.users({"data": [None, True, "x", -1, 0, {"id": "y"}, {}, []]}) == {}


@pytest.mark.parametrize(
    ("said", "originator"), [(7, 7), (None, None), (0, None), (-7, None), (True, None), ("x", None)]
)
def test_who_has_made_a_mesh(said: Any, originator: int | None) -> None:
    assert models.mesh({"data": {"id": MESH, "originator": said}}).originator == originator


def test_a_page_or_a_mesh_of_far_too_many_is_refused() -> None:
    with pytest.raises(RaveError, match="a page of 251 meshes, where 250 are the limit"):
        models.page({"data": [{}] * 251}, invited=False)
    users = [1] * 6_251
    with pytest.raises(RaveError, match="an answer with 12502 users, where 12500 are the limit"):
        models.page({"data": [entry({"id": MESH}, users), entry({"id": OTHER}, users)]}, invited=False)
    with pytest.raises(RaveError, match="an answer with 12502 users"):
        models.mesh({"data": {"id": MESH, "users": users * 2}})


@pytest.mark.parametrize("answer", [{"data": {"id": 5}}, {"data": {"id": "5"}}, {"id": 5}, {"data": None, "id": 5}])
def test_the_id_of_an_account(answer: Any) -> None:
    assert models.account_id(answer) == 5


@pytest.mark.parametrize(
    "answer", [{}, {"data": {}}, {"data": []}, {"data": {"id": 0}}, {"data": {"id": -5}}, {"data": {"id": True}}]
)
def test_an_account_without_an_id(answer: Any) -> None:
    with pytest.raises(RaveError) as caught:
        models.account_id(answer)
    assert caught.value.code is Code.BAD_DATA


@pytest.mark.slow
@given(json_values, json_values)
def test_any_answer_is_typed_or_bad_data(data: Any, paging: Any) -> None:
    for read in (lambda a: models.page(a, invited=False), models.mesh, models.users, models.account_id):
        code = Code.BAD_DATA
        try:
            read({"data": data, "paging": paging})
        except RaveError as e:
            code = e.code
        assert code is Code.BAD_DATA


answers = st.dictionaries(
    st.just("data"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["https://a.example:1/x", "x" * 70]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(_KEYS), inner),
        max_leaves=8,
    ),
)


@pytest.mark.slow
@given(answers)
def test_any_answer_about_a_video_or_a_user_is_read_or_refused(answer: dict[str, Any]) -> None:
    for read in (models.video_id, models.video_base, models.profile):
        try:
            found = read(answer)
        except RaveError as error:
            refusal = error.code
        else:
            texts = [found] if isinstance(found, str) else found or ()
            assert all(len(text) <= 300 and text.isprintable() for text in texts)
            continue
        assert refusal is Code.BAD_DATA
