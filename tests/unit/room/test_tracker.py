"""From message to message: what is kept, what has changed, and when a video is over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravesvc.room.changes import (
    Change,
    LeaderChanged,
    OpinionsChanged,
    PlaybackChanged,
    PlayModeChanged,
    RoomKnown,
    RoomState,
    UserKicked,
    UsersJoined,
    UsersLeft,
    VideoChanged,
    VideoEnded,
    VoteOriginatorChanged,
    VotesChanged,
)
from ravesvc.room.playback import Playback, PlayMode
from ravesvc.room.state import parse_state
from ravesvc.room.tracker import RoomTracker
from ravesvc.room.votes import Vote

FIRST = "11111111-0000-4000-8000-000000000001"
SECOND = "22222222-0000-4000-8000-000000000002"
A, B = "https://api.example/videos/youtube/a", "https://api.example/videos/youtube/b"


def hear(tracker: RoomTracker, **inner: Any) -> list[Change]:
    return tracker.update(parse_state({"message": json.dumps(inner)}))


def playing(url: str = A, instance: str = FIRST, **more: Any) -> dict[str, Any]:
    video = {"url": url, "video_instance_id": instance, "status": "PLAY", "position": 0, "time": 1000}
    return {"mesh_state": {**video, **more}}


def in_a_room(**inner: Any) -> RoomTracker:
    """A tracker that has heard its first message."""
    tracker = RoomTracker()
    first = hear(tracker, **(inner or playing()))
    assert first == [RoomKnown(tracker.state)]
    return tracker


# Users


def test_the_first_list_of_users_is_the_baseline() -> None:
    tracker = RoomTracker()
    assert tracker.state.users == frozenset()
    assert hear(tracker, users=[1, 2], mesh_state={}) == []
    assert hear(tracker, users=[1, 2], mesh_state={}) == []
    assert hear(tracker, users=[2, 3], mesh_state={}) == [UsersJoined(frozenset({3})), UsersLeft(frozenset({1}))]
    assert tracker.state.users == {2, 3}


def test_an_asked_list_is_a_baseline_too() -> None:
    tracker = RoomTracker()
    tracker.set_initial_users([1, 2])
    assert hear(tracker, users=[2, 3], mesh_state={}) == [UsersJoined(frozenset({3})), UsersLeft(frozenset({1}))]


def test_a_state_message_wins_over_a_later_asked_list() -> None:
    tracker = RoomTracker()
    hear(tracker, users=[1], mesh_state={})
    tracker.set_initial_users([2])
    assert tracker.state.users == {1}
    hear(tracker, users=[], mesh_state={})
    tracker.set_initial_users([2])
    assert tracker.state.users == frozenset()


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.frozensets(st.integers(1, 6)), min_size=1, max_size=8))
def test_joins_and_leaves_add_up(lists: list[frozenset[int]]) -> None:
    tracker, present = RoomTracker(), set(lists[0])
    for users in lists:
        for change in hear(tracker, users=list(users), mesh_state={}):
            match change:
                case UsersJoined(joined):
                    assert not joined & present
                    present |= joined
                case UsersLeft(left):
                    assert left <= present
                    present -= left
        assert present == users


# The first word


def test_the_first_word_is_told_as_a_whole_together_with_what_came_before_it() -> None:
    tracker = RoomTracker()
    assert hear(tracker, votes=[{"url": B, "users": [5]}], vote_originator=5) == []
    assert not tracker.state.known
    (known,) = hear(tracker, **playing(play_mode="VOTE"), users=[{"user_id": 5, "is_leader": True}])
    assert known == RoomKnown(
        RoomState(
            known=True,
            users=frozenset({5}),
            leader=5,
            play_mode=PlayMode.VOTE,
            playback=Playback(url=A, instance_id=FIRST, status="PLAY", time=1000.0, started=True),
            votes=(Vote(url=B, users=frozenset({5}), count=1),),
            vote_originator=5,
        )
    )


def test_the_users_who_came_since_the_list_that_was_asked_for_come_after_the_first_word() -> None:
    tracker = RoomTracker()
    tracker.set_initial_users([1])
    known, joined = hear(tracker, **playing(), users=[1, 2])
    assert isinstance(known, RoomKnown)
    assert joined == UsersJoined(frozenset({2}))


@pytest.mark.parametrize("mesh_state", [{}, {"status": "PLAY"}, {"status": "PAUS", "position": 7}, {"url": ["?"]}])
def test_a_message_from_which_no_video_can_be_told_is_no_first_word(mesh_state: dict[str, Any]) -> None:
    tracker = RoomTracker()
    assert hear(tracker, mesh_state=mesh_state) == []
    assert tracker.state == RoomState()


@pytest.mark.parametrize("mesh_state", [{"status": "WAIT"}, {"url": None}, {"url": "", "status": "PLAY"}])
def test_that_there_is_no_video_is_a_first_word(mesh_state: dict[str, Any]) -> None:
    assert in_a_room(mesh_state=mesh_state).state.playback is None


# The video


def test_another_instance_of_the_same_video_is_another_video() -> None:
    tracker = in_a_room()
    before = tracker.state.playback
    assert hear(tracker, **playing(instance=SECOND)) == [VideoChanged(before, tracker.state.playback)]


def test_another_video_without_an_instance_does_not_inherit_one() -> None:
    tracker = in_a_room()
    (change,) = hear(tracker, mesh_state={"url": B, "status": "WAIT"})
    assert change == VideoChanged(
        Playback(url=A, instance_id=FIRST, status="PLAY", time=1000.0, started=True), Playback(url=B, status="WAIT")
    )


def test_another_url_under_the_same_id_is_another_video() -> None:
    # What is called "instance" may name the room as well.
    tracker = in_a_room()
    (change,) = hear(tracker, **playing(url=B))
    assert isinstance(change, VideoChanged)


def test_pause_and_seek_are_told() -> None:
    tracker = in_a_room()
    before = tracker.state.playback
    assert before
    (change,) = hear(tracker, **playing(status="PAUS", position=12.5, time=1012.5))
    assert change == PlaybackChanged(before, replace(before, status="PAUS", position=12.5, time=1012.5))


def test_nothing_has_changed_when_a_message_comes_again() -> None:
    whole = playing() | {"users": [1], "votes": [{"url": B, "users": [1]}], "likeskips": [], "vote_originator": 1}
    tracker = in_a_room(**whole)
    assert hear(tracker, **whole) == []


@pytest.mark.parametrize(
    "end",
    [
        {"status": "WAIT"},
        {"status": "VOTE"},
        {"status": "PAUS", "play_mode": "?", "position": 0},
        {"url": None},
        {"url": None, "video_url": "", "status": "PAUS", "video_instance_id": FIRST},
        playing(status="VOTE")["mesh_state"],
        playing(status="ENDED")["mesh_state"],
    ],
)
def test_a_video_that_played_and_is_gone_has_ended(end: dict[str, Any]) -> None:
    tracker = in_a_room()
    before = tracker.state.playback
    assert before
    assert hear(tracker, mesh_state=end) == [VideoEnded(before)]
    assert tracker.state.playback is None
    assert hear(tracker, mesh_state=end) == []
    (again,) = hear(tracker, **playing(url=B, instance=SECOND))
    assert again == VideoChanged(None, tracker.state.playback)


@pytest.mark.parametrize(
    "mesh_state",
    [
        {},
        {"status": "WAIT", "video_instance_id": FIRST},
        {"status": "BUFF", "url": A},
        {"position": 90_000, "time": 91_000},
        {"url": 5, "status": "WAIT"},
        {"url": "x" * 2001},
        {"play_mode": "AUTOPLAY"},
    ],
)
def test_a_video_is_not_over_as_long_as_the_message_does_not_say_so(mesh_state: dict[str, Any]) -> None:
    tracker = in_a_room()
    changes = hear(tracker, mesh_state=mesh_state)
    assert not any(isinstance(change, VideoEnded | VideoChanged) for change in changes)
    assert tracker.state.playback
    assert (tracker.state.playback.url, tracker.state.playback.instance_id) == (A, FIRST)


def test_a_video_that_waits_in_between_has_still_played() -> None:
    tracker = in_a_room()
    hear(tracker, **playing(status="WAIT"))
    (change,) = hear(tracker, mesh_state={"url": None})
    assert isinstance(change, VideoEnded)


def test_a_video_that_never_played_did_not_end() -> None:
    tracker = in_a_room(**playing(status="WAIT"))
    before = tracker.state.playback
    assert hear(tracker, mesh_state={"url": None}) == [VideoChanged(before, None)]


# Votes and opinions


def test_a_message_without_votes_takes_back_those_that_are_cleared() -> None:
    votes = [{"url": A, "users": [1]}, {"url": B, "users": [2]}]
    tracker = in_a_room(**playing(), votes=votes)
    before = tracker.state.votes
    assert hear(tracker, cleared_votes=[{"url": A}]) == [VotesChanged(before, before[1:])]
    assert hear(tracker, cleared_votes=[B]) == [VotesChanged(before[1:], ())]


def test_a_list_of_votes_is_that_after_the_clearing() -> None:
    # The list of what was cleared may grow for ever; a video may be voted for anew.
    tracker = in_a_room(**playing(), votes=[{"url": A, "users": [1]}], cleared_votes=[A])
    assert [vote.url for vote in tracker.state.votes] == [A]


def test_opinions_go_with_the_video_they_are_about() -> None:
    said = [{"user_id": 1, "opinion": "LIKE"}, {"user_id": 2, "opinion": "SKIP"}]
    tracker = in_a_room(**playing(), likeskips=said)
    assert (tracker.state.likes, tracker.state.skips) == ({1}, {2})
    assert hear(tracker, mesh_state={"position": 3, "time": 1003})[1:] == []
    assert (tracker.state.likes, tracker.state.skips) == ({1}, {2})
    _, opinions = hear(tracker, **playing(instance=SECOND))
    assert opinions == OpinionsChanged(frozenset(), frozenset())


def test_who_began_to_vote() -> None:
    tracker = in_a_room(**playing(), vote_originator="7")
    assert hear(tracker, votes=None) == []
    assert tracker.state.vote_originator == 7
    assert hear(tracker, vote_originator=None) == [VoteOriginatorChanged(7, None)]
    assert hear(tracker, vote_originator={"user_id": 8}) == [VoteOriginatorChanged(None, 8)]


# Leader, mode and kicks


def test_a_leader_who_has_gone_leads_no_more_even_if_the_message_does_not_say_so() -> None:
    tracker = in_a_room(**playing(), users=[{"user_id": 1, "is_leader": True}, {"user_id": 2, "is_leader": False}])
    assert tracker.state.leader == 1
    assert hear(tracker, users=[1, 2], mesh_state={}) == []
    assert tracker.state.leader == 1
    assert hear(tracker, users=[2], mesh_state={}) == [UsersLeft(frozenset({1})), LeaderChanged(1, None)]


def test_another_leader_and_another_mode() -> None:
    tracker = in_a_room(**playing(play_mode="VOTE"), users=[{"user_id": 1, "is_leader": True}])
    users = [{"user_id": 1, "is_leader": False}, {"user_id": "2", "is_leader": True}]
    changes = hear(tracker, users=users, mesh_state={"play_mode": "leader"})
    assert changes == [
        UsersJoined(frozenset({2})),
        LeaderChanged(1, 2),
        PlayModeChanged(PlayMode.VOTE, PlayMode.LEADER),
    ]


def test_a_kick_is_told_once_as_long_as_the_list_has_it() -> None:
    tracker = in_a_room(**playing(), kicks=[4], users=[1, 5])
    assert hear(tracker, kicks=[4, {"user_id": "5"}], users=[1], mesh_state={}) == [
        UserKicked(5),
        UsersLeft(frozenset({5})),
    ]
    assert hear(tracker, kicks=[4, 5]) == []
    assert hear(tracker, **playing()) == []
    assert hear(tracker, kicks=[]) == []
    assert hear(tracker, kicks=[5]) == [UserKicked(5)]


def test_of_many_kicks_a_bounded_number_is_kept() -> None:
    tracker = in_a_room(**playing(), kicks=list(range(1, 3000)))
    assert len(tracker.state.kicked) == 1000


# Whatever comes


def apply(state: RoomState, change: Change) -> RoomState:
    """The state after a change: the changes must say enough for it."""
    match change:
        case RoomKnown(known):
            return known
        case UsersJoined(users):
            return replace(state, users=state.users | users)
        case UsersLeft(users):
            return replace(state, users=state.users - users)
        case UserKicked(user):
            return replace(state, kicked=state.kicked | {user})
        case LeaderChanged(before, after):
            assert state.leader == before
            return replace(state, leader=after)
        case PlayModeChanged(old, new):
            assert state.play_mode is old
            return replace(state, play_mode=new)
        case VideoEnded(playback):
            assert state.playback == playback
            return replace(state, playback=None)
        case VideoChanged(was, now) | PlaybackChanged(was, now):
            assert state.playback == was
            return replace(state, playback=now)
        case VotesChanged(votes, voted):
            assert state.votes == votes
            return replace(state, votes=voted)
        case VoteOriginatorChanged(one, other):
            assert state.vote_originator == one
            return replace(state, vote_originator=other)
        case OpinionsChanged(likes, skips):
            return replace(state, likes=likes, skips=skips)


ids = st.integers(1, 4) | st.sampled_from(["1", "2"])
people = st.lists(ids | st.builds(lambda user, leads: {"user_id": user, "is_leader": leads}, ids, st.booleans()))
urls = st.sampled_from([A, B, "", None])
mesh_states = st.fixed_dictionaries(
    {},
    optional={
        "url": urls,
        "video_url": urls,
        "video_instance_id": st.sampled_from([FIRST, SECOND, ""]),
        "status": st.sampled_from(["PLAY", "PAUS", "WAIT", "VOTE", "?"]),
        "position": st.integers(0, 5),
        "time": st.integers(1, 5),
        "play_mode": st.sampled_from(["VOTE", "LEADER", "?"]),
    },
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "mesh_state": mesh_states,
        "users": people,
        "votes": st.lists(st.builds(lambda url, users: {"url": url, "users": users}, urls, people), max_size=3),
        "cleared_votes": st.lists(urls, max_size=2),
        "kicks": st.lists(ids, max_size=2),
        "likeskips": st.lists(
            st.builds(lambda user, what: {"user_id": user, "opinion": what}, ids, st.sampled_from(["LIKE", "SKIP"])),
            max_size=2,
        ),
        "vote_originator": st.none() | ids,
    },
)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(messages, max_size=8))
def test_the_changes_rebuild_the_state(history: list[dict[str, Any]]) -> None:
    tracker, rebuilt, known = RoomTracker(), RoomState(), False
    # The first list of users is no change; a room asks for it elsewhere.
    tracker.set_initial_users([])
    for inner in history:
        for change in hear(tracker, **inner):
            known |= isinstance(change, RoomKnown)
            rebuilt = apply(rebuilt, change)
        if known:
            # No change tells that a kicked user is in the list no more.
            assert replace(rebuilt, kicked=tracker.state.kicked) == tracker.state
    assert known == tracker.state.known


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(messages, max_size=5), messages)
def test_a_part_that_a_message_lacks_is_as_it_was(history: list[dict[str, Any]], last: dict[str, Any]) -> None:
    tracker = RoomTracker()
    for inner in history:
        hear(tracker, **inner)
    before = tracker.state
    hear(tracker, **last)
    after = tracker.state
    if "mesh_state" not in last:
        assert (after.playback, after.play_mode, after.users) == (before.playback, before.play_mode, before.users)
        if "likeskips" not in last:
            assert (after.likes, after.skips) == (before.likes, before.skips)
    if "users" not in last:
        assert (after.users, after.leader) == (before.users, before.leader)
    if not {"votes", "cleared_votes"} & last.keys():
        assert after.votes == before.votes
    if "kicks" not in last:
        assert after.kicked == before.kicked
    if "vote_originator" not in last:
        assert after.vote_originator == before.vote_originator
