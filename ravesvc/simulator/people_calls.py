"""Rave over HTTP: users, their profiles, and whom the caller knows."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ravesvc import fields
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import views
from ravesvc.simulator.checks import Checks
from ravesvc.simulator.gate import Call, Gate, Handler
from ravesvc.simulator.mesh import User
from ravesvc.simulator.world import World

_USUAL_LIMIT = 24
_MAX_LIMIT = 100


class PeopleCalls:
    """The routes and what they answer. A user who is asked to be a friend is one from then on."""

    def __init__(self, world: World, gate: Gate, checks: Checks) -> None:
        self._world = world
        self._gate = gate
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """The routes; what is named first can be made to fail (`switches.FAULT_TARGETS`)."""
        calls: list[tuple[str, str, str, Handler]] = [
            ("contacts", "GET", "/contacts", self._contacts),
            ("friendships", "GET", "/friendships", self._friends),
            ("friendships", "POST", "/friendships", self._befriend),
            ("user", "GET", "/users/{user}", self._user),
            ("profile", "GET", "/profiles/{user}", self._profile),
        ]
        return [self._gate.route(target, verb, path, self._checks, handler) for target, verb, path, handler in calls]

    def _contacts(self, call: Call) -> dict[str, Any]:
        """Those who are in a mesh with the caller."""
        met = {
            user.id: user
            for mesh in self._world.meshes.values()
            if call.user.peer_id in mesh.present
            for user in mesh.users()
            if user.id != call.user.id
        }
        return {"data": self._shown(call, list(met.values())), "paging": {}}

    def _friends(self, call: Call) -> dict[str, Any]:
        friends = self._world.friends.get(call.user.id, [])
        return {"data": self._shown(call, [self._world.users[number] for number in friends])}

    def _befriend(self, call: Call) -> dict[str, Any]:
        user, state = self._named(fields.get_int(call.body, "id")), fields.opt_str(call.body, "state")
        if state not in (None, "friends", "notfriends"):
            raise RaveError(Code.BAD_DATA, "state is neither friends nor notfriends")
        friends = self._world.friends.setdefault(call.user.id, [])
        if state != "notfriends" and user.id not in friends:
            friends.append(user.id)
        return {"data": {"fromUserId": call.user.id, "toUserId": user.id, "state": state or "friends"}}

    def _shown(self, call: Call, users: list[User]) -> list[dict[str, Any]]:
        limit = fields.opt_int(call.query, "limit")
        limit = _USUAL_LIMIT if limit is None else limit
        if not 1 <= limit <= _MAX_LIMIT:
            raise RaveError(Code.BAD_DATA, f"limit is not 1 to {_MAX_LIMIT}")
        return [views.user_object(user, self._world.options) for user in users[:limit]]

    def _user(self, call: Call) -> dict[str, Any]:
        user = self._named(fields.get_int(call.path, "user"))
        return {"data": views.user_object(user, self._world.options)}

    def _profile(self, call: Call) -> dict[str, Any]:
        user = self._named(fields.get_int(call.path, "user"))
        if call.query.get("exclude") != "false" or call.query.get("clientVersion") != "1":
            raise RaveError(Code.BAD_DATA, "the query lacks exclude=false or clientVersion=1")
        shown = views.user_object(user, self._world.options)
        profile = {key: shown[key] for key in ("avatar", "country", "displayName", "handle", "name")}
        bio = {"bio": f"I am {user.display_name}.", "metadata": {"position": 0, "privacy": "PUBLIC"}}
        return {"data": {"bio": bio, "profile": profile}}

    def _named(self, number: int) -> User:
        user = self._world.users.get(number)
        if user is None:
            raise RaveError(Code.NOT_FOUND, "no such user")
        return user
