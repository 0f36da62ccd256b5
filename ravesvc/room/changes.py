"""What is known of a room, and how it changes; no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from ravesvc.room.playback import Playback, PlayMode
from ravesvc.room.votes import Vote

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomState:
    """All that is known of a room. What the server has not sent yet looks as if there were none.

    Attributes:
        known: whether the server has said what plays; until then no `playback` means nothing.
        users: who is there, ourselves too.
        leader: the user who leads; None if there is none.
        play_mode: how the next video is found.
        playback: what plays; None if nothing does.
        votes: for what could play next.
        vote_originator: the user who began to vote.
        likes: users who like the video.
        skips: users who want to skip it.
        kicked: users whom the server lists as thrown out, some of them if it lists many.
    """

    known: bool = False
    users: frozenset[int] = frozenset()
    leader: int | None = None
    play_mode: PlayMode = PlayMode.UNKNOWN
    playback: Playback | None = None
    votes: tuple[Vote, ...] = ()
    vote_originator: int | None = None
    likes: frozenset[int] = frozenset()
    skips: frozenset[int] = frozenset()
    kicked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference(Generic[T]):
    """Something was `before`, and is `after`. One class for all such changes: each dataclass costs a bot 13 KB."""

    before: T
    after: T


@dataclass(frozen=True, slots=True)
class RoomKnown:
    """The server has said what plays. Of the changes of a connection, only joins and leaves may come before."""

    state: RoomState


@dataclass(frozen=True, slots=True)
class UsersJoined:
    """Users came."""

    users: frozenset[int]


@dataclass(frozen=True, slots=True)
class UsersLeft:
    """Users went."""

    users: frozenset[int]


@dataclass(frozen=True, slots=True)
class UserKicked:
    """Another user than the bot was kicked. `UsersLeft` reports that the user is gone, now or later."""

    user: int


class LeaderChanged(Difference[int | None]):
    """Another user leads, or none does."""

    __slots__ = ()


class PlayModeChanged(Difference[PlayMode]):
    """The next video will be found in another way."""

    __slots__ = ()


class VideoChanged(Difference[Playback | None]):
    """Another video is on, or the same one anew. `after` is None if one was taken off that had never played."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class VideoEnded:
    """A video has played, and nothing plays now: it came to its end or was stopped. `playback` is how it last was."""

    playback: Playback


class PlaybackChanged(Difference[Playback]):
    """The same video was paused, resumed, moved to another position, or given another speed."""

    __slots__ = ()


class VotesChanged(Difference[tuple[Vote, ...]]):
    """Other votes than before."""

    __slots__ = ()


class VoteOriginatorChanged(Difference[int | None]):
    """Another user began to vote, or there is none any more."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OpinionsChanged:
    """Other users than before like the video or want to skip it."""

    likes: frozenset[int]
    skips: frozenset[int]


Change: TypeAlias = (
    RoomKnown
    | UsersJoined
    | UsersLeft
    | UserKicked
    | LeaderChanged
    | PlayModeChanged
    | VideoChanged
    | VideoEnded
    | PlaybackChanged
    | VotesChanged
    | VoteOriginatorChanged
    | OpinionsChanged
)
