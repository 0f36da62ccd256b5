"""What plays in a room: the video, where in it the room is, and how a partial report of it is read; no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

PLAYING = "PLAY"
PAUSED = "PAUS"
# With these, nothing plays although the message may still name the last video. Only VOTE has been seen on the wire.
# WAIT is none of them: a video that waits for its viewers is still there. Nor is any other word: better to wait for
# the next message than to take a running video for one that is over.
_OVER = frozenset({"VOTE", "END", "ENDED", "STOP", "STOPPED", "DONE", "IDLE", "NONE"})


class PlayMode(StrEnum):
    """How a room finds its next video; UNKNOWN is any other word, or none so far."""

    VOTE = "VOTE"
    QUICKPLAY = "QUICKPLAY"
    AUTOPLAY = "AUTOPLAY"
    LEADER = "LEADER"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Playback:
    """A video in a room. Texts are empty while unknown.

    Attributes:
        url: Rave's URL of the video, the one that votes have.
        video_url: where the video comes from; it may change while the video runs.
        instance_id: names this playing of the video; another one means that the video was put on again.
        status: PLAY, PAUS, WAIT, or another word of the server's, in upper case.
        position: seconds into the video at `time`.
        time: when status and position were set, in seconds since the epoch by the server's clock; None if unknown.
        speed: 1.0 is normal.
        duration: seconds of the whole video, None if unknown; no server is known to send it.
        started: whether it has played or been paused, as far as we have seen.
    """

    url: str = ""
    video_url: str = ""
    instance_id: str = ""
    status: str = ""
    position: float = 0.0
    time: float | None = None
    speed: float = 1.0
    duration: float | None = None
    started: bool = False

    @property
    def playing(self) -> bool:
        """Whether the position moves."""
        return self.status == PLAYING

    def position_at(self, server_now: float) -> float:
        """Seconds into the video at a moment of the server's clock; it may lie past the end of the video."""
        if not self.playing or self.time is None:
            return self.position
        # Nothing is set in the future: if it seems so, our idea of the server's clock is behind.
        return self.position + max(0.0, server_now - self.time) * self.speed

    def same_playing(self, other: Playback) -> bool:
        """Whether `other` is not known to be another video, or another playing of this one."""
        pairs = [(self.instance_id, other.instance_id), (self.url, other.url)]
        known = [(ours, theirs) for ours, theirs in pairs if ours and theirs]
        if not known and self.video_url and other.video_url:
            return self.video_url == other.video_url
        return all(ours == theirs for ours, theirs in known)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackReport:
    """What one message says about the video. None and empty texts say nothing; `no_video` says that there is none."""

    no_video: bool = False
    url: str = ""
    video_url: str = ""
    instance_id: str = ""
    status: str = ""
    position: float | None = None
    time: float | None = None
    speed: float | None = None
    duration: float | None = None

    @property
    def says_what_plays(self) -> bool:
        """Whether one can tell from it alone which video there is, or that there is none."""
        return self.over or bool(self.url or self.video_url or self.instance_id)

    @property
    def over(self) -> bool:
        """Whether nothing plays.

        These are the known ways in which a video ends:
            PLAY video, then a state without a video (status WAIT and no url, or an empty url);
            PLAY video, then the same video with status VOTE: people are to choose the next;
            PLAY video, then another instance id: the next has begun, and no state lies in between.
        A video that waits for its viewers is not over, nor is one whose position lies past its end: only those who
        know its length can judge that.
        """
        return self.no_video or self.status in _OVER

    def apply(self, before: Playback | None) -> Playback | None:
        """What plays after this message, when `before` did; what it leaves out is as it was, if it is the same."""
        if self.over:
            return None
        after = Playback(
            url=self.url,
            video_url=self.video_url,
            instance_id=self.instance_id,
            status=self.status,
            position=self.position or 0.0,
            time=self.time,
            speed=1.0 if self.speed is None else self.speed,
            duration=self.duration,
        )
        if before is None:
            return _started(after) if self.says_what_plays else None
        return _started(self._completed(after, before) if before.same_playing(after) else after)

    def _completed(self, after: Playback, before: Playback) -> Playback:
        position, time = self._moment(before)
        return replace(
            after,
            url=self.url or before.url,
            video_url=self.video_url or before.video_url,
            instance_id=self.instance_id or before.instance_id,
            status=self.status or before.status,
            position=position,
            time=time,
            speed=before.speed if self.speed is None else self.speed,
            duration=before.duration if self.duration is None else self.duration,
            started=before.started,
        )

    def _moment(self, before: Playback) -> tuple[float, float | None]:
        """Position and time, which belong together: half of a message and half of an older one make no pair."""
        if self.position is not None:
            return self.position, self.time
        if self.time is not None:
            return before.position_at(self.time), self.time
        if not self.status or (self.status == PLAYING) == before.playing:
            return before.position, before.time
        return before.position, None


def _started(playback: Playback) -> Playback:
    return replace(playback, started=True) if playback.status in (PLAYING, PAUSED) else playback
