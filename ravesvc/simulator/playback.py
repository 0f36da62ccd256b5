"""What plays in a mesh and what its users want to play: a model with rules, without I/O and without a clock.

Of the real server only the names of its play modes are known. The rules that are played here, for each mode:

VOTE: While nothing plays, a vote starts its video at once. While something plays, votes are collected; a video that
more than half of those present have voted for starts at once. At the end of a video that with the most votes starts,
the one that was voted for first if several have as many; without a vote the mesh waits, with no video.
QUICKPLAY: Each vote starts its video at once. At the end of a video the mesh waits.
AUTOPLAY: As VOTE, but without a vote the server goes on with a video of its own.
LEADER: As QUICKPLAY, but only the leader may vote, play, pause, seek, end the video and clear votes.

In all modes a user has one vote, the last. Those for what starts are used up, the others stay, and those of users who
leave do not count any longer. Votes that are cleared are listed as such until the next video starts. Opinions (like,
skip) are about one playing of one video.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from ravesvc.simulator.clips import Clip
from ravesvc.simulator.fault_options import FaultOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayingVideo:
    """A video that plays: it was at `position` (seconds) at `time` (epoch seconds). `url` is the one voted for."""

    clip: Clip
    url: str
    instance_id: str
    status: str
    position: float
    time: float
    speed: float
    originator: int | None

    def position_at(self, now: float) -> float:
        """Where the video is now, in seconds; never beyond its end."""
        run = (now - self.time) * self.speed if self.status == "PLAY" else 0.0
        return min(self.position + max(0.0, run), self.clip.seconds or float("inf"))

    @property
    def ends_at(self) -> float | None:
        """When it ends by itself, in epoch seconds; None if it does not."""
        if self.clip.seconds is None or self.status != "PLAY" or self.speed <= 0:
            return None
        return self.time + (self.clip.seconds - self.position) / self.speed


def opening(title: str, now: float) -> PlayingVideo:
    """The video that a mesh is made with. No client has registered it, and it has no end."""
    clip = Clip(id="00000000-0000-4000-8000-000000000001", provider="youtube", provider_id="", title=title)
    return PlayingVideo(
        clip=clip,
        url=clip.url("localhost"),
        instance_id="00000000-0000-4000-8000-000000000002",
        status="PLAY",
        position=0.0,
        time=now,
        speed=1.0,
        originator=None,
    )


@dataclass(slots=True)
class Ballot:
    """The votes for a video: who, and when in epoch seconds."""

    url: str
    clip: Clip
    voters: dict[int, float] = field(default_factory=dict)

    @property
    def oldest(self) -> float:
        """When the first of those who still want it has said so."""
        return min(self.voters.values())


class SimulatedPlayback:
    """The video of one mesh. `opening` is what it was made with, shown as the switch `playback` says."""

    def __init__(self, options: FaultOptions, opening: PlayingVideo) -> None:
        self._options = options
        self._opening: PlayingVideo | None = opening
        self._current: PlayingVideo | None = None
        self.ended: PlayingVideo | None = None  # what played before, while nothing does
        self._ballots: dict[str, Ballot] = {}  # by the id of the video
        self.cleared: list[str] = []
        self.opinions: dict[int, str] = {}

    @property
    def mode(self) -> str:
        """The play mode."""
        return self._options.play_mode

    @property
    def current(self) -> PlayingVideo | None:
        """What plays, or is paused."""
        if self._opening is None:
            return self._current
        status = self._options.playback
        return None if status == "none" else replace(self._opening, status=status)

    @property
    def ballots(self) -> list[Ballot]:
        """The votes, those for what starts next first."""
        return sorted(self._ballots.values(), key=lambda ballot: (-len(ballot.voters), ballot.oldest))

    def vote(self, voter: int, clip: Clip, url: str, *, now: float, majority: int) -> bool:
        """A user wants to watch this; returns whether it starts. `majority` users decide at once."""
        self.withdraw(voter)
        ballot = self._ballots.setdefault(clip.id, Ballot(url, clip))
        ballot.voters[voter] = now
        at_once = self.mode in ("QUICKPLAY", "LEADER") or len(ballot.voters) >= majority
        if at_once or self.current is None or self.current.status == "WAIT":
            self._elect(ballot, now)
            return True
        return False

    def withdraw(self, voter: int) -> None:
        """A user's vote does not count any longer."""
        for clip_id, ballot in list(self._ballots.items()):
            ballot.voters.pop(voter, None)
            if not ballot.voters:
                del self._ballots[clip_id]

    def forget(self, user: int) -> None:
        """A user has left."""
        self.withdraw(user)
        self.opinions.pop(user, None)

    def clear(self) -> None:
        """No vote counts any longer."""
        self.cleared += [ballot.url for ballot in self.ballots if ballot.url not in self.cleared]
        self._ballots.clear()

    def _elect(self, ballot: Ballot, now: float) -> None:
        self._ballots.pop(ballot.clip.id)
        self.start(ballot.clip, ballot.url, now=now, originator=next(iter(ballot.voters)))

    def start(self, clip: Clip, url: str, *, now: float, originator: int | None = None) -> None:
        """A video starts."""
        self._begin(
            PlayingVideo(
                clip=clip,
                url=url,
                instance_id=str(uuid.uuid4()),
                status="PLAY",
                position=0.0,
                time=now,
                speed=self._options.playback_speed,
                originator=originator,
            )
        )

    def finish(self, now: float, own: Clip, own_url: str) -> None:
        """The video is at its end; `own` is what the server may go on with."""
        if self._ballots:
            self._elect(self.ballots[0], now)
        elif self.mode == "AUTOPLAY":
            self.start(own, own_url, now=now)
        else:
            self._begin(None)

    def set(self, status: str, position: float, now: float) -> None:
        """The video, if there is one, plays or is paused from this position on."""
        if self.current is not None:
            self._show(replace(self.current, status=status, position=position, time=now))

    def _begin(self, playing: PlayingVideo | None) -> None:
        self.ended = self.current if playing is None else None
        self._show(playing)
        self.cleared.clear()
        self.opinions.clear()

    def _show(self, playing: PlayingVideo | None) -> None:
        self._opening, self._current = None, playing

    def users_of_opinion(self, opinion: str) -> list[int]:
        """Who has said LIKE or SKIP of what plays."""
        return [user for user, said in self.opinions.items() if said == opinion]

    def to_json(self, now: float) -> dict[str, Any]:
        """The playback for the control API; `plays` is null when nothing does."""
        playing = self.current
        return {
            "mode": self.mode,
            "plays": playing
            and {
                "video": playing.clip.provider_id,
                "title": playing.clip.title,
                "url": playing.url,
                "instance": playing.instance_id,
                "status": playing.status,
                "position": round(playing.position_at(now), 3),
                "seconds": playing.clip.seconds,
                "ends_at": playing.ends_at,
                "originator": playing.originator,
            },
            "votes": [
                {"video": b.clip.provider_id, "title": b.clip.title, "url": b.url, "users": list(b.voters)}
                for b in self.ballots
            ],
            "cleared": list(self.cleared),
            "likes": self.users_of_opinion("LIKE"),
            "skips": self.users_of_opinion("SKIP"),
        }
