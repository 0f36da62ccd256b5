"""The state of a room as the messages of one connection give it, and what each message changes; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ravesvc.api.models import Opinion
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
from ravesvc.room.playback import Playback
from ravesvc.room.state import StateMessage

# A server may list kicked users for ever.
_MAX_KICKED = 1000


class RoomTracker:
    """Keeps the state of a room from message to message.

    The first state is no change: a bot that joins has not seen the video begin, the votes come in or users join. It
    is reported as a whole (`RoomKnown`) when a message has said what plays, and includes what earlier messages,
    which lack that part, have said.

    Attributes:
        state: the latest one.
    """

    def __init__(self) -> None:
        self.state = RoomState()
        # While we don't know who was there, there are no joins and no leaves.
        self._users_known = False

    def set_initial_users(self, users: Iterable[int]) -> None:
        """Set the users by a list from Rave's API, unless a state message came first: its list is newer."""
        if not self._users_known:
            self._users_known = True
            self.state = replace(self.state, users=frozenset(users))

    def update(self, message: StateMessage) -> list[Change]:
        """Apply a state message, and return what has changed, in the order in which to report it."""
        before, after = self.state, _next(self.state, message)
        self.state = after
        # The first list of users changes nothing.
        users = list(_users(before, after)) if self._users_known else []
        self._users_known |= message.users is not None
        if not before.known:
            return [RoomKnown(after), *users] if after.known else users
        kicks = [UserKicked(user) for user in sorted(after.kicked - before.kicked)]
        video = _video(before.playback, after.playback)
        return [*kicks, *users, *_modes(before, after), *video, *_votes(before, after)]


def _next(before: RoomState, message: StateMessage) -> RoomState:
    """The state after a message; where it says nothing, all is as it was."""
    report = message.playback
    playback = before.playback if report is None else report.apply(before.playback)
    users = before.users if message.users is None else message.users
    leader = before.leader if message.leader is None else message.leader
    votes = message.votes
    if votes is None:
        votes = tuple(vote for vote in before.votes if vote.url not in message.cleared)
    originator = before.vote_originator if message.vote_originator is None else message.vote_originator
    likes, skips = _opinions(before, message, playback)
    return RoomState(
        known=before.known or (report is not None and report.says_what_plays),
        users=users,
        # A leader who has gone leads no more, even if the message does not say who does.
        leader=leader if leader in users else None,
        play_mode=message.play_mode or before.play_mode,
        playback=playback,
        votes=votes,
        vote_originator=originator or None,
        likes=likes,
        skips=skips,
        kicked=before.kicked if message.kicked is None else frozenset(message.kicked[:_MAX_KICKED]),
    )


def _opinions(
    before: RoomState, message: StateMessage, playback: Playback | None
) -> tuple[frozenset[int], frozenset[int]]:
    """Likes and skips. They are about one playing of a video, and go with it."""
    opinions = message.opinions
    if opinions is not None:
        likes = frozenset(user for user, opinion in opinions.items() if opinion is Opinion.LIKE)
        return likes, frozenset(opinions) - likes
    if before.playback and not (playback and before.playback.same_playing(playback)):
        return frozenset(), frozenset()
    return before.likes, before.skips


def _users(before: RoomState, after: RoomState) -> Iterator[Change]:
    if joined := after.users - before.users:
        yield UsersJoined(joined)
    if left := before.users - after.users:
        yield UsersLeft(left)


def _modes(before: RoomState, after: RoomState) -> Iterator[Change]:
    if before.leader != after.leader:
        yield LeaderChanged(before.leader, after.leader)
    if before.play_mode is not after.play_mode:
        yield PlayModeChanged(before.play_mode, after.play_mode)


def _video(before: Playback | None, after: Playback | None) -> Iterator[Change]:
    if before == after:
        return
    if before and after and before.same_playing(after):
        yield PlaybackChanged(before, after)
    elif before and before.started and after is None:
        yield VideoEnded(before)
    else:
        yield VideoChanged(before, after)


def _votes(before: RoomState, after: RoomState) -> Iterator[Change]:
    if before.votes != after.votes:
        yield VotesChanged(before.votes, after.votes)
    if before.vote_originator != after.vote_originator:
        yield VoteOriginatorChanged(before.vote_originator, after.vote_originator)
    if (before.likes, before.skips) != (after.likes, after.skips):
        yield OpinionsChanged(after.likes, after.skips)
