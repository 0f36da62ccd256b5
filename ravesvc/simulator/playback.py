"""The current video of a mesh and the votes for the next: a model with rules, without I/O and without a clock.

Of the real server only the names of its play modes are known. The simulator uses these rules for each mode:

VOTE: While nothing plays, a vote starts its video at once. While something plays, votes are collected; a video that
more than half of those present have voted for starts at once. At the end of a video that with the most votes starts,
the one that was voted for first if several have as many; without a vote the mesh waits, with no video.
QUICKPLAY: Each vote starts its video at once. At the end of a video the mesh waits.
AUTOPLAY: As VOTE, but without a vote the server goes on with a video of its choice.
LEADER: As QUICKPLAY, but only the leader may vote, play, pause, seek, end the video and clear votes.

In all modes a user has one vote, the last. When a video starts, the votes for it are removed and the others stay. A
user who leaves takes the vote along. Votes that are cleared are listed as such until the next video starts. Opinions
(like, skip) are about one playing of one video.
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


def initial_video(title: str, now: float) -> PlayingVideo:
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
    """The votes for a video: user ids with the time of each vote in epoch seconds."""

    url: str
    clip: Clip
    voters: dict[int, float] = field(default_factory=dict)

    @property
    def oldest_vote_at(self) -> float:
        """The time of the oldest vote that still counts, in epoch seconds."""
        return min(self.voters.values())


class SimulatedPlayback:
    """The video of one mesh, which begins with `initial_video` in the status of the fault option `playback`."""

    def __init__(self, options: FaultOptions, initial_video: PlayingVideo) -> None:
        self._options = options
        self._initial: PlayingVideo | None = initial_video
        self._current: PlayingVideo | None = None
        self.ended: PlayingVideo | None = None  # the last video, while none plays
        self._ballots: dict[str, Ballot] = {}  # by the id of the video
        self.cleared: list[str] = []
        self.opinions: dict[int, str] = {}

    @property
    def mode(self) -> str:
        """The play mode."""
        return self._options.play_mode

    @property
    def current(self) -> PlayingVideo | None:
        """The video that plays or is paused."""
        if self._initial is None:
            return self._current
        status = self._options.playback
        return None if status == "none" else replace(self._initial, status=status)

    @property
    def ballots(self) -> list[Ballot]:
        """The votes, first those for the video that starts next."""
        return sorted(self._ballots.values(), key=lambda ballot: (-len(ballot.voters), ballot.oldest_vote_at))

    def vote(self, voter: int, clip: Clip, url: str, *, now: float, majority: int) -> bool:
        """A user votes for this video; returns whether it starts. With `majority` votes it starts at once."""
        self.withdraw(voter)
        ballot = self._ballots.setdefault(clip.id, Ballot(url, clip))
        ballot.voters[voter] = now
        at_once = self.mode in ("QUICKPLAY", "LEADER") or len(ballot.voters) >= majority
        if at_once or self.current is None or self.current.status == "WAIT":
            self._start_ballot(ballot, now)
            return True
        return False

    def withdraw(self, voter: int) -> None:
        """Remove the vote of a user."""
        for clip_id, ballot in list(self._ballots.items()):
            ballot.voters.pop(voter, None)
            if not ballot.voters:
                del self._ballots[clip_id]

    def remove_user(self, user: int) -> None:
        """Remove the vote and the opinion of a user who has left."""
        self.withdraw(user)
        self.opinions.pop(user, None)

    def clear_votes(self) -> None:
        """Remove all votes, and list them as cleared."""
        self.cleared += [ballot.url for ballot in self.ballots if ballot.url not in self.cleared]
        self._ballots.clear()

    def _start_ballot(self, ballot: Ballot, now: float) -> None:
        self._ballots.pop(ballot.clip.id)
        self.start(ballot.clip, ballot.url, now=now, originator=next(iter(ballot.voters)))

    def start(self, clip: Clip, url: str, *, now: float, originator: int | None = None) -> None:
        """Start a video."""
        self._replace_current(
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

    def finish(self, now: float, choice: Clip, choice_url: str) -> None:
        """End the video; `choice` is the next one in the mode AUTOPLAY without votes."""
        if self._ballots:
            self._start_ballot(self.ballots[0], now)
        elif self.mode == "AUTOPLAY":
            self.start(choice, choice_url, now=now)
        else:
            self._replace_current(None)

    def set_state(self, status: str, position: float, now: float) -> None:
        """Play or pause the current video, if there is one, from this position in seconds."""
        if self.current is not None:
            self._set_current(replace(self.current, status=status, position=position, time=now))

    def _replace_current(self, playing: PlayingVideo | None) -> None:
        self.ended = self.current if playing is None else None
        self._set_current(playing)
        self.cleared.clear()
        self.opinions.clear()

    def _set_current(self, playing: PlayingVideo | None) -> None:
        self._initial, self._current = None, playing

    def users_of_opinion(self, opinion: str) -> list[int]:
        """The ids of the users whose opinion of the current video is LIKE or SKIP."""
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
