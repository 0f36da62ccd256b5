"""The part of the control API with which simulated users act on the video of a mesh."""

from __future__ import annotations

from typing import Any

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.clips import Clip
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.party import Party
from ravesvc.simulator.world import HOST, World

_STATUS = {"play": "PLAY", "pause": "PAUS"}
_OPINIONS = {"like": "LIKE", "skip": "SKIP", "none": None}


class PartyControl:
    """Verbs of the control API.

    In all but `mute` and `unmute` `user` (the host), who comes in first if need be, acts in `mesh`.
    """

    def __init__(self, world: World, party: Party) -> None:
        self._world = world
        self._party = party

    async def vote(self, body: Object) -> dict[str, Any]:
        """Vote for `video`: an id of the catalogue, a link to one, or the URL of a registered video."""
        mesh, user = self._who(body)
        clip, text = self._clip(body), json_fields.get_str(body, "video")
        url = text if text.startswith("https:") and "/videos/" in text else clip.url(self._world.server)
        self._party.vote(mesh, user, clip, url)
        return {}

    async def clear_votes(self, body: Object) -> dict[str, Any]:
        """Take all votes back."""
        self._party.clear_votes(*self._who(body))
        return {}

    async def judge(self, body: Object) -> dict[str, Any]:
        """Say `opinion` of what plays: like, skip, or none to take it back."""
        opinion = json_fields.get_str(body, "opinion")
        if opinion not in _OPINIONS:
            raise RaveError(Code.INVALID_ARGUMENT, f"opinion must be one of: {', '.join(_OPINIONS)}")
        self._party.judge(*self._who(body), _OPINIONS[opinion])
        return {}

    async def playback(self, body: Object) -> dict[str, Any]:
        """Let the video `action` (play or pause, as it is if absent), at `position` seconds (where it is)."""
        action = json_fields.opt_str(body, "action")
        if action is not None and action not in _STATUS:
            raise RaveError(Code.INVALID_ARGUMENT, f"action must be one of: {', '.join(_STATUS)}")
        position = None if body.get("position") is None else json_fields.get_number(body, "position")
        if position is not None and position < 0:
            raise RaveError(Code.INVALID_ARGUMENT, "a position is 0 or more seconds")
        self._party.control(*self._who(body), status=_STATUS[action] if action else None, position=position)
        return {}

    async def video(self, body: Object) -> dict[str, Any]:
        """Start `video` without a vote, or end what plays if absent."""
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        self._party.show(mesh, self._clip(body) if body.get("video") is not None else None)
        return {}

    async def leader(self, body: Object) -> dict[str, Any]:
        """Make `user` the leader."""
        self._party.make_leader(*self._who(body))
        return {}

    async def mute(self, body: Object) -> dict[str, Any]:
        """The leader of `mesh` takes the voice of `user`."""
        self._party.mute(*self._whose_voice(body))
        return {}

    async def unmute(self, body: Object) -> dict[str, Any]:
        """The leader of `mesh` gives `user` the voice back."""
        self._party.unmute(*self._whose_voice(body))
        return {}

    def _whose_voice(self, body: Object) -> tuple[SimulatedMesh, SimulatedUser, SimulatedUser]:
        """The mesh, its leader, and the user whose voice it is: one who is there, or was muted before leaving."""
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        user = self._world.user(json_fields.get_str(body, "user"))
        if user.peer_id not in mesh.present and user.id not in mesh.muted:
            raise RaveError(Code.NOT_FOUND, f"{user.handle} is not in the mesh")
        if mesh.leader is None:
            raise RaveError(Code.NOT_FOUND, "the mesh is empty and has no leader")
        return mesh, mesh.present[mesh.leader].user, user

    def _who(self, body: Object) -> tuple[SimulatedMesh, SimulatedUser]:
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        user = self._world.user(json_fields.opt_str(body, "user") or HOST)
        self._world.join(mesh, [user])
        return mesh, user

    def _clip(self, body: Object) -> Clip:
        return self._world.clips.named(json_fields.get_str(body, "video"), self._world.server)
