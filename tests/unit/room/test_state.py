from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.api.models import Opinion
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlaybackReport, PlayMode
from ravesvc.room.state import StateMessage, parse_state, user_id
from ravesvc.room.tracker import RoomTracker
from ravesvc.room.votes import Vote

INSTANCE = "11111111-2222-4333-8444-555555555555"


def state(**inner: Any) -> StateMessage:
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
    kicks = [1, "2", {"id": 3}, {"user_id": "4"}, {"userId": 5}, "x", None, {}, [], True, 1]
    assert state(kicks=kicks).kicked == (1, 2, 3, 4, 5)
    assert state(kicks=[]).kicked == ()
    assert state(kicks=None).kicked is None
    assert state().kicked is None


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"message": None},
        {"message": 5},
        {"message": "{"},
        {"message": "[]"},
        {"message": "[" * 50_000},
    ],
)
def test_what_cannot_be_read_is_bad_data(data: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as caught:
        parse_state(data)
    assert caught.value.code is Code.BAD_DATA


@pytest.mark.parametrize("users", ["{}", "[{}]", '[1,{"user_id":"x"}]', "[0]", "[" + "9" * 600 + "]", "5", '"x"'])
def test_users_that_cannot_be_read_say_nothing_and_hide_no_kick(users: str) -> None:
    read = parse_state({"message": f'{{"users":{users},"mesh_state":{{}},"kicks":[7]}}'})
    assert (read.users, read.kicked) == (None, (7,))


def test_kicks_that_cannot_be_read_hide_no_users() -> None:
    read = state(users=[1], mesh_state={}, kicks={})
    assert (read.users, read.kicked) == (frozenset({1}), None)


def test_a_user_id_is_positive_and_fits_64_bits() -> None:
    assert user_id(2**63 - 1) == 2**63 - 1
    assert user_id(2**63) is None
    assert user_id(-1) is None
    assert user_id(0) is None


# The video


def playback(**mesh_state: Any) -> PlaybackReport | None:
    return state(mesh_state=mesh_state).playback


def test_all_that_is_told_of_a_video() -> None:
    found = playback(
        url="https://a",
        video_url="https://b",
        video_instance_id=INSTANCE,
        status="PLAY",
        server="YOUTUBE",
        position=12.5,
        time=1_700_000_000.25,
        playback_speed=1.5,
        duration=253,
    )
    assert found == PlaybackReport(
        url="https://a",
        video_url="https://b",
        instance_id=INSTANCE,
        status="PLAY",
        position=12.5,
        time=1_700_000_000.25,
        speed=1.5,
        duration=253.0,
    )


def test_without_mesh_state_nothing_is_told_of_a_video() -> None:
    assert state(users=[], url="https://a").playback is None
    assert state(mesh_state="x").playback is None


@pytest.mark.parametrize(
    "where",
    [
        {"mesh_state": {"url": "https://a", "videoInstanceId": INSTANCE}},
        {"mesh_state": {"url": "https://a", "INSTANCE": INSTANCE, "instance_number": 5}},
        {"mesh_state": {"url": "https://a"}, "playing_instance": INSTANCE},
        {"mesh_state": {"url": "https://a"}, "__metadata": {"instance": INSTANCE}},
    ],
)
def test_the_instance_is_found_under_other_names_and_in_other_places(where: dict[str, Any]) -> None:
    report = state(**where).playback
    assert report
    assert report.instance_id == INSTANCE


def test_an_instance_is_a_uuid_unless_its_name_is_the_right_one() -> None:
    def instance(**mesh_state: Any) -> str:
        report = playback(url="https://a", **mesh_state)
        assert report
        return report.instance_id

    assert instance(video_instance_id="seven") == "seven"
    assert instance(other_instance="seven") == ""
    assert instance(video_instance_id=7, other_instance=INSTANCE.upper()) == INSTANCE.upper()
    assert instance(video_instance_id="x" * 129) == ""
    assert instance(video_instance_id="a\nb") == ""


def test_what_is_called_instance_elsewhere_makes_no_video() -> None:
    report = state(mesh_state={"status": "WAIT"}, __metadata={"instance": INSTANCE}).playback
    assert report
    assert report.no_video


@pytest.mark.parametrize(
    ("mesh_state", "no_video"),
    [
        ({"status": "WAIT"}, True),
        ({"status": "vote"}, True),
        ({"url": None}, True),
        ({"url": "", "video_url": None, "status": "PLAY"}, True),
        ({"url": None, "video_url": "https://b"}, False),
        ({"video_url": None, "status": "PLAY"}, False),
        ({"video_instance_id": INSTANCE, "status": "WAIT"}, False),
        ({"status": "PLAY"}, False),
        ({"status": "PLAY", "play_mode": "VOTE"}, False),
        ({"status": "PAUS", "position": 3}, False),
        ({"status": "PAUS", "privacy_mode": "PUBLIC"}, True),
        ({"play_mode": "VOTE"}, False),
        ({"status": 5}, False),
        ({}, False),
    ],
)
def test_when_there_is_no_video(mesh_state: dict[str, Any], no_video: bool) -> None:
    report = playback(**mesh_state)
    assert report
    assert report.no_video is no_video


@pytest.mark.parametrize("url", [5, ["https://a"], {}, False, "x" * 2001, "https://a\n", "\ud800"])
def test_a_url_that_cannot_be_read_spoils_the_video_but_no_other_part(url: object) -> None:
    read = state(mesh_state={"url": url, "status": "WAIT", "play_mode": "VOTE"}, kicks=[7])
    assert (read.playback, read.play_mode, read.kicked) == (None, PlayMode.VOTE, (7,))


def test_an_odd_stream_address_spoils_nothing() -> None:
    assert playback(url="https://a", video_url="x" * 5000) == PlaybackReport(url="https://a")


@pytest.mark.parametrize("number", [None, "5", True, [], float("nan"), float("inf"), 10**400])
def test_numbers_that_are_none_say_nothing(number: object) -> None:
    report = playback(url="https://a", position=number, time=number, playback_speed=number, duration=number)
    assert report == PlaybackReport(url="https://a")


def test_numbers_that_make_no_sense() -> None:
    for odd in (0, -1, 604_801):
        assert playback(url="https://a", duration=odd) == PlaybackReport(url="https://a")
        assert playback(url="https://a", playback_speed=odd) == PlaybackReport(url="https://a")
    assert playback(url="https://a", position=-3, time=-3) == PlaybackReport(url="https://a", position=0.0)


def test_a_time_in_milliseconds() -> None:
    assert playback(url="https://a", time=1_700_000_000_250) == PlaybackReport(url="https://a", time=1_700_000_000.25)


@pytest.mark.parametrize("status", ["x" * 33, "PLÄY", "a\nb", 5, None])
def test_a_status_is_a_word(status: object) -> None:
    assert playback(url="https://a", status=status) == PlaybackReport(url="https://a")
    assert playback(url="https://a", status="paus") == PlaybackReport(url="https://a", status="PAUS")


@pytest.mark.parametrize(
    ("said", "mode"),
    [("VOTE", PlayMode.VOTE), ("quickplay", PlayMode.QUICKPLAY), ("RADIO", PlayMode.UNKNOWN), ("", None), (3, None)],
)
def test_the_play_mode(said: object, mode: PlayMode | None) -> None:
    assert state(mesh_state={"play_mode": said}).play_mode is mode
    assert state(mesh_state={}).play_mode is None


# Votes and the rest


@pytest.mark.parametrize("voters", [[1, "2"], [{"user_id": 1}, {"id": "2"}], [1, 2, 2, None, "x", {"id": {}}]])
def test_votes_with_users_of_every_form(voters: list[Any]) -> None:
    votes = [{"url": "https://a", "users": voters, "num_votes": "2", "oldest_vote_time": 5, "order": 1}]
    assert state(votes=votes).votes == (Vote(url="https://a", users=frozenset({1, 2}), count=2, oldest=5.0, order=1),)


def test_votes_that_lack_parts() -> None:
    assert state(
        votes=[{"url": "https://a"}, {"url": "https://b", "users": [1, {}], "num_votes": -1}, 5, {}]
    ).votes == (
        Vote(url="https://a"),
        Vote(url="https://b", users=frozenset({1}), count=0),
    )
    assert state(votes=[{"url": "https://a", "users": [1, {}]}]).votes == (
        Vote(url="https://a", users=frozenset({1}), count=2),
    )


@pytest.mark.parametrize("votes", [None, {}, "x", 5])
def test_votes_that_are_no_list_say_nothing(votes: object) -> None:
    assert state(votes=votes, cleared_votes=votes, likeskips=votes, kicks=votes) == StateMessage()


def test_hostile_sizes_are_cut() -> None:
    many = [{"url": f"https://a/{n}", "users": list(range(1, 400))} for n in range(130)]
    votes = state(votes=many, likeskips=[{"opinion": "LIKE", "user_id": n} for n in range(1, 5000)])
    lists = state(likeskips=[{"likes": list(range(n, n + 3000))} for n in range(1, 30_000, 3000)])
    assert lists.opinions
    assert len(lists.opinions) == 1000
    assert votes.votes
    assert len(votes.votes) == 100
    assert {(len(vote.users), vote.count) for vote in votes.votes} == {(200, 399)}
    assert votes.opinions
    assert len(votes.opinions) == 1000
    assert state(votes=[{"url": "x" * 2001}]).votes == ()


def test_cleared_votes_of_both_forms() -> None:
    assert state(cleared_votes=["https://a", {"url": "https://b"}, {}, 5, None, ""]).cleared == {
        "https://a",
        "https://b",
    }


@pytest.mark.parametrize(
    ("said", "user"), [(7, 7), ("7", 7), ({"user_id": 7}, 7), (None, 0), ("x", None), ([], None)]
)
def test_the_originator_of_a_vote(said: object, user: int | None) -> None:
    assert state(vote_originator=said).vote_originator == user
    assert state().vote_originator is None


def test_likes_and_skips() -> None:
    said = [
        {"user_id": 1, "opinion": "LIKE"},
        {"user_id": "2", "opinion": "skip"},
        {"users": [3, {"id": 4}], "type": "SKIP"},
        {"likes": [7], "skips": ["8", {"user_id": 9}, None]},
        {"likes": 5, "users": [10]},
        {"user_id": 5, "opinion": "MEH"},
        {"opinion": "LIKE"},
        {"user_id": 6},
        "LIKE",
        None,
    ]
    found = state(likeskips=said).opinions
    assert found == {1: Opinion.LIKE, 7: Opinion.LIKE} | dict.fromkeys((2, 3, 4, 8, 9), Opinion.SKIP)


def test_the_leader_is_told_by_users_that_say_whether_they_lead() -> None:
    def leader(*users: Any) -> int | None:
        return state(users=list(users), mesh_state={}).leader

    assert leader({"user_id": 1, "is_leader": False}, {"user_id": "2", "is_leader": True}) == 2
    assert leader({"user_id": 1, "is_leader": False}) == 0
    assert leader(1, {"user_id": 2}) is None
    assert leader({"user_id": 1, "is_leader": "yes"}) is None
    assert state(users=[{"user_id": 1, "is_leader": True}]).leader is None


# Anything

KEYS = ["mesh_state", "users", "votes", "likeskips", "kicks", "cleared_votes", "vote_originator", "__metadata"]
KEYS += ["url", "video_url", "video_instance_id", "status", "position", "time", "playback_speed", "play_mode"]
KEYS += ["user_id", "is_leader", "num_votes", "opinion", "instance"]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
leaves |= st.sampled_from(["1", "https://a", "PLAY", "VOTE", "LIKE", INSTANCE])
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=20,
)


def taken(data: dict[str, Any]) -> StateMessage:
    """The state, or one that says nothing for what can't be read; any other failure is one of the test."""
    try:
        return parse_state(data)
    except RaveError as e:
        if e.code not in (Code.BAD_DATA, Code.TOO_LARGE):
            raise
        return StateMessage()


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), anything) | anything, max_size=3), st.booleans())
def test_no_message_breaks_the_state_of_a_room(history: list[Any], as_text: bool) -> None:
    tracker = RoomTracker()
    for inner in history:
        tracker.update(taken({"message": json.dumps(inner) if as_text else inner}))
