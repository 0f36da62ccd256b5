"""Rave over HTTP: listings, meshes, invitations and users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import serializers
from ravesvc.simulator.fault_options import Fault
from ravesvc.simulator.http_endpoint import Handler, HttpEndpoint, RestCall
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.payloads import Payload
from ravesvc.simulator.request_checks import Checks
from ravesvc.simulator.world import World


class Rest:
    """The routes and what they answer."""

    def __init__(self, world: World, endpoint: HttpEndpoint, checks: Checks) -> None:
        self._world = world
        self._endpoint = endpoint
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """The routes of the api base; what is named first can be made to fail (`fault_options.FAULT_TARGETS`)."""
        calls: list[tuple[str, str, str, Handler]] = [
            ("mesh", "GET", "/meshes/{mesh}", self._mesh),
            ("uninvite", "DELETE", "/meshes/{mesh}/invites", self._uninvite),
            ("invite", "POST", "/meshes/{mesh}/invites", self._invite),
            ("leave", "DELETE", "/meshes/{mesh}/devices/{device}/leave", self._leave),
            ("self", "GET", "/users/self", self._self),
            ("users", "POST", "/users/list", self._users),
        ]
        listing = self._endpoint.route(
            "discovery", "GET", "/meshes/self", self._checks, self._discover, self._count_listing
        )
        return [
            listing,
            *(
                self._endpoint.route(target, verb, path, self._checks, handler)
                for target, verb, path, handler in calls
            ),
        ]

    def _count_listing(self, request: web.Request, fault: Fault | None, status: int, payload: Payload) -> None:
        later = "cursor" in request.query
        if fault and fault.refuses and not later:
            self._world.begin_listing()
        if status != 200 or (fault and fault.mode != "empty" and (later or fault.mode != "later-page")):
            self._world.end_listing("failed")
        elif isinstance(payload, dict) and not payload["paging"]:
            self._world.end_listing("completed")

    # The calls.

    def _discover(self, call: RestCall) -> dict[str, Any]:
        require_own_device(self._world, call.user, call.query)
        flags = {name: _flag(call.query, name) for name in ("public", "friends", "local", "invited")}
        limit = min(json_fields.get_int(call.query, "limit"), int(self._world.options.page_size))
        after = _cursor_position(call.query.get("cursor"))
        if limit < 1:
            raise RaveError(Code.BAD_DATA, "limit must be 1 or more")
        if after == 0:
            self._world.begin_listing()
        found = [m for m in self._world.meshes.values() if m.serial > after and self._listed(m, call.user, flags)]
        page, rest = found[:limit], found[limit:]
        paging = {"next": self._next_page(call, page[-1])} if rest else {}
        return {"data": [self._entry(mesh) for mesh in page], "paging": paging}

    def _listed(self, mesh: SimulatedMesh, user: SimulatedUser, flags: Mapping[str, bool]) -> bool:
        kinds = {
            "public": mesh.public,
            "friends": self._world.is_of_a_friend(mesh, user),
            "local": mesh.local,
            "invited": user.id in mesh.invited,
        }
        return not mesh.missing and any(kinds[name] for name, wanted in flags.items() if wanted)

    def _entry(self, mesh: SimulatedMesh) -> dict[str, Any]:
        options = self._world.options
        return {
            "mesh": serializers.mesh_object(mesh, self._world.server, options),
            "users": serializers.users_of(mesh, options),
        }

    def _next_page(self, call: RestCall, last: SimulatedMesh) -> str:
        query = {**call.query, "cursor": f"after-{last.serial:x}"}
        return f"https://{self._world.server}/meshes/self?{urlencode(query)}"

    def _mesh(self, call: RestCall) -> dict[str, Any]:
        mesh = visible_mesh(self._world, call)
        options = self._world.options
        shown = serializers.mesh_object(mesh, self._world.server, options)
        return {"data": {**shown, "users": serializers.users_of(mesh, options)}}

    def _invite(self, call: RestCall) -> dict[str, Any]:
        mesh = visible_mesh(self._world, call)
        require_own_device(self._world, call.user, call.body)
        for user in known_users(self._world, call):
            self._world.invite(mesh, user)
        return {"success": True}

    def _uninvite(self, call: RestCall) -> dict[str, Any]:
        mesh = self._world.mesh(call.path["mesh"])
        if not self._world.uninvite(mesh, call.user):
            raise RaveError(Code.NOT_FOUND, "not invited")
        return {"success": True}

    def _leave(self, call: RestCall) -> dict[str, Any]:
        mesh = self._world.mesh(call.path["mesh"])
        require_own_device(self._world, call.user, {"deviceId": call.path["device"]})
        if not self._world.leave(mesh, [call.user]):
            raise RaveError(Code.NOT_FOUND, "not in this mesh")
        return {"success": True}

    def _self(self, call: RestCall) -> dict[str, Any]:
        return {"data": serializers.user_object(call.user, self._world.options)}

    def _users(self, call: RestCall) -> dict[str, Any]:
        require_own_device(self._world, call.user, call.body)
        shown = [serializers.user_object(user, self._world.options) for user in known_users(self._world, call)]
        if json_fields.opt_bool(call.body, "includeOnline"):
            shown = [{**user, "online": True} for user in shown]
        return {"data": shown}


# Helpers of several calls.


def visible_mesh(world: World, call: RestCall) -> SimulatedMesh:
    """The mesh of a call, if its user may see it."""
    mesh = world.mesh(call.path["mesh"])
    if not world.is_open(mesh, call.user):
        raise RaveError(Code.FORBIDDEN, "no access to this mesh")
    return mesh


def known_users(world: World, call: RestCall) -> list[SimulatedUser]:
    """The users whose ids the body lists; ids of no user are ignored."""
    ids = [json_fields.as_int(value) for value in json_fields.get_list(call.body, "ids")]
    if None in ids:
        raise RaveError(Code.BAD_DATA, "ids holds something that is not an id")
    return [world.users[number] for number in ids if number in world.users]


def require_own_device(world: World, user: SimulatedUser, source: Object) -> None:
    """Make sure that a call names the device that its token was given to."""
    if json_fields.get_str(source, "deviceId") != user.device_id:
        world.log.violation("deviceId", "the device is not one of the token's user")
        raise RaveError(Code.FORBIDDEN, "not your device")


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise RaveError(Code.BAD_DATA, f"{name} must be true or false")
    return value == "true"


def _cursor_position(cursor: str | None) -> int:
    """The serial number in a cursor; 0 without one."""
    if cursor is None:
        return 0
    try:
        return int(cursor.removeprefix("after-"), 16)
    except ValueError as e:
        raise RaveError(Code.BAD_DATA, "cursor is none of ours") from e
