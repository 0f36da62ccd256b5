"""Rave over HTTP: users, their profiles, and the contacts and friends of the caller."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import serializers
from ravesvc.simulator.friendships import ACTIONABLE, FRIENDS, NOT_FRIENDS, Change, Friendships
from ravesvc.simulator.http_endpoint import Handler, HttpEndpoint, RestCall
from ravesvc.simulator.mesh import SimulatedUser
from ravesvc.simulator.request_checks import Checks
from ravesvc.simulator.world import World

_DEFAULT_USERS = 24
_MAX_USERS = 100
# The change of a friendship, by the state that a client sends.
_CHANGES: dict[str | None, Change] = {
    None: Friendships.request,
    FRIENDS: Friendships.accept,
    NOT_FRIENDS: Friendships.decline,
}


class PeopleCalls:
    """The routes and what they answer."""

    def __init__(self, world: World, endpoint: HttpEndpoint, checks: Checks) -> None:
        self._world = world
        self._endpoint = endpoint
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """The routes; what is named first can be made to fail (`fault_options.FAULT_TARGETS`)."""
        calls: list[tuple[str, str, str, Handler]] = [
            ("contacts", "GET", "/contacts", self._contacts),
            ("friendships", "GET", "/friendships", self._friends),
            ("friendships", "GET", "/friendships/requests", self._requests),
            ("friendships", "POST", "/friendships", self._befriend),
            ("friendships", "DELETE", "/friendships", self._end(Friendships.withdraw)),
            ("friendships", "DELETE", "/friendships/unfriend", self._end(Friendships.unfriend)),
            ("user", "GET", "/users/{user}", self._user),
            ("profile", "GET", "/profiles/{user}", self._profile),
        ]
        return [
            self._endpoint.route(target, verb, path, self._checks, handler) for target, verb, path, handler in calls
        ]

    def _contacts(self, call: RestCall) -> dict[str, Any]:
        """The users who are in a mesh with the caller."""
        met = {
            user.id: user
            for mesh in self._world.meshes.values()
            if call.user.peer_id in mesh.present
            for user in mesh.users()
            if user.id != call.user.id
        }
        return {"data": self._serialize(call, list(met.values())), "paging": {}}

    def _friends(self, call: RestCall) -> dict[str, Any]:
        return {"data": self._serialize(call, self._users(self._world.friendships.friends(call.user.id)))}

    def _requests(self, call: RestCall) -> dict[str, Any]:
        """The users who wait for the caller's answer."""
        if call.query.get("state") != ACTIONABLE:
            raise RaveError(Code.BAD_DATA, f"state is not {ACTIONABLE}")
        return {"data": self._serialize(call, self._users(self._world.friendships.requests(call.user.id)))}

    def _befriend(self, call: RestCall) -> dict[str, Any]:
        other, wanted = self._find_user(json_fields.get_int(call.body, "id")), json_fields.opt_str(call.body, "state")
        if wanted not in _CHANGES:
            raise RaveError(Code.BAD_DATA, f"state is neither {FRIENDS} nor {NOT_FRIENDS}")
        state = self._world.change_friendship(_CHANGES[wanted], call.user, other)
        return {"data": {"fromUserId": call.user.id, "toUserId": other.id, "state": state}}

    def _end(self, change: Change) -> Handler:
        def handle(call: RestCall) -> dict[str, Any]:
            self._world.change_friendship(change, call.user, self._find_user(json_fields.get_int(call.query, "id")))
            return {"success": True}

        return handle

    def _users(self, ids: list[int]) -> list[SimulatedUser]:
        return [self._world.users[number] for number in ids]

    def _serialize(self, call: RestCall, users: list[SimulatedUser]) -> list[dict[str, Any]]:
        limit = json_fields.opt_int(call.query, "limit")
        limit = _DEFAULT_USERS if limit is None else limit
        if not 1 <= limit <= _MAX_USERS:
            raise RaveError(Code.BAD_DATA, f"limit is not 1 to {_MAX_USERS}")
        return [serializers.user_object(user, self._world.options) for user in users[:limit]]

    def _user(self, call: RestCall) -> dict[str, Any]:
        user = self._find_user(json_fields.get_int(call.path, "user"))
        return {"data": serializers.user_object(user, self._world.options)}

    def _profile(self, call: RestCall) -> dict[str, Any]:
        user = self._find_user(json_fields.get_int(call.path, "user"))
        if call.query.get("exclude") != "false" or call.query.get("clientVersion") != "1":
            raise RaveError(Code.BAD_DATA, "the query lacks exclude=false or clientVersion=1")
        shown = serializers.user_object(user, self._world.options)
        profile = {key: shown[key] for key in ("avatar", "country", "displayName", "handle", "name")}
        bio = {"bio": f"I am {user.display_name}.", "metadata": {"position": 0, "privacy": "PUBLIC"}}
        return {"data": {"bio": bio, "profile": profile}}

    def _find_user(self, number: int) -> SimulatedUser:
        user = self._world.users.get(number)
        if user is None:
            raise RaveError(Code.NOT_FOUND, "no such user")
        return user
