"""What a room shows at one moment, as far as its queue is concerned. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ravesvc.bot.queue import Showing
from ravesvc.room.playback import Playback, PlayMode
from ravesvc.room.votes import Vote

if TYPE_CHECKING:
    from ravesvc.bot.outbox import RoomLike


class RoomView(NamedTuple):
    """What a room shows at one moment.

    Attributes:
        showing: what plays or is paused; None if nothing is.
        position: seconds into it, at that moment.
        speed: by how many seconds it moves in a second; 0 while paused.
        duration: its length in seconds, if the server sends it.
        mode: how the room finds its next video.
        leader: who leads, if known.
        leads: whether that is the bot.
        own_votes: Rave's URLs that the bot has a vote for.
        other_votes: those that others have.
    """

    showing: Showing | None = None
    position: float = 0.0
    speed: float = 1.0
    duration: float | None = None
    mode: PlayMode = PlayMode.UNKNOWN
    leader: int | None = None
    leads: bool = False
    own_votes: frozenset[str] = frozenset()
    other_votes: frozenset[str] = frozenset()


def view_of(room: RoomLike) -> RoomView:
    """What a room shows now."""
    state, own = room.state, room.own_user_id
    playback = state.playback
    others = frozenset(vote.url for vote in state.votes if _has_other_voters(vote, own))
    votes = frozenset(vote.url for vote in state.votes if own in vote.users)
    view = RoomView(
        mode=state.play_mode,
        leader=state.leader,
        leads=state.leader == own,
        own_votes=votes,
        other_votes=others,
    )
    return _with_video(view, playback, room.server_clock.now()) if playback else view


def _with_video(view: RoomView, playback: Playback, server_now: float) -> RoomView:
    return view._replace(
        showing=Showing(playback.url, playback.video_url, playback.instance_id),
        position=playback.position_at(server_now),
        speed=playback.speed if playback.playing and playback.time is not None else 0.0,
        duration=playback.duration,
    )


def _has_other_voters(vote: Vote, own: int) -> bool:
    """Whether others than the bot have this vote; of many the server may not say who."""
    return bool(vote.users - {own}) or vote.count > max(1, len(vote.users))
