"""The part of the control API with which simulated users act on the video of a mesh."""

from __future__ import annotations

from typing import Any

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.clips import Clip
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.party import Party
from ravesvc.simulator.world import ORIGINATOR, World

_STATUS = {"play": "PLAY", "pause": "PAUS"}
_OPINIONS = {"like": "LIKE", "skip": "SKIP", "none": None}


class PartyControl:
    """Verbs of the control API.

    In all but `mute` and `unmute` it is `user` (the host) who acts in `mesh`, and who joins first if necessary.
    """

    def __init__(self, world: World, party: Party) -> None:
        self._world = world
        self._party = party

    async def vote(self, body: Object) -> dict[str, Any]:
        """Vote for `video`: an id of the catalogue, a link to one, or the URL of a registered video."""
        mesh, user = self._mesh_and_user(body)
        clip, text = self._clip(body), json_fields.get_str(body, "video")
        url = text if text.startswith("https:") and "/videos/" in text else clip.url(self._world.server)
        self._party.vote(mesh, user, clip, url)
        return {}

    async def clear_votes(self, body: Object) -> dict[str, Any]:
        """Clear all votes."""
        self._party.clear_votes(*self._mesh_and_user(body))
        return {}

    async def judge(self, body: Object) -> dict[str, Any]:
        """Set the `opinion` of the current video: like, skip, or none to withdraw it."""
        opinion = json_fields.get_str(body, "opinion")
        if opinion not in _OPINIONS:
            raise RaveError(Code.INVALID_ARGUMENT, f"opinion must be one of: {', '.join(_OPINIONS)}")
        self._party.set_opinion(*self._mesh_and_user(body), _OPINIONS[opinion])
        return {}

    async def playback(self, body: Object) -> dict[str, Any]:
        """Play or pause the video by `action`, at `position` seconds; what is absent stays as it is."""
        action = json_fields.opt_str(body, "action")
        if action is not None and action not in _STATUS:
            raise RaveError(Code.INVALID_ARGUMENT, f"action must be one of: {', '.join(_STATUS)}")
        position = None if body.get("position") is None else json_fields.get_number(body, "position")
        if position is not None and position < 0:
            raise RaveError(Code.INVALID_ARGUMENT, "a position is 0 or more seconds")
        self._party.set_playback(
            *self._mesh_and_user(body), status=_STATUS[action] if action else None, position=position
        )
        return {}

    async def video(self, body: Object) -> dict[str, Any]:
        """Start `video` without a vote; end the current one if it is absent."""
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        self._party.set_video(mesh, self._clip(body) if body.get("video") is not None else None)
        return {}

    async def leader(self, body: Object) -> dict[str, Any]:
        """Make `user` the leader."""
        self._party.make_leader(*self._mesh_and_user(body))
        return {}

    async def mute(self, body: Object) -> dict[str, Any]:
        """The leader of `mesh` mutes `user`."""
        self._party.mute(*self._mute_arguments(body))
        return {}

    async def unmute(self, body: Object) -> dict[str, Any]:
        """The leader of `mesh` unmutes `user`."""
        self._party.unmute(*self._mute_arguments(body))
        return {}

    def _mute_arguments(self, body: Object) -> tuple[SimulatedMesh, SimulatedUser, SimulatedUser]:
        """The mesh, its leader, and the user to mute or unmute: one who is there, or was muted before leaving."""
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        user = self._world.user(json_fields.get_str(body, "user"))
        if user.peer_id not in mesh.present and user.id not in mesh.muted:
            raise RaveError(Code.NOT_FOUND, f"{user.handle} is not in the mesh")
        if mesh.leader is None:
            raise RaveError(Code.NOT_FOUND, "the mesh is empty and has no leader")
        return mesh, mesh.present[mesh.leader].user, user

    def _mesh_and_user(self, body: Object) -> tuple[SimulatedMesh, SimulatedUser]:
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        user = self._world.user(json_fields.opt_str(body, "user") or ORIGINATOR)
        self._world.join(mesh, [user])
        return mesh, user

    def _clip(self, body: Object) -> Clip:
        return self._world.clips.find(json_fields.get_str(body, "video"), self._world.server)
