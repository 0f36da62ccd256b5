"""What users do to a mesh and its video, and videos that end by themselves."""

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
    """Something that was put off."""

    def cancel(self) -> None:
        """Don't do it."""


Later = Callable[[float, Callable[[], None]], Timer]


def _later(seconds: float, action: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, action)


class Party:
    """Does what users ask for if they may, and tells all sockets. `later` puts something off by some seconds.

    Raises `RaveError`: Forbidden for what a user may not, NotFound for what is not there.
    """

    def __init__(self, world: World, later: Later = _later) -> None:
        self._world = world
        self._later = later
        self._ends: dict[str, Timer] = {}  # by mesh

    def close(self) -> None:
        """No video ends any longer."""
        for timer in self._ends.values():
            timer.cancel()
        self._ends.clear()

    # The video.

    def vote(self, mesh: SimulatedMesh, user: SimulatedUser, clip: Clip, url: str) -> None:
        """A user wants to watch a video; `url` is how the vote names it."""
        _be_here(mesh, user)
        if mesh.playback.mode == "LEADER":
            _lead(mesh, user)
        self._world.log.record("vote", mesh=mesh.id, user=user.handle, video=clip.provider_id, title=clip.title)
        now = self._world.clock()
        self._tell(mesh, started=mesh.playback.vote(user.id, clip, url, now=now, majority=mesh.majority))

    def clear_votes(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """No vote counts any longer."""
        self._rule(mesh, user)
        mesh.playback.clear()
        self._world.log.record("votes cleared", mesh=mesh.id, user=user.handle)
        self._tell(mesh)

    def judge(self, mesh: SimulatedMesh, user: SimulatedUser, opinion: str | None) -> None:
        """A user likes what plays, wants to skip it, or (None) takes that back."""
        _be_here(mesh, user)
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
            self._tell(mesh)

    def control(
        self, mesh: SimulatedMesh, user: SimulatedUser, *, status: str | None = None, position: float | None = None
    ) -> None:
        """A user plays (PLAY), pauses (PAUS) or moves the video to a position in seconds."""
        self._rule(mesh, user)
        playing, now = self._playing(mesh), self._world.clock()
        position = playing.position_at(now) if position is None else position
        mesh.playback.set(status or playing.status, position, now)
        self._world.log.record("playback", mesh=mesh.id, user=user.handle, status=status, position=position)
        self._tell(mesh)

    def end_video(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """A user ends the video, if one plays."""
        self._rule(mesh, user)
        if mesh.playback.current is not None:
            self._finish(mesh)

    def show(self, mesh: SimulatedMesh, clip: Clip | None) -> None:
        """A video starts, or what plays ends, by no user's wish."""
        if clip is None:
            self._finish(mesh)
        else:
            mesh.playback.start(clip, clip.url(self._world.server), now=self._world.clock())
            self._tell(mesh, started=True)

    # Users.

    def lead(self, mesh: SimulatedMesh, user: SimulatedUser, successor: SimulatedUser) -> None:
        """The leader makes another user the leader."""
        _lead(mesh, user)
        self.make_leader(mesh, successor)

    def make_leader(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """A user becomes the leader, by no other's wish."""
        if user.peer_id not in mesh.present:
            raise RaveError(Code.NOT_FOUND, f"{user.handle} is not in the mesh")
        mesh.successor = user.peer_id
        self._world.log.record("leader", mesh=mesh.id, user=user.handle)
        self._world.broadcast_state(mesh)

    def kick(self, mesh: SimulatedMesh, user: SimulatedUser, kicked: list[SimulatedUser]) -> None:
        """The leader throws users out; those who are not here are passed over."""
        _lead(mesh, user)
        for one in kicked:
            if one.peer_id in mesh.present:
                self._world.kick(mesh, one)

    def mute(self, mesh: SimulatedMesh, user: SimulatedUser, muted: SimulatedUser) -> None:
        """The leader takes a user's voice."""
        _lead(mesh, user)
        mesh.muted.add(muted.id)
        self._world.log.record("muted", mesh=mesh.id, user=muted.handle)

    def unmute(self, mesh: SimulatedMesh, user: SimulatedUser, muted: SimulatedUser) -> None:
        """The leader gives a user's voice back."""
        _lead(mesh, user)
        mesh.muted.discard(muted.id)
        self._world.log.record("unmuted", mesh=mesh.id, user=muted.handle)

    # What they have in common.

    def _rule(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        _be_here(mesh, user)
        if mesh.playback.mode == "LEADER" or self._world.options.playback_rights == "leader":
            _lead(mesh, user)

    def _playing(self, mesh: SimulatedMesh) -> PlayingVideo:
        if mesh.playback.current is None:
            raise RaveError(Code.NOT_FOUND, "nothing plays")
        return mesh.playback.current

    def _finish(self, mesh: SimulatedMesh) -> None:
        playing = mesh.playback.current
        entry = catalogue.after(playing.clip.provider_id if playing else "")
        own = self._world.clips.stock(entry, self._world.server)
        mesh.playback.finish(self._world.clock(), own, own.url(self._world.server))
        self._tell(mesh, started=True)

    def _tell(self, mesh: SimulatedMesh, *, started: bool = False) -> None:
        """Tell all sockets, and see to it that the video ends when it has to."""
        playing = mesh.playback.current
        if started:
            facts = {"video": playing.clip.provider_id, "title": playing.clip.title} if playing else {"video": None}
            self._world.log.record("video", mesh=mesh.id, **facts)
        self._wind(mesh)
        self._world.broadcast_state(mesh)

    def _wind(self, mesh: SimulatedMesh) -> None:
        """Set the timer of a mesh to the end of what plays there now."""
        former = self._ends.pop(mesh.id, None)
        if former is not None:
            former.cancel()
        playing = mesh.playback.current
        if playing is not None and playing.ends_at is not None:
            left = max(0.0, playing.ends_at - self._world.clock())
            self._ends[mesh.id] = self._later(left, lambda: self._run_out(mesh))

    def _run_out(self, mesh: SimulatedMesh) -> None:
        """The timer of a video has come: end it, unless the clock says that it is too early."""
        del self._ends[mesh.id]
        playing = mesh.playback.current
        if self._world.meshes.get(mesh.id) is not mesh or playing is None or playing.ends_at is None:
            return
        if playing.ends_at <= self._world.clock():
            self._finish(mesh)
        else:
            self._wind(mesh)


def _be_here(mesh: SimulatedMesh, user: SimulatedUser) -> None:
    if user.peer_id not in mesh.present:
        raise RaveError(Code.FORBIDDEN, "not in this mesh")


def _lead(mesh: SimulatedMesh, user: SimulatedUser) -> None:
    _be_here(mesh, user)
    if mesh.leader != user.peer_id:
        raise RaveError(Code.FORBIDDEN, "only the leader may")
