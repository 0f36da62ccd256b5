"""Friendships: the model, the calls over TLS as a client makes them, and the verbs."""

from __future__ import annotations

from typing import Any

import pytest

from ravesvc.errors import Code, RaveError
from ravesvc.simulator.cli import main
from ravesvc.simulator.friendships import MAX_FRIENDS, MAX_REQUESTS, Change, Friendships
from tests.unit.simulator_server import Served

ANN, BEA, CY = 1, 2, 3
ME = 0
REQUESTS = "/friendships/requests?state=pendingactionable"


def befriended(*pairs: tuple[int, int]) -> Friendships:
    friendships = Friendships()
    for user, other in pairs:
        friendships.request(user, other)
        friendships.accept(other, user)
    return friendships


# The model.


def test_a_request_waits_for_an_answer() -> None:
    friendships = Friendships()
    for _ in range(2):
        friendships.request(ANN, BEA)
    friendships.request(CY, BEA)
    assert (friendships.requests(BEA), friendships.requests(ANN)) == ([ANN, CY], [])
    assert (friendships.state(ANN, BEA), friendships.state(BEA, ANN)) == ("pending", "pendingactionable")
    friendships.accept(BEA, ANN)
    friendships.decline(BEA, CY)
    assert friendships.to_json() == {"friends": {"1": [BEA], "2": [ANN]}, "requests": {}}
    assert (friendships.state(ANN, BEA), friendships.state(CY, BEA)) == ("friends", "notfriends")
    friendships.request(ANN, BEA)
    assert friendships.requests(BEA) == []


def test_two_who_ask_each_other_are_friends() -> None:
    friendships = Friendships()
    friendships.request(ANN, BEA)
    friendships.request(BEA, ANN)
    assert friendships.to_json() == {"friends": {"1": [BEA], "2": [ANN]}, "requests": {}}


@pytest.mark.parametrize("user", [ANN, BEA])
def test_either_ends_a_friendship_and_others_stay(user: int) -> None:
    friendships = befriended((ANN, BEA), (CY, BEA))
    friendships.unfriend(user, ANN + BEA - user)
    assert [friendships.friends(one) for one in (ANN, BEA, CY)] == [[], [CY], [BEA]]


def test_whatever_there_is_can_be_ended() -> None:
    friendships = befriended((ANN, BEA))
    friendships.request(ANN, CY)
    friendships.end(BEA, ANN)
    friendships.end(ANN, CY)
    friendships.request(ANN, CY)
    friendships.end(CY, ANN)
    assert friendships.to_json() == {"friends": {}, "requests": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Friendships.accept, "this user has not asked for a friendship"),
        (Friendships.decline, "this user has not asked for a friendship"),
        (Friendships.withdraw, "this user was not asked for a friendship"),
        (Friendships.unfriend, "this user is no friend"),
        (Friendships.end, "this user is no friend"),
    ],
)
def test_what_is_not_there_is_not_changed(change: Change, words: str) -> None:
    with pytest.raises(RaveError, match=words) as raised:
        change(Friendships(), ANN, BEA)
    assert raised.value.code is Code.NOT_FOUND


def test_requests_are_bounded() -> None:
    friendships = Friendships()
    for user in range(10, 10 + MAX_REQUESTS):
        friendships.request(user, ANN)
    with pytest.raises(RaveError, match=f"{MAX_REQUESTS} requests wait for this user already") as raised:
        friendships.request(BEA, ANN)
    assert raised.value.code is Code.FORBIDDEN


@pytest.mark.parametrize(("user", "other"), [(ANN, BEA), (BEA, ANN)])
def test_friends_are_bounded_on_both_sides(user: int, other: int) -> None:
    friendships = befriended(*((ANN, friend) for friend in range(10, 10 + MAX_FRIENDS)))
    friendships.request(user, other)
    with pytest.raises(RaveError, match=f"a user has at most {MAX_FRIENDS} friends") as raised:
        friendships.accept(other, user)
    assert raised.value.code is Code.FORBIDDEN
    assert friendships.requests(other) == [user]


# The calls.


def user_id(served: Served, handle: str) -> int:
    """The id of a user, who is made if there is none."""
    (mesh,) = served.control.create()
    served.control.join(mesh, handle)
    return next(int(user["user_id"]) for user in served.control.mesh(mesh)["users"] if user["handle"] == handle)


def ids(served: Served, path: str) -> list[int]:
    status, answer = served.call("GET", path)
    assert status == 200
    return [user["id"] for user in answer["data"]]


def violations(served: Served) -> list[str]:
    return [violation["what"] for violation in served.control.violations()]


def test_the_bot_asks_and_a_user_accepts(served: Served) -> None:
    me, ann = served.session.user_id, user_id(served, "ann")
    assert ids(served, "/friendships") == []
    asked = {"fromUserId": me, "toUserId": ann, "state": "pending"}
    assert served.call("POST", "/friendships", {"id": ann}) == (200, {"data": asked})
    assert (ids(served, "/friendships"), ids(served, REQUESTS)) == ([], [])
    assert served.control.befriend("ann") == "friends"
    assert ids(served, "/friendships?limit=50") == [ann]
    assert served.call("DELETE", f"/friendships/unfriend?id={ann}") == (200, {"success": True})
    assert served.call("DELETE", f"/friendships/unfriend?id={ann}")[0] == 404
    assert ids(served, "/friendships") == []
    assert violations(served) == []


def test_the_bot_answers_users_who_ask(served: Served) -> None:
    me, ann, bea = served.session.user_id, user_id(served, "ann"), user_id(served, "bea")
    assert served.control.befriend("ann") == served.control.befriend("bea") == "pending"
    assert ids(served, REQUESTS) == [ann, bea]
    assert ids(served, f"{REQUESTS}&limit=1") == [ann]
    for user, state in ((ann, "friends"), (bea, "notfriends")):
        answered = {"fromUserId": me, "toUserId": user, "state": state}
        assert served.call("POST", "/friendships", {"id": user, "state": state}) == (200, {"data": answered})
        assert served.call("POST", "/friendships", {"id": user, "state": state})[0] == 404
    assert (ids(served, "/friendships"), ids(served, REQUESTS)) == ([ann], [])
    assert violations(served) == []


def test_the_bot_withdraws_a_request(served: Served) -> None:
    ann = user_id(served, "ann")
    served.call("POST", "/friendships", {"id": ann})
    assert served.call("DELETE", f"/friendships?id={ann}") == (200, {"success": True})
    error = {"error": {"code": 404, "message": "this user was not asked for a friendship"}}
    assert served.call("DELETE", f"/friendships?id={ann}") == (404, error)
    assert served.control.befriend("ann") == "pending"
    assert violations(served) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "/friendships/requests", None, "state is not pendingactionable"),
        ("POST", "/friendships", {"id": ME}, "a user can't be their own friend"),
        ("POST", "/friendships", {"id": ME, "state": "accepted"}, "state is neither friends nor notfriends"),
        ("POST", "/friendships", {}, "id must be an integer"),
        ("DELETE", "/friendships", None, "id must be an integer"),
        ("DELETE", "/friendships/unfriend?id=ann", None, "id must be an integer"),
    ],
)
def test_what_no_client_sends_is_a_mistake(
    served: Served, method: str, path: str, body: dict[str, Any] | None, words: str
) -> None:
    if body:
        body = body | {"id": served.session.user_id}  # in place of ME
    assert served.call(method, path, body)[0] == 400
    assert [what[: len(words)] for what in violations(served)] == [words]


def test_a_user_who_is_not_there_is_no_mistake(served: Served) -> None:
    assert served.call("POST", "/friendships", {"id": 5})[0] == 404
    assert served.call("DELETE", "/friendships?id=5")[0] == 404
    assert violations(served) == []


# The verbs.


def test_friendships_at_the_terminal(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    def cli(*arguments: str) -> tuple[int, str]:
        status, printed = main(["--control", str(served.control_socket), *arguments]), capsys.readouterr()
        return status, printed.out + printed.err

    me, ann, bea = served.session.user_id, user_id(served, "ann"), user_id(served, "bea")
    assert cli("befriend", "ann", "--other", "bea") == (0, "pending\n")
    assert cli("befriend", "bea", "--other", "ann") == (0, "friends\n")
    assert cli("befriend", "ann") == (0, "pending\n")
    friends = {str(ann): [bea], str(bea): [ann]}
    assert served.control.state()["friendships"] == {"friends": friends, "requests": {str(me): [ann]}}
    assert cli("unfriend", "ann") == cli("unfriend", "ann", "--other", "bea") == (0, "")
    assert cli("unfriend", "ann") == (1, "rave-simulator: this user is no friend\n")
    assert cli("befriend", "ann", "--other", "ann") == (1, "rave-simulator: a user can't be their own friend\n")
    states = [event["state"] for event in served.control.events() if event["type"] == "friendship"]
    assert states == ["pending", "friends", "pending", "notfriends", "notfriends"]
