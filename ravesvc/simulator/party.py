"""The actions of users on a mesh and its video, and the timers that end videos."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import catalogue
from ravesvc.simulator.clips import Clip
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.playback import PlayingVideo
from ravesvc.simulator.world import World


class Timer(Protocol):
    """A call that is scheduled for later."""

    def cancel(self) -> None:
        """Drop the call."""


CallLater = Callable[[float, Callable[[], None]], Timer]


def _call_later(seconds: float, action: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, action)


class Party:
    """Applies the actions of users if they are allowed, and sends the new state to all sockets.

    `call_later` schedules a call after some seconds.

    Raises `RaveError`: Forbidden for an action that the user may not do, NotFound for a video or user that is not
    there.
    """

    def __init__(self, world: World, call_later: CallLater = _call_later) -> None:
        self._world = world
        self._call_later = call_later
        self._end_timers: dict[str, Timer] = {}  # by mesh

    def close(self) -> None:
        """Cancel the timers that end videos."""
        for timer in self._end_timers.values():
            timer.cancel()
        self._end_timers.clear()

    # The video.

    def vote(self, mesh: SimulatedMesh, user: SimulatedUser, clip: Clip, url: str) -> None:
        """A user votes for a video; `url` is the one in the vote."""
        _require_present(mesh, user)
        if mesh.playback.mode == "LEADER":
            _require_leader(mesh, user)
        self._world.log.record("vote", mesh=mesh.id, user=user.handle, video=clip.provider_id, title=clip.title)
        now = self._world.clock()
        self._publish(mesh, started=mesh.playback.vote(user.id, clip, url, now=now, majority=mesh.majority))

    def clear_votes(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """A user clears all votes."""
        self._require_control(mesh, user)
        mesh.playback.clear_votes()
        self._world.log.record("votes cleared", mesh=mesh.id, user=user.handle)
        self._publish(mesh)

    def set_opinion(self, mesh: SimulatedMesh, user: SimulatedUser, opinion: str | None) -> None:
        """A user likes the video (LIKE), votes to skip it (SKIP), or withdraws either (None)."""
        _require_present(mesh, user)
        self._playing(mesh)
        opinions = mesh.playback.opinions
        opinions.pop(user.id, None)
        if opinion is not None:
            opinions[user.id] = opinion
        self._world.log.record("opinion", mesh=mesh.id, user=user.handle, opinion=opinion)
        obeyed = self._world.options.skips == "obeyed"
        if obeyed and len(mesh.playback.users_of_opinion("SKIP")) >= mesh.majority:
            self._finish(mesh)
        else:
            self._publish(mesh)

    def set_playback(
        self, mesh: SimulatedMesh, user: SimulatedUser, *, status: str | None = None, position: float | None = None
    ) -> None:
        """A user plays (PLAY), pauses (PAUS) or moves the video to a position in seconds."""
        self._require_control(mesh, user)
        playing, now = self._playing(mesh), self._world.clock()
        position = playing.position_at(now) if position is None else position
        mesh.playback.set_state(status or playing.status, position, now)
        self._world.log.record("playback", mesh=mesh.id, user=user.handle, status=status, position=position)
        self._publish(mesh)

    def end_video(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """A user ends the video, if one plays."""
        self._require_control(mesh, user)
        if mesh.playback.current is not None:
            self._finish(mesh)

    def set_video(self, mesh: SimulatedMesh, clip: Clip | None) -> None:
        """Start a video, or end the current one, without an action of a user."""
        if clip is None:
            self._finish(mesh)
        else:
            mesh.playback.start(clip, clip.url(self._world.server), now=self._world.clock())
            self._publish(mesh, started=True)

    # Users.

    def transfer_leadership(self, mesh: SimulatedMesh, user: SimulatedUser, successor: SimulatedUser) -> None:
        """The leader makes another user the leader."""
        _require_leader(mesh, user)
        self.make_leader(mesh, successor)

    def make_leader(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """Make a user the leader, without an action of the former leader."""
        if user.peer_id not in mesh.present:
            raise RaveError(Code.NOT_FOUND, f"{user.handle} is not in the mesh")
        mesh.successor = user.peer_id
        self._world.log.record("leader", mesh=mesh.id, user=user.handle)
        self._world.broadcast_state(mesh)

    def kick(self, mesh: SimulatedMesh, user: SimulatedUser, kicked: list[SimulatedUser]) -> None:
        """The leader kicks users; those who are not in the mesh are ignored."""
        _require_leader(mesh, user)
        for one in kicked:
            if one.peer_id in mesh.present:
                self._world.kick(mesh, one)

    def mute(self, mesh: SimulatedMesh, user: SimulatedUser, muted: SimulatedUser) -> None:
        """The leader mutes a user."""
        _require_leader(mesh, user)
        mesh.muted.add(muted.id)
        self._world.log.record("muted", mesh=mesh.id, user=muted.handle)

    def unmute(self, mesh: SimulatedMesh, user: SimulatedUser, muted: SimulatedUser) -> None:
        """The leader unmutes a user."""
        _require_leader(mesh, user)
        mesh.muted.discard(muted.id)
        self._world.log.record("unmuted", mesh=mesh.id, user=muted.handle)

    def set_privacy(
        self, mesh: SimulatedMesh, user: SimulatedUser, *, public: bool, friends: bool, local: bool
    ) -> None:
        """The leader changes for whom the mesh is listed and open; those who are there stay."""
        _require_leader(mesh, user)
        mesh.public, mesh.friends, mesh.local = public, friends, local
        self._world.log.record("privacy", mesh=mesh.id, public=public, friends=friends, local=local)
        self._world.broadcast_state(mesh)

    # Helpers.

    def _require_control(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        _require_present(mesh, user)
        if mesh.playback.mode == "LEADER" or self._world.options.playback_rights == "leader":
            _require_leader(mesh, user)

    def _playing(self, mesh: SimulatedMesh) -> PlayingVideo:
        if mesh.playback.current is None:
            raise RaveError(Code.NOT_FOUND, "nothing plays")
        return mesh.playback.current

    def _finish(self, mesh: SimulatedMesh) -> None:
        playing = mesh.playback.current
        entry = catalogue.next_entry(playing.clip.provider_id if playing else "")
        choice = self._world.clips.from_catalogue(entry, self._world.server)
        mesh.playback.finish(self._world.clock(), choice, choice.url(self._world.server))
        self._publish(mesh, started=True)

    def _publish(self, mesh: SimulatedMesh, *, started: bool = False) -> None:
        """Send the state to all sockets, and set the timer for the end of the video."""
        playing = mesh.playback.current
        if started:
            facts = {"video": playing.clip.provider_id, "title": playing.clip.title} if playing else {"video": None}
            self._world.log.record("video", mesh=mesh.id, **facts)
        self._set_end_timer(mesh)
        self._world.broadcast_state(mesh)

    def _set_end_timer(self, mesh: SimulatedMesh) -> None:
        """Set the timer of a mesh to the end of its current video."""
        former = self._end_timers.pop(mesh.id, None)
        if former is not None:
            former.cancel()
        playing = mesh.playback.current
        if playing is not None and playing.ends_at is not None:
            left = max(0.0, playing.ends_at - self._world.clock())
            self._end_timers[mesh.id] = self._call_later(left, lambda: self._on_end_timer(mesh))

    def _on_end_timer(self, mesh: SimulatedMesh) -> None:
        """End the video, unless the clock says that it is too early: then set the timer again."""
        del self._end_timers[mesh.id]
        playing = mesh.playback.current
        if self._world.meshes.get(mesh.id) is not mesh or playing is None or playing.ends_at is None:
            return
        if playing.ends_at <= self._world.clock():
            self._finish(mesh)
        else:
            self._set_end_timer(mesh)


def _require_present(mesh: SimulatedMesh, user: SimulatedUser) -> None:
    if user.peer_id not in mesh.present:
        raise RaveError(Code.FORBIDDEN, "not in this mesh")


def _require_leader(mesh: SimulatedMesh, user: SimulatedUser) -> None:
    _require_present(mesh, user)
    if mesh.leader != user.peer_id:
        raise RaveError(Code.FORBIDDEN, "only the leader may")
