from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.errors import Code, RaveError
from ravesvc.room.state import Members, State, parse_state, user_id


def state(**inner: Any) -> State:
    return parse_state({"message": json.dumps(inner)})


def test_users_by_number_and_by_text() -> None:
    users = [{"user_id": 1}, {"user_id": "2"}, 3, "4", {"id": 5}, {"user_id": None, "id": "6"}]
    assert state(users=users, mesh_state={}).users == {1, 2, 3, 4, 5, 6}


def test_an_object_instead_of_a_text() -> None:
    assert parse_state({"message": {"users": [{"user_id": 1}], "mesh_state": {}}}).users == {1}


def test_users_count_only_together_with_mesh_state() -> None:
    assert state(users=[1]).users is None
    assert state(users=[1], mesh_state=None).users is None
    assert state(mesh_state={}).users is None
    assert state().users is None
    assert state(users=[], mesh_state={}).users == frozenset()


def test_kicks_in_every_form_and_without_users() -> None:
    assert state(kicks=[1, "2", {"id": 3}, {"user_id": "4"}, {"userId": 5}, "x", None, {}, [], True]).kicked == {
        1,
        2,
        3,
        4,
        5,
    }
    assert state(kicks=None).kicked == frozenset()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"message": None},
        {"message": 5},
        {"message": "{"},
        {"message": "[]"},
        {"message": "[" * 100_000},
    ],
)
def test_what_cannot_be_read_is_bad_data(data: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as caught:
        parse_state(data)
    assert caught.value.code is Code.BAD_DATA


@pytest.mark.parametrize("users", ["{}", "[{}]", '[1,{"user_id":"x"}]', "[0]", "[" + "9" * 4000 + "]", "5", '"x"'])
def test_users_that_cannot_be_read_say_nothing_and_hide_no_kick(users: str) -> None:
    read = parse_state({"message": f'{{"users":{users},"mesh_state":{{}},"kicks":[7]}}'})
    assert (read.users, read.kicked) == (None, frozenset({7}))


def test_kicks_that_cannot_be_read_hide_no_users() -> None:
    assert state(users=[1], mesh_state={}, kicks={}) == State(frozenset({1}), frozenset())


def test_a_user_id_is_positive_and_fits_64_bits() -> None:
    assert user_id(2**63 - 1) == 2**63 - 1
    assert user_id(2**63) is None
    assert user_id(-1) is None
    assert user_id(0) is None


def test_the_first_list_is_the_baseline() -> None:
    members = Members()
    assert members.users == frozenset()
    assert members.update(frozenset({1, 2})) == members.update(frozenset({1, 2}))
    change = members.update(frozenset({2, 3}))
    assert (change.joined, change.left) == ({3}, {1})
    assert members.users == {2, 3}


def test_an_asked_list_is_a_baseline_too() -> None:
    members = Members()
    members.baseline([1, 2])
    change = members.update(frozenset({2, 3}))
    assert (change.joined, change.left) == ({3}, {1})


def test_a_state_message_wins_over_a_later_asked_list() -> None:
    members = Members()
    members.update(frozenset({1}))
    members.baseline([2])
    assert members.users == {1}
    members.update(frozenset())
    members.baseline([2])
    assert members.users == frozenset()


users_lists = st.lists(st.frozensets(st.integers(1, 6)), min_size=1, max_size=8)


@settings(deadline=None)
@given(users_lists)
def test_joins_and_leaves_add_up(lists: list[frozenset[int]]) -> None:
    members, present = Members(), set(lists[0])
    for users in lists:
        change = members.update(users)
        assert not change.joined & present
        assert change.left <= present
        present = (present | change.joined) - change.left
        assert present == users
