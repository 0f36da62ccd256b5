"""Rave over HTTP: videos, votes, playback, moderation and settings of a mesh."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import serializers
from ravesvc.simulator.http_endpoint import Handler, HttpEndpoint, RestCall
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.party import Party
from ravesvc.simulator.payloads import Payload
from ravesvc.simulator.request_checks import Checks
from ravesvc.simulator.rest import known_users, require_own_device, visible_mesh
from ravesvc.simulator.world import World

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The time of a vote is in seconds or in milliseconds; a number from here on is in milliseconds.
_MIN_MILLISECONDS = 1e11


class PartyCalls:
    """The routes and what they answer."""

    def __init__(self, world: World, party: Party, endpoint: HttpEndpoint, checks: Checks) -> None:
        self._world = world
        self._party = party
        self._endpoint = endpoint
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """The routes; what is named first can be made to fail (`fault_options.FAULT_TARGETS`)."""
        mute, unmute = self._mute_handler(self._party.mute), self._mute_handler(self._party.unmute)
        calls: list[tuple[str, str, str, Handler]] = [
            ("register", "POST", "/videos/{provider}", self._register),
            ("video", "GET", "/videos/{provider}/{video}", self._video),
            ("vote", "POST", "/meshes/{mesh}/votes", self._vote),
            ("clear", "POST", "/meshes/{mesh}/votes/clear", self._clear),
            ("like", "PUT", "/meshes/{mesh}/likeskip", self._like),
            ("like", "DELETE", "/meshes/{mesh}/likeskip", self._withdraw),
            ("state", "PUT", "/meshes/{mesh}/state", self._state),
            ("endstream", "POST", "/meshes/{mesh}/state/endstream", self._end),
            ("kick", "POST", "/meshes/{mesh}/kick", self._kick),
            ("transfer", "POST", "/meshes/{mesh}/transferleadership", self._transfer),
            ("mute", "POST", "/meshes/{mesh}/mute/{user}", mute),
            ("unmute", "POST", "/meshes/{mesh}/unmute/{user}", unmute),
            ("settings", "PUT", "/meshes/{mesh}", self._settings),
        ]
        return [
            self._endpoint.route(target, verb, path, self._checks, self._hide_forbidden(handler))
            for target, verb, path, handler in calls
        ]

    def _hide_forbidden(self, handler: Handler) -> Handler:
        """With the fault option `forbidden_form` set to `success`, answer 200 in place of 403."""

        def handle(call: RestCall) -> Payload:
            try:
                return handler(call)
            except RaveError as e:
                if e.code is not Code.FORBIDDEN or self._world.options.forbidden_form == "status":
                    raise
                return {"success": False}

        return handle

    # Videos.

    def _register(self, call: RestCall) -> dict[str, Any]:
        clip = self._world.clips.register(call.path["provider"], call.body)
        return {"data": serializers.clip_object(clip, self._world.options)}

    def _video(self, call: RestCall) -> dict[str, Any]:
        clip = self._world.clips.get(call.path["provider"], call.path["video"])
        return {"data": serializers.clip_object(clip, self._world.options)}

    def _vote(self, call: RestCall) -> dict[str, Any]:
        mesh, body = visible_mesh(self._world, call), call.body
        require_own_device(self._world, call.user, body)
        time = json_fields.get_number(body, "time")
        self._check_time(time / 1000 if time >= _MIN_MILLISECONDS else time)
        url = json_fields.get_str(body, "url")
        self._party.vote(mesh, call.user, self._world.clips.by_url(url), url)
        return {"success": True}

    def _clear(self, call: RestCall) -> dict[str, Any]:
        self._party.clear_votes(visible_mesh(self._world, call), call.user)
        return {"success": True}

    def _like(self, call: RestCall) -> dict[str, Any]:
        return self._set_opinion(call, call.body, lambda opinion: opinion)

    def _withdraw(self, call: RestCall) -> dict[str, Any]:
        return self._set_opinion(call, call.query, lambda _: None)

    def _set_opinion(self, call: RestCall, fields: Object, stored: Callable[[str], str | None]) -> dict[str, Any]:
        """Set the opinion of a user on the current video. One on an earlier video is late, and no mistake."""
        mesh, opinion = visible_mesh(self._world, call), json_fields.get_str(fields, "opinion")
        url, instance = json_fields.get_str(fields, "url"), json_fields.get_str(fields, "videoInstanceId")
        if opinion not in ("LIKE", "SKIP"):
            raise RaveError(Code.BAD_DATA, "opinion is neither LIKE nor SKIP")
        if not _UUID.fullmatch(instance):
            raise RaveError(Code.BAD_DATA, "videoInstanceId is no UUID")
        playing = mesh.playback.current
        if playing is None or playing.instance_id != instance or not _same_video(url, playing.url):
            raise RaveError(Code.NOT_FOUND, "that does not play")
        self._party.set_opinion(mesh, call.user, stored(opinion))
        return {"success": True}

    def _state(self, call: RestCall) -> dict[str, Any]:
        mesh, body = visible_mesh(self._world, call), call.body
        status, position = json_fields.get_str(body, "state"), json_fields.get_number(body, "position")
        if status not in ("PLAY", "PAUS"):
            raise RaveError(Code.BAD_DATA, "state is neither PLAY nor PAUS")
        if position < 0:
            raise RaveError(Code.BAD_DATA, "position is below 0")
        self._check_time(json_fields.get_number(body, "time"))
        self._party.set_playback(mesh, call.user, status=status, position=position)
        return {"data": serializers.mesh_object(mesh, self._world.server, self._world.options)}

    def _check_time(self, seconds: float) -> None:
        if abs(seconds - self._world.clock()) > self._world.options.request_window:
            raise RaveError(Code.BAD_DATA, "time is too far from the server's clock")

    def _end(self, call: RestCall) -> dict[str, Any]:
        self._party.end_video(visible_mesh(self._world, call), call.user)
        return {"success": True}

    # Users.

    def _kick(self, call: RestCall) -> dict[str, Any]:
        mesh = visible_mesh(self._world, call)
        require_own_device(self._world, call.user, call.body)
        self._party.kick(mesh, call.user, known_users(self._world, call))
        return {"success": True}

    def _transfer(self, call: RestCall) -> dict[str, Any]:
        mesh, number = visible_mesh(self._world, call), json_fields.get_int(call.body, "newLeaderId")
        self._party.transfer_leadership(mesh, call.user, self._user(number))
        return {"success": True}

    def _settings(self, call: RestCall) -> dict[str, Any]:
        """Change who finds a mesh. The known client sends all settings; of the others none can be changed here."""
        mesh, body = visible_mesh(self._world, call), call.body
        for key in ("playMode", "voipMode"):
            json_fields.get_str(body, key)
        public, friends, local = (json_fields.get_bool(body, key) for key in ("isPublic", "isFriend", "isLocal"))
        self._party.set_privacy(mesh, call.user, public=public, friends=friends, local=local)
        return {"data": serializers.mesh_object(mesh, self._world.server, self._world.options)}

    def _mute_handler(self, change: Callable[[SimulatedMesh, SimulatedUser, SimulatedUser], None]) -> Handler:
        def handle(call: RestCall) -> dict[str, Any]:
            mesh = visible_mesh(self._world, call)
            if call.body:
                raise RaveError(Code.BAD_DATA, "the body is not {}")
            change(mesh, call.user, self._user(json_fields.get_int(call.path, "user")))
            return {"success": True}

        return handle

    def _user(self, number: int) -> SimulatedUser:
        user = self._world.users.get(number)
        if user is None:
            raise RaveError(Code.NOT_FOUND, "no such user")
        return user


def _same_video(one: str, other: str) -> bool:
    """Whether both URLs name the same video; their hosts are ignored."""
    return urlsplit(one).path == urlsplit(other).path
