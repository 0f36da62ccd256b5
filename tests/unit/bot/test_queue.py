from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravesvc.bot.queue import (
    MAX_QUEUE_BYTES,
    Queue,
    QueueEntry,
    QueueLimits,
    QueueRequest,
    Removed,
    Showing,
    same_url,
    shows,
)
from ravesvc.common.video import MAX_TITLE_CHARS, Video
from ravesvc.errors import Code, RaveError

ANN, BOB, CEM, DAN = range(2, 6)
LIMITS = QueueLimits()
MANY = QueueLimits(per_user=1000, total=1000)


def video(name: str, **more: Any) -> Video:
    return Video(
        provider="youtube", id=name, url=f"https://youtube.example/watch?v={name}", **{"title": name, **more}
    )


def entry(user: int, name: str) -> QueueEntry:
    return QueueEntry(video=video(name), user=user, asked_at=1000)


def queue_of(*asked: tuple[int, str], queue: Queue = Queue(), limits: QueueLimits = LIMITS) -> Queue:  # noqa: B008
    for user, name in asked:
        queue = queue.add(entry(user, name), limits)
    return queue


def names(queue: Queue) -> list[str]:
    return [each.video.id for each in queue.waiting]


def played(queue: Queue) -> tuple[Queue, str]:
    """The queue after its next entry was seen playing."""
    queue = queue.request_next()
    assert queue.requested
    name = queue.requested.entry.video.id
    queue = queue.registered(queue.requested.entry.video, f"https://rave/videos/youtube/r-{name}", "")
    queue = queue.started(Showing(f"https://rave/videos/youtube/r-{name}", "", f"i-{name}"))
    assert queue.playing
    assert queue.playing.entry.video.id == name
    return queue, name


# --- the order ----------------------------------------------------------------------------------------------------


def test_users_take_turns() -> None:
    queue = queue_of((ANN, "a1"), (ANN, "a2"), (ANN, "a3"), (BOB, "b1"), (CEM, "c1"), (BOB, "b2"))
    assert names(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_has_had_their_turn_waits_for_those_who_have_not() -> None:
    queue, _ = played(queue_of((ANN, "a1"), (ANN, "a2")))
    queue = queue_of((BOB, "b1"), (ANN, "a3"), (CEM, "c1"), queue=queue)
    assert names(queue) == ["b1", "c1", "a2", "a3"]
    queue, _ = played(queue)
    assert names(queue_of((BOB, "b2"), (DAN, "d1"), queue=queue)) == ["c1", "d1", "a2", "b2", "a3"]


def test_a_turn_that_did_not_come_about_is_no_turn() -> None:
    queue = queue_of((ANN, "a1"), (BOB, "b1")).request_next()
    queue = queue.remove(video("a1"))
    assert queue.requested is None
    assert names(queue.add(entry(ANN, "a2"), LIMITS)) == ["b1", "a2"]


def test_a_turn_that_was_cleared_is_no_turn() -> None:
    queue, _ = played(queue_of((DAN, "d1"), (ANN, "a1")))
    queue = queue.request_next().clear()
    assert names(queue_of((BOB, "b1"), (DAN, "d2"), (ANN, "a2"), queue=queue)) == ["b1", "a2", "d2"]


asking = st.lists(st.sampled_from([ANN, BOB, CEM, DAN]), max_size=24)


@pytest.mark.slow
@given(asking)
def test_every_round_has_each_user_once_in_the_order_of_asking(users: list[int]) -> None:
    queue = queue_of(*((user, f"v{number}") for number, user in enumerate(users)), limits=MANY)
    rounds = [users[:at].count(user) for at, user in enumerate(users)]
    expected = sorted(range(len(users)), key=lambda at: (rounds[at], at))
    assert names(queue) == [f"v{at}" for at in expected]


steps = st.lists(
    st.tuples(st.just("add"), st.sampled_from([ANN, BOB, CEM]))
    | st.tuples(st.sampled_from(["play", "remove"]), st.integers(0, 20)),
    max_size=40,
)


@pytest.mark.slow
@given(steps)
def test_whatever_happens_those_who_wait_keep_their_order_and_nobody_starves(steps: list[tuple[str, int]]) -> None:
    queue = Queue()
    turns: dict[int, int] = {}
    for number, (what, argument) in enumerate(steps):
        before = list(queue.waiting)
        if what == "add":
            queue = queue.add(entry(argument, f"v{number}"), MANY)
            after = list(queue.waiting)
            assert [each for each in after if each in before] == before
            own = [each for each in after if each.user == argument]
            assert own[-1].video.id == f"v{number}"
            # Only entries of users with more turns ahead, or behind them, are overtaken.
            new = after.index(own[-1])
            assert all(each.round > own[-1].round for each in after[new + 1 :])
        elif what == "remove" and before:
            gone = before[argument % len(before)]
            queue = queue.remove(gone.video)
            assert list(queue.waiting) == [each for each in before if each is not gone]
        elif what == "play" and before:
            queue, name = played(queue)
            assert name == before[0].video.id
            assert list(queue.waiting) == before[1:]
            turns[before[0].user] = turns.get(before[0].user, 0) + 1
        assert Queue.from_json(queue.to_json(), MANY) == queue


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "asked", "refused", "why"),
    [
        (LIMITS, [(ANN, "a1")], (BOB, "a1"), "in the queue already, at place 1"),
        (QueueLimits(2, 9), [(ANN, "a1"), (ANN, "a2")], (ANN, "a3"), "you have 2 videos in the queue already"),
        (QueueLimits(9, 2), [(ANN, "a1"), (BOB, "b1")], (CEM, "c1"), "the queue is full"),
    ],
)
def test_what_is_too_much_is_refused_in_words(
    limits: QueueLimits, asked: list[tuple[int, str]], refused: tuple[int, str], why: str
) -> None:
    for queue in (queue_of(*asked, limits=limits), queue_of(*asked, limits=limits).request_next()):
        with pytest.raises(RaveError, match=why) as caught:
            queue.add(entry(*refused), limits)
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_who_has_more_waiting_than_now_allowed_is_told_both_numbers() -> None:
    with pytest.raises(RaveError) as caught:
        queue_of((ANN, "a1"), (ANN, "a2")).add(entry(ANN, "a3"), QueueLimits(1, 9))
    assert caught.value.message == "you have 2 videos in the queue already"
    assert caught.value.hint.startswith("at most 1 may wait")


def test_no_queue_is_too_long_to_be_kept() -> None:
    long = {"title": "ö" * MAX_TITLE_CHARS, "author": "ö" * MAX_TITLE_CHARS, "thumbnail": f"https://x/{'x' * 1900}"}
    entries = [QueueEntry(video=video(f"v{number}", **long), user=ANN, asked_at=0) for number in range(50)]
    queue = Queue()
    with suppress(RaveError):
        for each in entries:
            queue = queue.add(each, MANY)
    with pytest.raises(RaveError, match="the queue is full"):
        queue.add(entries[-1], MANY)
    assert 10 < len(queue.waiting) < 50
    assert len(queue.to_json().encode()) <= MAX_QUEUE_BYTES
    assert Queue.from_json(queue.to_json(), MANY) == queue


def test_clear_and_forgetting_a_user() -> None:
    queue, _ = played(queue_of((ANN, "a1"), (BOB, "b1"), (ANN, "a2")))
    queue = queue.request_next().choose(entry(ANN, "a9"), "https://rave/a9", "")
    cleared = queue.clear()
    assert (names(cleared), cleared.playing) == ([], queue.playing)
    forgotten = queue.without_user(ANN)
    assert names(forgotten) == ["b1"]
    assert (forgotten.playing, forgotten.chosen) == (None, ())
    assert f'"user":{ANN}' not in forgotten.to_json()
    assert names(queue.without_user(BOB)) == ["a2"]


# --- what the room shows ------------------------------------------------------------------------------------------


def test_only_what_is_seen_playing_has_left_the_queue() -> None:
    queue = queue_of((ANN, "first00"), (BOB, "second0")).request_next()
    queue = queue.registered(video("first00"), "https://api/videos/youtube/r1", "i0")
    assert names(queue) == ["first00", "second0"]
    assert queue.started(Showing("https://api/videos/youtube/r9", "https://video.example/other", "i1")) == queue
    assert queue.started(Showing("https://api/videos/youtube/r1", "", "i0")) == queue
    started = queue.started(Showing("https://other.host/videos/youtube/r1", "", "i1"))
    assert names(started) == ["second0"]
    assert started.playing
    assert started.playing.entry.user == ANN
    assert started.started(Showing("https://other.host/videos/youtube/r1", "", "i1")) == started


def test_a_video_that_users_play_by_hand_waits_no_longer() -> None:
    queue = queue_of((ANN, "first00"), (BOB, "second0"))
    started = queue.started(Showing("https://api/videos/youtube/r5", video("second0").url, "i1"))
    assert names(started) == ["first00"]
    assert started.playing
    assert started.playing.entry.user == BOB


def test_a_video_that_a_command_has_voted_for_is_its_users() -> None:
    queue = queue_of((ANN, "first00")).request_next()
    for number in range(6):
        queue = queue.choose(entry(BOB, f"chosen{number}"), f"https://api/videos/youtube/c{number}", "")
    assert len(queue.chosen) == 2
    started = queue.started(Showing("https://api/videos/youtube/c5", "", "i1"))
    assert started.playing
    assert (started.playing.entry.video.id, names(started)) == ("chosen5", ["first00"])
    assert len(started.chosen) == 1
    assert queue.started(Showing("https://api/videos/youtube/c0", "", "i1")) == queue


def test_what_was_removed_meanwhile_is_not_registered() -> None:
    queue = queue_of((ANN, "a1"), (BOB, "b1")).request_next().remove(video("a1"))
    assert queue.registered(video("a1"), "https://api/r1", "") == queue
    queue = queue.request_next()
    assert queue.registered(video("a1"), "https://api/r1", "") == queue


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a/videos/youtube/1", "https://b/videos/youtube/1", True),
        ("https://a/videos/youtube/1", "https://a/videos/youtube/2", False),
        ("", "", False),
    ],
)
def test_urls_of_rave_are_the_same_by_their_last_part(one: str, other: str, same: bool) -> None:
    assert same_url(one, other) is same


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3", True),
        ("https://youtu.be/dQw4w9WgXcQ", True),
        ("https://youtu.be/dQw4w9WgXcQx", False),
        ("https://youtu.be/-dQw4w9WgXcQ", False),
        ("", False),
    ],
)
def test_a_provider_writes_a_link_in_many_ways(url: str, same: bool) -> None:
    assert shows(Showing("", url), video("dQw4w9WgXcQ")) is same
    assert shows(Showing("", video("x").url), video("x"))
    assert not shows(Showing("", "https://x/?v=x"), video("x"))


# --- the document -------------------------------------------------------------------------------------------------


def full_queue() -> Queue:
    queue, _ = played(queue_of((ANN, "a1"), (BOB, "b1"), (ANN, "a2"), (CEM, "c1")))
    queue = queue.request_next().registered(video("b1"), "https://api/videos/youtube/r-b1", "i1")
    queue = queue.choose(entry(BOB, "b9"), "https://api/videos/youtube/r-b9", "i1")
    return queue._replace(removed=Removed(video("c9"), "https://api/videos/youtube/r-c9", "i1"))


def test_what_is_damaged_is_left_out_and_the_rest_stays() -> None:
    document = json.loads(full_queue().to_json())
    document["entries"][0]["video"]["id"] = "no id"
    document["entries"] += [7, None, {}, document["entries"][1], document["requested"]["entry"]]
    document["chosen"] = "none"
    document["removed"]["video"] = "none"
    document["playing"]["entry"]["user"] = True
    document["served"] = [BOB, "x", None]
    queue = Queue.from_json(json.dumps(document), LIMITS)
    assert names(queue) == ["b1", "a2"]
    assert (queue.chosen, queue.removed, queue.playing, queue.served) == ((), None, None, frozenset({BOB}))


def test_a_document_that_is_too_long_is_cut_at_the_limit_of_the_queue() -> None:
    queue = queue_of(*((ANN + number, f"v{number}") for number in range(9)), limits=MANY).request_next()
    assert names(Queue.from_json(queue.to_json(), QueueLimits(5, 4))) == ["v0", "v1", "v2", "v3"]


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"entries":', "x" * 9 * MAX_QUEUE_BYTES])
def test_what_is_no_document_is_said_to_be_none(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        Queue.from_json(text, LIMITS)
    assert caught.value.code is Code.BAD_DATA


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inner in inside for path in paths(inner, (*at, key)))]


@pytest.mark.slow
@given(st.data())
def test_no_damage_makes_a_queue_that_breaks_the_rules(data: st.DataObject) -> None:
    document = json.loads(full_queue().to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths(document)[1:]))
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = data.draw(values)
    queue = Queue.from_json(json.dumps(document), LIMITS)
    keys = [each.video.key for each in queue.waiting]
    assert len(keys) == len(set(keys)) <= LIMITS.total
    assert sorted(each.round for each in queue.entries) == [each.round for each in queue.entries]
    assert Queue.from_json(queue.to_json(), LIMITS) == queue


def test_a_request_knows_itself_after_a_restart() -> None:
    queue = full_queue()
    assert isinstance(queue.requested, QueueRequest)
    again = Queue.from_json(queue.to_json(), LIMITS)
    assert again == queue
    assert names(again.started(Showing("https://api/videos/youtube/r-b1", "", "i2"))) == ["c1", "a2"]
