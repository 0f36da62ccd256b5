"""Decides what to do about a room's queue: vote for the next video, wait for something, or say why it can't. Pure.

It decides by what the room shows now, not by what has happened: after a message that is lost, late or comes twice,
the next one corrects it. Some orders of events that it is made for:

    vote, crash, restart: the document has the entry as requested. If the room shows it, it has started, else it is
        voted for again, which changes nothing if the first vote counts.
    vote, users' own video starts: the entry stays requested, and gets its vote when that video has ended.
    vote, no video: the vote may not be enough, or not count. It is said once, and tried again when the room changes.
    end of the video, users' votes: Rave starts the one that they want. If nothing starts, the queue goes on.
    vote, cleared by a user, answer: the room has lost the vote before the bot knows that Rave took it. The bot votes
        again, as after any other clearing.
    vote, removed: a vote can't be taken back, only be given to another video. So the next entry gets it at once. If
        there is none, and the removed video starts although no user has voted for it, it is to be skipped.

In the play mode AUTOPLAY Rave goes on by itself when a video ends, so the vote has to be there before.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

from ravesvc.api import failures
from ravesvc.bot.queue import Queue, QueueEntry, QueueLimits, QueueRequest, Removed, Showing, same_url, shows
from ravesvc.bot.room_view import RoomView
from ravesvc.common.translation import gettext as _
from ravesvc.common.video import Video
from ravesvc.errors import Code, RaveError
from ravesvc.room.playback import PlayMode

# Between two videos of Rave's own choice there may be a moment without any.
_FREE_S = 1.0
# What the provider says of the length is rounded, and our idea of the server's clock is not exact.
_PAST_END_S = 2.0
_BEFORE_END_S = 15.0
# For users to agree on a video of their own, when nothing plays.
_YIELD_S = 30.0
# From a vote until the video is on, or the room shows the vote.
_START_S = 20.0
_CLEARED_S = 10.0
_MAX_VOTES = 3
_MAX_CLEARED = 3
_FIRST_RETRY_S, _MAX_RETRY_S = 5.0, 300.0
_RETRIES_BEFORE_NOTICE = 3
_MAX_RETRIES = 10
# More is no replay, but an old message.
_REWOUND_S = 5.0

FORBIDDING = frozenset({Code.FORBIDDEN, Code.REFUSED, Code.ACCESS_DENIED})
_ABOUT_THE_VIDEO = frozenset({Code.INVALID_ARGUMENT, Code.BAD_REQUEST, Code.NOT_FOUND, Code.TOO_LARGE})
# A server may answer so because of the video, or for a reason of its own.
_MAYBE_ABOUT_THE_VIDEO = frozenset({Code.SERVER_ERROR, Code.BAD_DATA})
# After these Rave may have done what was asked, or not.
_UNCERTAIN = _MAYBE_ABOUT_THE_VIDEO | {Code.NETWORK, Code.TIMEOUT, Code.TLS, Code.UNAUTHORIZED, Code.CLOSED}
# Modes in which a vote starts its video at once, even while another video plays.
VOTE_STARTS = frozenset({PlayMode.QUICKPLAY, PlayMode.LEADER})


class NoticeKind(StrEnum):
    """What the room should know."""

    STARTED = "started"  # an entry of the queue plays
    GIVEN_UP = "given up"  # an entry was taken out of the queue, because it can't play
    FORBIDDEN = "forbidden"  # the bot may not play anything; the queue waits
    LEADER_ONLY = "leader only"  # likewise, because of the play mode
    NOT_STARTED = "not started"  # votes have had no effect; the queue waits
    CLEARED = "cleared"  # votes were cleared; the bot votes again
    CLEARED_TOO_OFTEN = "cleared too often"  # likewise, but the queue waits
    CHOICE_CLEARED = "choice cleared"  # the votes for a video past the queue were cleared
    UNREACHABLE = "unreachable"  # Rave does not answer; the bot tries again


class Notice(NamedTuple):
    """Something that the room should know, once. `why` is a failure in words, or empty."""

    kind: NoticeKind
    entry: QueueEntry
    why: str = ""


class Play(NamedTuple):
    """Register the video of the request, if it has no URL yet, and vote for it."""

    request: QueueRequest


class Wait(NamedTuple):
    """Nothing to do until then, or until something happens; `math.inf` if only that."""

    until: float


class Circumstances(NamedTuple):
    """What Rave decides by whether the bot may play or skip something."""

    url: str
    instance_id: str
    mode: PlayMode
    leader: int | None


class QueueScheduler:
    """The queue of one room, and what is going on there. All times are seconds of one monotonic clock.

    Attributes:
        queue: what is to be kept.
        stalled: why the queue waits until the room changes; None while it goes on.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._notices: list[Notice] = []
        self._notified: set[NoticeKind] = set()
        self._view: RoomView | None = None
        self._viewed_at = 0.0
        self._free_since: float | None = None
        # A video that the room still shows although it was skipped, and its position at that moment.
        self._skipped: Showing | None = None
        self._skipped_position = 0.0
        self._asked_in: Circumstances | None = None  # those of the last `Play`
        self._registered = ""  # a URL of this process's own
        self._votes = 0
        self._start_due = 0.0
        self.stalled: Notice | None = None
        self._cleared = 0
        self._yielding_since: float | None = None
        # When the room has last shown the bot's vote for a video past the queue, by Rave's URL.
        self._vote_shown_at: dict[str, float] = {}
        # The entry of the last `Play` was removed, perhaps while its vote was on the way.
        self._play_removed = False
        # The room has lost a vote for the entry of the last `Play`, whose answer is on the way.
        self._play_cleared = False
        self._unwanted: tuple[Removed, Showing] | None = None
        self._retries = 0
        self._retry_at = 0.0

    # What happens in the room.

    def observe(self, view: RoomView, now: float) -> None:
        """Take in what the room shows now."""
        before, self._view, self._viewed_at = self._view, view, now
        if self._skipped and not self._still_skipped(view):
            self._skipped = None
        if before is None or _circumstances(before) != _circumstances(view):
            self._reset_attempts()
        elif before.own_votes - view.own_votes:
            self._handle_lost_votes(before.own_votes - view.own_votes, now)
        self._drop_lost_votes(before, now)
        if view.showing is None or self._is_over(now):
            self._free_since = now if self._free_since is None else self._free_since
            return
        self._free_since = None
        self._update_playing(view.showing)
        self._detect_removed_playing(before, view.showing)

    def disconnected(self) -> None:
        """Forget what the room shows: the connection is gone."""
        self._view = None
        self._vote_shown_at.clear()

    def _update_playing(self, showing: Showing) -> None:
        waiting = self.queue.waiting
        self.queue = self.queue.started(showing)
        started = [entry for entry in waiting if self.queue.position(entry.video) is None]
        if started:
            self._notified.clear()
            self._cleared = self._retries = 0
            self._reset_attempts()
            self._notices.append(Notice(NoticeKind.STARTED, started[0]))

    def _detect_removed_playing(self, before: RoomView | None, showing: Showing) -> None:
        """What was removed is not to play by the bot's vote."""
        removed = self.queue.removed
        if removed is None or not removed.is_shown_by(showing):
            return
        self.queue = self.queue._replace(removed=None)
        wanted = before is not None and any(same_url(removed.url, url) for url in before.other_votes)
        if not wanted and not self.queue.shows_own(showing):
            self._unwanted = removed, showing

    def _drop_lost_votes(self, before: RoomView | None, now: float) -> None:
        """Forget videos past the queue, and the removed one, for which the room no longer shows the bot's vote."""
        assert self._view, "it was just seen"
        shown = self._view.own_votes | (before.own_votes if before else frozenset())
        removed = self.queue.removed
        urls = [*(request.url for request in self.queue.chosen), *([removed.url] if removed else [])]
        self._vote_shown_at = {
            url: now if any(same_url(url, other) for other in shown) else self._vote_shown_at.get(url, now)
            for url in urls
        }
        lost = {url for url, shown_at in self._vote_shown_at.items() if now >= shown_at + _START_S}
        if lost:
            chosen = tuple(request for request in self.queue.chosen if request.url not in lost)
            self.queue = self.queue._replace(
                chosen=chosen, removed=None if removed and removed.url in lost else removed
            )

    def _handle_lost_votes(self, lost: frozenset[str], now: float) -> None:
        """The room has cleared votes of the bot. A vote that the bot has moved itself to another video is no loss."""
        if self._view and self._view.own_votes:
            return
        requested = self.queue.requested
        if requested and any(same_url(requested.url, url) for url in lost):
            if self._votes:
                self._note_cleared(now)
            else:
                self._play_cleared = True
        for request in self.queue.chosen:
            if any(same_url(request.url, url) for url in lost):
                self._notices.append(Notice(NoticeKind.CHOICE_CLEARED, request.entry))

    def _note_cleared(self, now: float) -> None:
        self._cleared += 1
        self._votes, self._start_due = 0, 0.0
        # Perhaps it was elected, and the message that says so comes next.
        self._retry_at = max(self._retry_at, now + _CLEARED_S)

    # What to do.

    def next_action(self, now: float) -> Play | Wait:
        """What to do now. After `Play`, report the result (`voted`, `register_failed`, ...) before the next call."""
        if self._view is None or not self.queue.waiting or self.stalled:
            return Wait(math.inf)
        until = max(self._vote_at(self._view, now), self._start_due, self._retry_at)
        if until > now:
            return Wait(until)
        self.queue = self.queue.request_next(self._last_instance())
        request = self.queue.requested
        assert request, "there are entries"
        if self._votes >= _MAX_VOTES:
            self._stall(Notice(NoticeKind.NOT_STARTED, request.entry))
            return Wait(math.inf)
        if self._cleared >= _MAX_CLEARED:
            self._stall(Notice(NoticeKind.CLEARED_TOO_OFTEN, request.entry))
            return Wait(math.inf)
        if self._cleared and not self._votes:
            self._notify_once(Notice(NoticeKind.CLEARED, request.entry))
        self._asked_in = _circumstances(self._view)
        self._play_removed = self._play_cleared = False
        return Play(request)

    def pop_notices(self) -> list[Notice]:
        """What the room should know and was not told yet; each notice is returned once."""
        notices, self._notices = self._notices, []
        return notices

    def pop_unwanted(self) -> tuple[Removed, Showing] | None:
        """What plays by the bot's vote although it was removed; returned once."""
        unwanted, self._unwanted = self._unwanted, None
        return unwanted

    def is_free(self, now: float) -> bool:
        """Whether nothing plays, and nothing is about to."""
        return self._view is not None and (self._view.showing is None or self._is_over(now))

    def starts_at_once(self, now: float) -> bool:
        """Whether a video that comes into the queue is about to play, as far as one can tell."""
        may_start = self._view is not None and (self._view.mode is not PlayMode.LEADER or self._view.leads)
        return may_start and self.is_free(now) and not self.queue.waiting

    def _vote_at(self, view: RoomView, now: float) -> float:
        """When the queue may vote."""
        if self.queue.removed and view.mode not in VOTE_STARTS:
            return -math.inf
        by_hand = self._votes_by_hand(view)
        if view.showing and not self._is_over(now):
            self._yielding_since = None
            return self._vote_at_while_playing(view, by_hand=bool(by_hand))
        free_since = self._viewed_at if self._free_since is None else self._free_since
        if not by_hand:
            self._yielding_since = None
            return now if view.showing else free_since + _FREE_S
        if self._yielding_since is None:
            self._yielding_since = now
        return self._yielding_since + _YIELD_S

    def _vote_at_while_playing(self, view: RoomView, *, by_hand: bool) -> float:
        end = self._end(view)
        if view.mode is PlayMode.AUTOPLAY and not by_hand and not self._votes:
            # If the end is not known, vote at once.
            return -math.inf if end == math.inf else end - _BEFORE_END_S
        return end + _PAST_END_S

    def _votes_by_hand(self, view: RoomView) -> frozenset[str]:
        """What users want to see: they vote themselves, or have the bot vote past the queue."""
        requested = self.queue.requested.url if self.queue.requested else ""
        chosen = {url for url in view.own_votes if any(same_url(request.url, url) for request in self.queue.chosen)}
        return frozenset(url for url in view.other_votes | chosen if not same_url(url, requested))

    def _end(self, view: RoomView) -> float:
        """When what plays is at its end, by the length of its video; never if that is not known, or it is paused."""
        own = self.own_playing()
        seconds = view.duration or (own.video.seconds if own else None)
        if view.showing is None or seconds is None:
            return math.inf
        left = seconds - view.position
        if view.speed > 0:
            # The result may lie in the past. If it were at least now, each look would put the end off.
            return self._viewed_at + left / view.speed
        return math.inf if left > 0 else -math.inf

    def _is_over(self, now: float) -> bool:
        """Whether what is shown is over all the same."""
        return self._skipped is not None or self._is_past_end(now)

    def _is_past_end(self, now: float) -> bool:
        return self._view is not None and now >= self._end(self._view) + _PAST_END_S

    def _still_skipped(self, view: RoomView) -> bool:
        if self._skipped is None or view.showing is None or not self._skipped.is_same(view.showing):
            return False
        return view.position > self._skipped_position - _REWOUND_S

    # How it went.

    def registered(self, video: Video, url: str) -> None:
        """Rave knows the video under this URL."""
        self._registered = url
        self.queue = self.queue.registered(video, url, self._last_instance())

    def voted(self, video: Video, url: str, now: float) -> None:
        """Rave has taken the vote, in the place of any other."""
        self.queue = self.queue.voted()
        if self._is_requested(video):
            self._retries = 0
            if self._play_cleared:
                self._note_cleared(now)
            else:
                self._votes += 1
                self._start_due = now + _START_S
        elif self._play_removed:
            self._remember_removed(video, url)

    def register_failed(self, video: Video, error: RaveError, now: float) -> None:
        """Rave has not registered the video."""
        if self._is_requested(video):
            if error.code in _ABOUT_THE_VIDEO:
                self._give_up(video, error)
            else:
                self._fail(video, error, now)

    def vote_failed(self, video: Video, error: RaveError, now: float) -> None:
        """Rave has not taken the vote."""
        request = self.queue.requested
        if request is None or not self._is_requested(video):
            return
        if error.code not in _ABOUT_THE_VIDEO:
            self._fail(video, error, now)
        elif request.url == self._registered:
            self._give_up(video, error)
        else:
            # Rave may have forgotten what an earlier process has registered.
            self.queue = self.queue._replace(requested=request._replace(url=""))

    def _fail(self, video: Video, error: RaveError, now: float) -> None:
        assert self.queue.requested, "it was asked about"
        entry = self.queue.requested.entry
        if error.code in FORBIDDING and self._view and _circumstances(self._view) != self._asked_in:
            # The room has changed since the request: try again now, as no further change need come.
            return
        if error.code in FORBIDDING:
            by_mode = self._view is not None and self._view.mode is PlayMode.LEADER
            kind = NoticeKind.LEADER_ONLY if by_mode else NoticeKind.FORBIDDEN
            self._stall(Notice(kind, entry, error.message))
            return
        self._retries += 1
        if self._retries >= _MAX_RETRIES and error.code in _MAYBE_ABOUT_THE_VIDEO:
            self._give_up(video, error)
            return
        delay = min(_FIRST_RETRY_S * 2.0 ** min(self._retries - 1, 10), _MAX_RETRY_S)
        self._retry_at = now + max(delay, failures.pause(error) or 0.0)
        if self._retries == _RETRIES_BEFORE_NOTICE:
            self._notify_once(Notice(NoticeKind.UNREACHABLE, entry, error.message))

    def _give_up(self, video: Video, error: RaveError) -> None:
        assert self.queue.requested, "it was asked about"
        self._notices.append(Notice(NoticeKind.GIVEN_UP, self.queue.requested.entry, error.message))
        self._retries = 0
        self.remove(video)

    def _is_requested(self, video: Video) -> bool:
        return self.queue.requested is not None and self.queue.requested.entry.video.key == video.key

    # What users want.

    def plays(self, video: Video, now: float) -> bool:
        """Whether the room shows this video, as far as one can tell."""
        if self._view is None or self._view.showing is None or self._is_over(now):
            return False
        own = self.own_playing()
        return shows(self._view.showing, video) or (own is not None and own.video.key == video.key)

    @property
    def view(self) -> RoomView | None:
        """What the room shows; None if that is not known."""
        return self._view

    @property
    def mode(self) -> PlayMode:
        """The play mode."""
        return self._view.mode if self._view else PlayMode.UNKNOWN

    @property
    def circumstances(self) -> Circumstances | None:
        """Those of now; None if what the room shows is not known."""
        return _circumstances(self._view) if self._view else None

    def shown(self, now: float) -> Showing | None:
        """What plays, also if it was skipped in vain; None if nothing does, or it is past its end."""
        return self._view.showing if self._view and not self._is_past_end(now) else None

    @property
    def voted_for(self) -> QueueEntry | None:
        """The next entry, if Rave has taken the bot's vote for it, under the circumstances of now."""
        return self.queue.requested.entry if self.queue.requested and self._votes else None

    def own_playing(self) -> QueueEntry | None:
        """What is shown, if it was asked for by way of the bot."""
        showing = self._view.showing if self._view else None
        return self.queue.playing.entry if showing and self.queue.playing and self.queue.shows_own(showing) else None

    def add(self, entry: QueueEntry, limits: QueueLimits, now: float) -> None:
        """Put an entry into the queue.

        Raises what `Queue.add` does, and the same for what plays now.
        """
        if self.plays(entry.video, now):
            raise RaveError(Code.INVALID_ARGUMENT, _("that video plays now"))
        begins = not self.queue.waiting and (self.own_playing() is None or self._is_over(now))
        queue = self.queue.begin_round() if begins else self.queue
        self.queue = queue.add(entry, limits)
        if self.stalled:
            self._reset_attempts()

    def remove(self, video: Video) -> None:
        """Take a video out of the queue."""
        if self._is_requested(video):
            self._give_up_request()
        self.queue = self.queue.remove(video)

    def clear(self) -> None:
        """Take everything out of the queue."""
        self._give_up_request()
        self.queue = self.queue.clear()
        self._retries, self._retry_at = 0, 0.0

    def forget_user(self, user: int) -> None:
        """Remove all entries of a user."""
        left = self.queue.without_user(user)
        if left == self.queue:
            return
        if self.queue.requested and left.requested is None:
            self._give_up_request()
            left = left._replace(removed=self.queue.removed)
        self.queue = left
        self._reset_attempts()

    def _give_up_request(self) -> None:
        """Drop the requested entry; if Rave may have the bot's vote for it, remember it as removed."""
        request = self.queue.requested
        self._play_removed = self._play_removed or request is not None
        own_votes = self._view.own_votes if self._view else frozenset()
        if request and (self._votes or any(same_url(request.url, url) for url in own_votes)):
            self._remember_removed(request.entry.video, request.url)
        self._reset_attempts()

    def _remember_removed(self, video: Video, url: str) -> None:
        self.queue = self.queue._replace(removed=Removed(video, url, self._last_instance()))

    def choose(self, entry: QueueEntry, url: str) -> None:
        """A command is about to vote for a video past the queue."""
        self.queue = self.queue.choose(entry, url, self._last_instance())

    def chosen(self, entry: QueueEntry) -> QueueEntry | None:
        """Rave has taken that vote; returns the choice before, if the vote takes its place."""
        known = next((request for request in self.queue.chosen if request.entry == entry), None)
        others = [request.entry for request in self.queue.chosen if request.entry.video.key != entry.video.key]
        # A choice that plays already is no longer among them.
        self.queue = self.queue.voted(*([known] if known else []))
        self._votes = 0
        return others[-1] if others else None

    def choice_failed(self, entry: QueueEntry, error: RaveError) -> None:
        """Rave has not taken that vote, or may not have."""
        if error.code not in _UNCERTAIN or error.attributes.get("unsent"):
            left = tuple(request for request in self.queue.chosen if request.entry != entry)
            self.queue = self.queue._replace(chosen=left)

    def skip(self) -> None:
        """Treat what is shown as over."""
        if self._view and self._view.showing:
            self._skipped = self._view.showing
            self._skipped_position = self._view.position
            self._reset_attempts()

    def _last_instance(self) -> str:
        showing = self._view.showing if self._view else None
        if showing is None and self.queue.playing:
            showing = self.queue.playing.showing
        return showing.instance_id if showing else ""

    def _reset_attempts(self) -> None:
        """Forget failed attempts: under the new circumstances they may succeed."""
        self._votes, self._start_due, self.stalled = 0, 0.0, None

    def _stall(self, notice: Notice) -> None:
        self.stalled = notice
        self._cleared = 0
        self._notify_once(notice)

    def _notify_once(self, notice: Notice) -> None:
        """Add a notice, unless the room got one of its kind since an entry last started."""
        if notice.kind not in self._notified:
            self._notified.add(notice.kind)
            self._notices.append(notice)


def _circumstances(view: RoomView) -> Circumstances:
    showing = view.showing or Showing("")
    return Circumstances(showing.url, showing.instance_id, view.mode, view.leader)
