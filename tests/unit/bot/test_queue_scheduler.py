from __future__ import annotations

import math

import pytest

from ravesvc.bot.queue import Queue, QueueEntry, QueueLimits, Showing
from ravesvc.bot.queue_scheduler import Notice, NoticeKind, Play, QueueScheduler, Wait
from ravesvc.bot.room_view import RoomView
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode

ANN, BOB, CY = 2, 3, 4
LIMITS = QueueLimits()
EMPTY = RoomView(mode=PlayMode.VOTE)


def url(name: str) -> str:
    return f"https://rave.example/videos/youtube/r-{name}"


def entry(name: str, user: int = ANN, seconds: float | None = 100.0) -> QueueEntry:
    link = f"https://youtube.example/watch?v={name}"
    return QueueEntry(
        video=Video(provider="youtube", id=name, url=link, title=name, seconds=seconds), user=user, asked_at=1
    )


class Scene:
    """A scheduler in a room, and a clock."""

    def __init__(self, *names: str, view: RoomView = EMPTY, seconds: float | None = 100.0) -> None:
        self.now = 1000.0
        self.scheduler = QueueScheduler(Queue())
        for name in names:
            self.scheduler.add(entry(name, seconds=seconds), LIMITS, self.now)
        self.see(view)
        self.now += 10

    def see(self, view: RoomView) -> None:
        self.view = view
        self.scheduler.observe(view, self.now)

    def show(self, name: str | None, *, position: float = 0.0, speed: float = 1.0, instance: str = "") -> None:
        showing = Showing(url(name), "", instance or f"i-{name}") if name else None
        self.see(self.view._replace(showing=showing, position=position, speed=speed))

    def plays(self) -> str | None:
        """The video that it votes for now, with success; None if it waits."""
        action = self.scheduler.next_action(self.now)
        if isinstance(action, Wait):
            return None
        video = action.request.entry.video
        if not action.request.url:
            self.scheduler.registered(video, url(video.id))
        self.scheduler.voted(video, url(video.id), self.now)
        return video.id

    def waits(self) -> float:
        """For how many seconds it waits."""
        action = self.scheduler.next_action(self.now)
        assert isinstance(action, Wait)
        return action.until - self.now

    def told(self) -> list[NoticeKind]:
        return [notice.kind for notice in self.scheduler.pop_notices()]

    def waiting(self) -> list[str]:
        return [each.video.id for each in self.scheduler.queue.waiting]


def replace_video_url(showing: Showing | None, name: str) -> Showing | None:
    return showing and showing._replace(video_url=entry(name).video.url)


def error(code: Code, **attributes: int) -> RaveError:
    return RaveError(code, "Rave says no", **attributes)


# --- one video after another --------------------------------------------------------------------------------------


def test_a_video_plays_at_once_when_nothing_does_and_the_next_one_at_its_end() -> None:
    scene = Scene("first", "second")
    assert scene.plays() == "first"
    assert scene.waiting() == ["first", "second"]
    assert scene.waits() == 20
    scene.show("first")
    assert scene.waiting() == ["second"]
    assert scene.told() == [NoticeKind.STARTED]
    assert scene.waits() == 102
    scene.now += 102
    assert scene.plays() == "second"


def test_the_end_follows_pauses_and_jumps() -> None:
    scene = Scene("first", "second")
    scene.plays()
    scene.show("first")
    scene.show("first", position=90)
    assert scene.waits() == 12
    scene.show("first", position=95, speed=0)
    assert scene.waits() == math.inf
    scene.show("first", position=80, speed=2)
    assert scene.waits() == 12
    scene.show("first", position=101)
    assert scene.waits() == 1
    scene.show("first", position=100, speed=0)
    assert scene.plays() == "second"


@pytest.mark.parametrize(("shown", "order"), [("first", ["b1", "b2", "a1"]), ("by-hand", ["b1", "a1", "b2"])])
def test_turns_count_while_a_video_of_the_queue_plays_and_no_longer(shown: str, order: list[str]) -> None:
    scene = Scene("first")
    scene.plays()
    scene.show("first")
    scene.show(shown)
    for name, user in (("b1", BOB), ("b2", BOB), ("a1", ANN)):
        scene.scheduler.add(entry(name, user), LIMITS, scene.now)
    assert scene.waiting() == order


def test_after_the_last_video_of_a_queue_who_asks_first_is_first() -> None:
    scene = Scene("first")
    scene.plays()
    scene.show("first")
    scene.now += 103
    # It is still shown, but over.
    for name, user in (("a1", ANN), ("b1", BOB)):
        scene.scheduler.add(entry(name, user), LIMITS, scene.now)
    assert scene.waiting() == ["a1", "b1"]


def test_a_video_of_unknown_length_moves_on_by_the_state_alone() -> None:
    scene = Scene("first", "second", seconds=None)
    scene.plays()
    scene.show("first")
    scene.now += 100_000
    assert scene.waits() == math.inf
    scene.show(None)
    assert scene.waits() == 1
    scene.now += 1
    assert scene.plays() == "second"


def test_nothing_is_done_until_the_room_has_said_what_it_shows() -> None:
    scheduler = QueueScheduler(Queue().add(entry("first"), LIMITS))
    assert scheduler.next_action(5.0) == Wait(math.inf)
    scheduler.observe(EMPTY, 5.0)
    assert isinstance(scheduler.next_action(6.0), Play)
    scheduler.disconnected()
    assert scheduler.next_action(9.0) == Wait(math.inf)
    assert not scheduler.is_free(9.0)


def test_a_message_that_comes_twice_or_not_at_all_changes_nothing() -> None:
    scene = Scene("first", "second", "third")
    scene.plays()
    # That it has started is lost; it is seen late, then again.
    scene.now += 15
    for _ in range(3):
        scene.show("first", position=14)
    assert scene.waiting() == ["second", "third"]
    assert scene.told() == [NoticeKind.STARTED]
    scene.show(None)
    scene.show(None)
    scene.now += 1
    assert scene.plays() == "second"


def test_what_plays_now_is_not_queued_again() -> None:
    scene = Scene("first")
    scene.plays()
    for name in ("first", "theirs-by-hand"):
        scene.show(name)
        scene.see(scene.view._replace(showing=replace_video_url(scene.view.showing, name)))
        with pytest.raises(RaveError, match="that video plays now"):
            scene.scheduler.add(entry(name), LIMITS, scene.now)
    scene.show(None)
    scene.scheduler.add(entry("first"), LIMITS, scene.now)


def test_the_same_video_again_is_told_from_its_showing_before() -> None:
    scene = Scene("first")
    scene.plays()
    scene.show("first", instance="i1")
    scene.now += 200
    scene.scheduler.add(entry("first"), LIMITS, scene.now)
    assert scene.plays() == "first"
    scene.show("first", instance="i1", position=200)
    assert scene.waiting() == ["first"]
    scene.show("first", instance="i2")
    assert scene.waiting() == []


def test_the_same_video_again_without_ids_of_its_showings_is_told_by_its_position() -> None:
    scene = Scene("first")
    showing = Showing(url("first"))
    scene.plays()
    scene.see(scene.view._replace(showing=showing, position=0.0))
    scene.now += 200
    scene.scheduler.add(entry("first"), LIMITS, scene.now)
    assert scene.plays() == "first"
    scene.see(scene.view._replace(showing=showing, position=200.0))
    assert scene.waiting() == ["first"]
    scene.see(scene.view._replace(showing=showing, position=0.0))
    assert scene.waiting() == []


@pytest.mark.parametrize("others", [(), ("other",)])
def test_a_showing_that_had_its_turn_takes_no_second_one(others: tuple[str, ...]) -> None:
    """Asked for again after a skip; the bot is killed, and the next one knows nothing of the skip."""
    before = Scene("first", *others)
    before.plays()
    before.show("first", instance="i1")
    before.show(None)
    before.now += 1
    before.scheduler.add(entry("first"), LIMITS, before.now)
    before.plays()
    assert before.waiting() == [*others, "first"]
    scene = Scene()
    scene.scheduler = QueueScheduler(Queue.from_json(before.scheduler.queue.to_json(), LIMITS))
    for instance, left in (("i1", [*others, "first"]), ("i2", [*others])):
        scene.see(EMPTY._replace(showing=Showing(url("first"), entry("first").video.url, instance)))
        assert scene.waiting() == left


def test_what_could_not_be_registered_yet_is_not_taken_for_what_was_skipped() -> None:
    before = Scene("first")
    before.plays()
    before.show("first", instance="i1")
    before.scheduler.skip()
    before.scheduler.add(entry("first"), LIMITS, before.now)
    action = before.scheduler.next_action(before.now)
    assert isinstance(action, Play)
    before.scheduler.register_failed(action.request.entry.video, error(Code.NETWORK), before.now)
    scene = Scene()
    scene.scheduler = QueueScheduler(Queue.from_json(before.scheduler.queue.to_json(), LIMITS))
    scene.see(EMPTY._replace(showing=Showing(url("first"), entry("first").video.url, "i1")))
    assert scene.waiting() == ["first"]


# --- users vote by hand -------------------------------------------------------------------------------------------


def test_the_queue_gives_way_to_votes_and_goes_on_after_their_video() -> None:
    scene = Scene("first", view=EMPTY._replace(other_votes=frozenset({url("theirs")})))
    assert scene.waits() == 30
    scene.now += 29
    assert scene.plays() is None
    scene.show("theirs")
    scene.see(scene.view._replace(other_votes=frozenset()))
    scene.now += 5000
    assert scene.plays() is None
    scene.show(None)
    scene.now += 1
    assert scene.plays() == "first"


def test_votes_that_come_to_nothing_hold_the_queue_up_for_a_while_only() -> None:
    scene = Scene("first", view=EMPTY._replace(other_votes=frozenset({url("theirs")})))
    scene.plays()
    scene.now += 30
    assert scene.plays() == "first"


def test_a_video_of_the_queue_that_loses_against_votes_gets_another_one() -> None:
    scene = Scene("first")
    assert scene.plays() == "first"
    scene.show("theirs")
    assert scene.waiting() == ["first"]
    scene.show(None)
    scene.now += 1
    assert scene.plays() == "first"
    assert scene.told() == []


def test_votes_of_others_for_the_video_of_the_queue_are_welcome() -> None:
    scene = Scene("first")
    scene.plays()
    scene.see(EMPTY._replace(other_votes=frozenset({url("first")})))
    scene.now += 20
    assert scene.plays() == "first"


def test_a_choice_past_the_queue_goes_first() -> None:
    scene = Scene("first")
    scene.scheduler.choose(entry("chosen", BOB), url("chosen"))
    scene.see(EMPTY._replace(own_votes=frozenset({url("chosen")})))
    assert scene.waits() == 30
    scene.show("chosen")
    assert scene.waiting() == ["first"]
    assert scene.scheduler.queue.playing
    assert scene.scheduler.queue.playing.entry.user == BOB
    scene.see(scene.view._replace(own_votes=frozenset()))
    assert scene.waits() == 102


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_votes_without_effect_are_told_once_and_tried_again_when_the_room_changes() -> None:
    scene = Scene("first", "second")
    for _ in range(3):
        assert scene.plays() == "first"
        scene.now += 20
    assert scene.waits() == math.inf
    assert scene.told() == [NoticeKind.NOT_STARTED]
    assert scene.scheduler.stalled
    scene.see(EMPTY._replace(leader=BOB))
    for _ in range(3):
        assert scene.plays() == "first"
        scene.now += 20
    assert scene.waits() == math.inf
    assert scene.told() == []
    scene.scheduler.add(entry("third"), LIMITS, scene.now)
    assert scene.plays() == "first"
    assert scene.waiting() == ["first", "second", "third"]
    # Once a video has started, the next trouble is news.
    scene.show("first")
    scene.show(None)
    for _ in range(3):
        scene.now += 20
        assert scene.plays() == "second"
    scene.now += 20
    assert scene.waits() == math.inf
    assert scene.told() == [NoticeKind.STARTED, NoticeKind.NOT_STARTED]


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.REFUSED])
@pytest.mark.parametrize(
    ("mode", "kind"), [(PlayMode.LEADER, NoticeKind.LEADER_ONLY), (PlayMode.VOTE, NoticeKind.FORBIDDEN)]
)
def test_what_the_room_does_not_allow_is_told_and_the_queue_waits(
    code: Code, mode: PlayMode, kind: NoticeKind
) -> None:
    scene = Scene("first", view=EMPTY._replace(mode=mode, leader=BOB))
    action = scene.scheduler.next_action(scene.now)
    assert isinstance(action, Play)
    scene.scheduler.registered(action.request.entry.video, url("first"))
    scene.scheduler.vote_failed(action.request.entry.video, error(code), scene.now)
    assert scene.waits() == math.inf
    (notice,) = scene.scheduler.pop_notices()
    assert notice == Notice(kind, notice.entry, "Rave says no")
    scene.see(scene.view._replace(mode=PlayMode.QUICKPLAY))
    assert scene.plays() == "first"


def test_a_refusal_that_comes_after_the_room_has_changed_is_about_the_room_before() -> None:
    scene = Scene("first", view=EMPTY._replace(mode=PlayMode.LEADER, leader=BOB))
    action = scene.scheduler.next_action(scene.now)
    assert isinstance(action, Play)
    scene.scheduler.registered(action.request.entry.video, url("first"))
    scene.see(scene.view._replace(mode=PlayMode.VOTE))
    scene.scheduler.vote_failed(action.request.entry.video, error(Code.FORBIDDEN), scene.now)
    assert scene.told() == []
    assert scene.plays() == "first"


def test_what_has_gone_wrong_on_the_way_is_tried_again_later_each_time() -> None:
    scene = Scene("first")
    video = entry("first").video
    delays = []
    for _ in range(8):
        assert isinstance(scene.scheduler.next_action(scene.now), Play)
        scene.scheduler.register_failed(video, error(Code.NETWORK), scene.now)
        delays.append(scene.waits())
        scene.now += delays[-1]
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    assert scene.told() == [NoticeKind.UNREACHABLE]
    scene.scheduler.register_failed(video, error(Code.RATE_LIMITED, retry_after=900), scene.now)
    assert scene.waits() == 900
    scene.now += 900
    assert scene.plays() == "first"


def test_a_pause_of_years_is_an_hour_and_ends_when_the_queue_is_emptied() -> None:
    scene = Scene("first")
    scene.scheduler.next_action(scene.now)
    scene.scheduler.register_failed(entry("first").video, error(Code.RATE_LIMITED, retry_after=10**9), scene.now)
    assert scene.waits() == 3600
    scene.scheduler.clear()
    scene.scheduler.add(entry("first"), LIMITS, scene.now)
    assert scene.plays() == "first"


def test_a_queue_that_waits_goes_on_when_one_of_its_users_is_forgotten_and_not_for_others() -> None:
    scene = Scene("first", view=EMPTY._replace(mode=PlayMode.LEADER, leader=BOB))
    scene.scheduler.add(entry("second", CY), LIMITS, scene.now)
    scene.scheduler.next_action(scene.now)
    scene.scheduler.register_failed(entry("first").video, error(Code.FORBIDDEN), scene.now)
    scene.scheduler.forget_user(BOB)
    assert scene.waits() == math.inf
    assert scene.scheduler.stalled
    scene.scheduler.forget_user(ANN)
    assert scene.plays() == "second"


def test_an_outage_costs_no_entry_and_a_video_that_breaks_rave_is_given_up() -> None:
    scene = Scene("first", "second")
    for code, most in ((Code.NETWORK, 100), (Code.SERVER_ERROR, 1)):
        for _ in range(most):
            assert scene.waiting() == ["first", "second"]
            scene.scheduler.next_action(scene.now)
            scene.scheduler.register_failed(entry("first").video, error(code), scene.now)
            scene.now += 300
    assert scene.waiting() == ["second"]
    assert scene.told() == [NoticeKind.UNREACHABLE, NoticeKind.GIVEN_UP]
    assert scene.plays() == "second"


def test_a_video_that_rave_does_not_take_is_given_up_with_a_word() -> None:
    scene = Scene("first", "second")
    scene.scheduler.next_action(scene.now)
    scene.scheduler.register_failed(entry("first").video, error(Code.BAD_REQUEST), scene.now)
    assert scene.told() == [NoticeKind.GIVEN_UP]
    assert scene.plays() == "second"


def test_an_old_url_that_rave_has_forgotten_is_registered_anew() -> None:
    before = Scene("first")
    before.plays()
    scene = Scene()
    scene.scheduler = QueueScheduler(Queue.from_json(before.scheduler.queue.to_json(), LIMITS))
    scene.see(EMPTY)
    scene.now += 1
    action = scene.scheduler.next_action(scene.now)
    assert isinstance(action, Play)
    assert action.request.url == url("first")
    video = action.request.entry.video
    scene.scheduler.vote_failed(video, error(Code.NOT_FOUND), scene.now)
    action = scene.scheduler.next_action(scene.now)
    assert isinstance(action, Play)
    assert action.request.url == ""
    scene.scheduler.registered(video, url("again"))
    scene.scheduler.vote_failed(video, error(Code.NOT_FOUND), scene.now)
    assert scene.told() == [NoticeKind.GIVEN_UP]
    assert scene.waiting() == []


def test_votes_that_are_cleared_are_given_again_until_that_is_too_often() -> None:
    scene = Scene("first")
    told = []
    for _ in range(3):
        assert scene.plays() == "first"
        told += scene.told()
        scene.see(EMPTY._replace(own_votes=frozenset({url("first")})))
        scene.see(EMPTY)
        assert scene.waits() == 10
        scene.now += 10
    assert scene.waits() == math.inf
    assert told + scene.told() == [NoticeKind.CLEARED, NoticeKind.CLEARED_TOO_OFTEN]
    assert scene.waiting() == ["first"]


def test_a_vote_that_is_cleared_before_its_answer_comes_is_given_again() -> None:
    scene = Scene("first")
    scene.see(EMPTY._replace(mode=PlayMode.AUTOPLAY, showing=Showing(url("other"), "", "i-other")))
    action = scene.scheduler.next_action(scene.now)
    assert isinstance(action, Play)
    video = action.request.entry.video
    scene.scheduler.registered(video, url("first"))
    scene.see(scene.view._replace(own_votes=frozenset({url("first")})))
    scene.see(scene.view._replace(own_votes=frozenset()))
    scene.scheduler.voted(video, url("first"), scene.now)
    assert scene.waits() == 10
    scene.now += 10
    assert scene.plays() == "first"
    assert scene.told() == [NoticeKind.CLEARED]


def test_votes_that_go_because_the_video_starts_were_not_cleared() -> None:
    scene = Scene("first")
    scene.plays()
    scene.see(EMPTY._replace(own_votes=frozenset({url("first")})))
    scene.see(EMPTY)
    scene.show("first")
    assert scene.told() == [NoticeKind.STARTED]


def test_a_choice_whose_votes_are_cleared_is_told() -> None:
    scene = Scene()
    scene.scheduler.choose(entry("chosen"), url("chosen"))
    scene.see(EMPTY._replace(own_votes=frozenset({url("chosen")})))
    scene.see(EMPTY._replace(own_votes=frozenset({url("other")})))
    assert scene.told() == []
    scene.scheduler.choose(entry("other"), url("other"))
    scene.see(EMPTY)
    assert scene.told() == [NoticeKind.CHOICE_CLEARED]


def test_answers_that_come_after_the_entry_is_gone_change_nothing() -> None:
    scene = Scene("first", "second")
    scene.scheduler.next_action(scene.now)
    video = entry("first").video
    scene.scheduler.remove(video)
    before = scene.scheduler.queue
    scene.scheduler.registered(video, url("first"))
    for fail in (scene.scheduler.register_failed, scene.scheduler.vote_failed):
        fail(video, error(Code.NOT_FOUND), scene.now)
    assert scene.scheduler.queue == before
    assert scene.told() == []
    assert scene.plays() == "second"
    scene.scheduler.clear()
    assert scene.waits() == math.inf


# --- play modes and skipping --------------------------------------------------------------------------------------


def test_where_rave_goes_on_by_itself_the_vote_is_there_before_the_end() -> None:
    scene = Scene("first", "second", view=EMPTY._replace(mode=PlayMode.AUTOPLAY))
    scene.plays()
    scene.show("first")
    assert scene.waits() == 85
    scene.now += 85
    assert scene.plays() == "second"
    scene.now += 10
    assert scene.plays() is None
    scene.show("second")
    assert scene.waiting() == []


def test_where_rave_plays_something_of_its_own_the_vote_is_given_at_once() -> None:
    scene = Scene("first", view=EMPTY._replace(mode=PlayMode.AUTOPLAY))
    scene.show("of-its-own")
    assert scene.plays() == "first"
    assert scene.waits() == math.inf


def test_where_rave_goes_on_by_itself_the_queue_gives_way_too() -> None:
    votes = frozenset({url("theirs")})
    scene = Scene("first", view=EMPTY._replace(mode=PlayMode.AUTOPLAY, other_votes=votes))
    scene.show("of-its-own")
    assert scene.waits() == math.inf


def test_what_is_skipped_is_over_although_it_is_shown() -> None:
    scene = Scene("first", "second")
    scene.plays()
    scene.show("first", position=50)
    assert scene.plays() is None
    scene.scheduler.skip()
    assert scene.scheduler.is_free(scene.now)
    assert scene.plays() == "second"
    scene.show("first", position=60)
    scene.now += 20
    assert scene.plays() == "second"
    scene.show("second")
    assert scene.waiting() == []


def test_what_is_put_on_again_after_a_skip_is_not_over() -> None:
    scene = Scene("first", "second")
    scene.plays()
    scene.show("first", position=50)
    scene.scheduler.skip()
    scene.show("first", position=0)
    assert not scene.scheduler.is_free(scene.now)
