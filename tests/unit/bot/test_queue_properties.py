"""No sequence of messages, votes, commands, failures and restarts loses, doubles or reorders a queue."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ravesvc.bot.queue import Queue, QueueEntry, QueueLimits, Showing
from ravesvc.bot.queue_scheduler import NoticeKind, Play, QueueScheduler
from ravesvc.bot.room_view import RoomView
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode

BOT, ANN, BOB, CEM = range(1, 5)
USERS = st.sampled_from([ANN, BOB, CEM])
LIMITS = QueueLimits(per_user=4, total=9)
# Every other one has a length that is known.
VIDEO_LENGTH_S = 60.0
VIDEOS = [
    Video(
        provider="youtube",
        id=f"video-{number}",
        url=f"https://youtube.example/watch?v=video-{number}",
        title=f"video-{number}",
        seconds=VIDEO_LENGTH_S if number % 2 else None,
    )
    for number in range(4)
]
FAILURES = st.sampled_from(
    [Code.NETWORK, Code.SERVER_ERROR, Code.FORBIDDEN, Code.NOT_FOUND, Code.RATE_LIMITED, Code.TIMEOUT]
)


def url(video: Video) -> str:
    return f"https://rave.example/videos/youtube/r-{video.id}"


@dataclass
class Rave:
    """One room as the server has it: the rules that the simulator plays, in short."""

    mode: PlayMode = PlayMode.VOTE
    leader: int = ANN
    now: float = 1000.0
    video: Video | None = None
    instance: str = ""
    began: float = 0.0
    ends: float = 0.0
    votes: dict[int, Video] = field(default_factory=dict)
    started: list[Video] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def vote(self, user: int, video: Video) -> None:
        if self.mode is PlayMode.LEADER and user != self.leader:
            raise RaveError(Code.FORBIDDEN, "only the leader may")
        self.votes[user] = video
        at_once = self.video is None or self.mode in (PlayMode.QUICKPLAY, PlayMode.LEADER)
        if at_once or sum(other is video for other in self.votes.values()) > 2:
            self.start(video)

    def start(self, video: Video | None) -> None:
        self.video = video
        self.instance = f"i{next(self.numbers)}" if video else ""
        self.began, self.ends = self.now, self.now + VIDEO_LENGTH_S
        if video:
            self.started.append(video)
            self.votes = {user: other for user, other in self.votes.items() if other is not video}

    def end(self) -> None:
        if self.votes:
            wanted = list(self.votes.values())
            self.start(max(wanted, key=wanted.count))
        else:
            self.start(VIDEOS[0] if self.mode is PlayMode.AUTOPLAY else None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.video and self.now >= self.ends:
            self.end()

    def view(self) -> RoomView:
        return RoomView(
            showing=Showing(url(self.video), self.video.url, self.instance) if self.video else None,
            position=self.now - self.began,
            mode=self.mode,
            leader=self.leader,
            own_votes=frozenset(url(video) for user, video in self.votes.items() if user == BOT),
            other_votes=frozenset(url(video) for user, video in self.votes.items() if user != BOT),
        )


Ticket = tuple[str, int]


def tickets(queue: Queue) -> list[Ticket]:
    return [(entry.video.id, entry.asked_at) for entry in queue.waiting]


class Room(RuleBasedStateMachine):
    """The bot's process in small: it does what `ravesvc.bot.player` does, in steps between which it may be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.rave = Rave()
        self.asked = itertools.count(1)
        self.saved = Queue().to_json()
        self.scheduler = QueueScheduler(Queue())
        # What the server has said, and when; and the latest of it that the bot has heard.
        self.undelivered: list[tuple[RoomView, float]] = []
        self.heard: tuple[RoomView, float] | None = None
        self.failure: Code | None = None
        self.steps: Iterator[None] | None = None
        # Asked for, and not yet seen to be gone.
        self.expected: list[Ticket] = []
        self.done: set[Ticket] = set()
        self.seen: dict[str, Ticket] = {}

    # The bot.

    def save(self) -> None:
        self.saved = self.scheduler.queue.to_json()
        saved = tickets(Queue.from_json(self.saved, LIMITS))
        self.done |= {ticket for ticket in self.expected if ticket not in saved}
        self.expected = saved

    def work(self) -> Iterator[None]:
        """What it does about the next action; it may be killed at each yield."""
        if self.heard:
            self.see(self.heard)
        self.save()
        yield
        action = self.scheduler.next_action(self.rave.now)
        if not isinstance(action, Play):
            return
        request = action.request
        video, address = request.entry.video, request.url
        if not address:
            yield
            if self.failure:
                self.scheduler.register_failed(video, RaveError(self.failure, "no"), self.rave.now)
                return
            address = url(video)
            self.scheduler.registered(video, address)
        yield
        self.save()
        yield
        requested = self.scheduler.queue.requested
        if requested is None or requested.entry.video.key != video.key:
            return
        # An entry whose start is on record never gets a vote again.
        assert (video.id, request.entry.asked_at) not in self.done
        try:
            self.call(video)
        except RaveError as error:
            yield
            self.scheduler.vote_failed(video, error, self.rave.now)
            return
        self.tell_all()
        yield
        self.scheduler.voted(video, address, self.rave.now)

    def call(self, video: Video) -> None:
        if self.failure:
            raise RaveError(self.failure, "no")
        self.rave.vote(BOT, video)

    def tell_all(self) -> None:
        self.undelivered.append((self.rave.view(), self.rave.now))

    def check(self, before: list[Ticket], gone: set[Ticket]) -> None:
        """What waits is as before, but for those that may be gone."""
        given_up = {
            (notice.entry.video.id, notice.entry.asked_at)
            for notice in self.scheduler.pop_notices()
            if notice.kind is NoticeKind.GIVEN_UP
        }
        after = tickets(self.scheduler.queue)
        assert set(before) - set(after) <= gone | given_up
        assert [ticket for ticket in after if ticket in before] == [ticket for ticket in before if ticket in after]
        assert not set(after) & self.done

    # What happens.

    @rule(user=USERS, video=st.sampled_from(VIDEOS))
    def ask(self, user: int, video: Video) -> None:
        before = tickets(self.scheduler.queue)
        number = next(self.asked)
        try:
            self.scheduler.add(QueueEntry(video=video, user=user, asked_at=number), LIMITS, self.rave.now)
        except RaveError:
            assert tickets(self.scheduler.queue) == before
            return
        assert set(tickets(self.scheduler.queue)) - set(before) == {(video.id, number)}
        self.check(before, set())
        self.save()

    @rule(at=st.integers(0, 8))
    def remove(self, at: int) -> None:
        before = tickets(self.scheduler.queue)
        if before:
            removed = self.scheduler.queue.waiting[at % len(before)]
            self.scheduler.remove(removed.video)
            self.check(before, {(removed.video.id, removed.asked_at)})
            self.save()

    @precondition(lambda self: len(self.expected) > 4)
    @rule()
    def clear(self) -> None:
        self.scheduler.clear()
        self.save()
        assert tickets(self.scheduler.queue) == []

    @rule(user=USERS, video=st.sampled_from(VIDEOS))
    def choose(self, user: int, video: Video) -> None:
        before = tickets(self.scheduler.queue)
        self.scheduler.choose(QueueEntry(video=video, user=user, asked_at=next(self.asked)), url(video))
        self.check(before, set())
        self.save()
        try:
            self.rave.vote(BOT, video)
        except RaveError:
            return
        self.tell_all()

    @rule(user=USERS, video=st.sampled_from(VIDEOS))
    def vote_by_hand(self, user: int, video: Video) -> None:
        try:
            self.rave.vote(user, video)
        except RaveError:
            return
        self.tell_all()

    @rule()
    def end_by_hand(self) -> None:
        self.rave.end()
        self.tell_all()

    @rule()
    def skip(self) -> None:
        before = tickets(self.scheduler.queue)
        self.scheduler.skip()
        self.check(before, set())

    @precondition(lambda self: self.scheduler.own_playing())
    @rule(user=USERS)
    def skip_and_ask_again(self, user: int) -> None:
        playing = self.scheduler.own_playing()
        assert playing
        self.scheduler.skip()
        self.ask(user, playing.video)

    @rule()
    def clear_votes(self) -> None:
        self.rave.votes.clear()
        self.tell_all()

    @rule(mode=st.sampled_from(PlayMode), leader=st.sampled_from([BOT, ANN, BOB]))
    def another_mode(self, mode: PlayMode, leader: int) -> None:
        self.rave.mode, self.rave.leader = mode, leader
        self.tell_all()

    @rule(seconds=st.sampled_from([1.0, 20.0, 40.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        playing = self.rave.video, self.rave.instance
        self.rave.pass_time(seconds)
        if (self.rave.video, self.rave.instance) != playing:
            self.tell_all()

    @rule(failure=st.none() | FAILURES)
    def calls_fail(self, failure: Code | None) -> None:
        self.failure = failure

    @rule(lost=st.booleans(), times=st.integers(1, 2))
    def deliver(self, lost: bool, times: int) -> None:
        """The next message comes, late or not, once or twice or never."""
        if not self.undelivered:
            self.tell_all()
        said = self.undelivered.pop(0)
        if not lost:
            for _ in range(times):
                self.see(said)

    def see_now(self) -> None:
        self.see((self.rave.view(), self.rave.now))

    def see(self, said: tuple[RoomView, float]) -> None:
        """The bot knows by the server's clock where the video is now, however old the message is."""
        self.heard = view, told_at = said
        view = view._replace(position=view.position + self.rave.now - told_at)
        before = self.scheduler.queue.waiting
        self.scheduler.observe(view, self.rave.now)
        shown = {
            (entry.video.id, entry.asked_at)
            for entry in before
            if view.showing and view.showing.video_url == entry.video.url
        }
        for ticket in shown - set(tickets(self.scheduler.queue)):
            # One showing is that of one entry.
            assert view.showing
            assert self.seen.setdefault(view.showing.instance_id, ticket) == ticket
        self.check([(entry.video.id, entry.asked_at) for entry in before], shown)

    @rule(steps=st.integers(1, 6))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            before = tickets(self.scheduler.queue)
            self.steps = self.steps or self.work()
            if next(self.steps, 0) == 0:
                self.steps = None
            self.check(before, set())

    @rule()
    def crash(self) -> None:
        """The process is killed, and another one begins with what was saved and what the room shows now."""
        before = tickets(self.scheduler.queue)
        self.scheduler = QueueScheduler(Queue.from_json(self.saved, LIMITS))
        self.steps = None
        self.undelivered.clear()
        after = tickets(self.scheduler.queue)
        assert after == self.expected
        # What has begun and was not saved may come again; it is what the room shows now, or has shown meanwhile.
        assert [ticket for ticket in after if ticket in before] == before
        self.see_now()

    @invariant()
    def the_document_is_what_is_in_memory(self) -> None:
        queue = self.scheduler.queue
        assert Queue.from_json(queue.to_json(), LIMITS) == queue
        names = [name for name, _ in tickets(queue)]
        assert len(names) == len(set(names)) <= LIMITS.total

    def teardown(self) -> None:
        """When people leave it alone and nothing fails, all that waits plays, each video once and in order."""
        self.failure = None
        self.undelivered.clear()
        # A queue that waits for another mode or leader gets one: no other step makes Cem the leader.
        self.rave.mode, self.rave.leader = PlayMode.VOTE, CEM
        self.rave.votes.clear()
        self.rave.start(None)
        self.see_now()
        expected = [name for name, _ in tickets(self.scheduler.queue)]
        self.rave.started.clear()
        for _ in range(3000):
            if not self.scheduler.queue.waiting:
                break
            for _ in self.steps or self.work():
                pass
            self.steps = None
            self.pass_time(5.0)
            self.see_now()
        assert [video.id for video in self.rave.started] == expected


TestRoom = Room.TestCase
TestRoom.pytestmark = [pytest.mark.slow]
TestRoom.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
