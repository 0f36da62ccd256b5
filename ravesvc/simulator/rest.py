"""Rave over HTTP: the calls of the api base, each checked before it is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from ravesvc import fields
from ravesvc.errors import Code, RaveError
from ravesvc.fields import Object
from ravesvc.settings import ClientIdentity
from ravesvc.simulator import views
from ravesvc.simulator.checks import CallChecks, bearer
from ravesvc.simulator.mesh import Mesh, User
from ravesvc.simulator.switches import Fault
from ravesvc.simulator.world import World

# A call that is left hanging is let go after this, so that a forgotten switch leaves no heap of them.
_HANGING = 120.0
_COMPRESS_FROM = 1024
_STATUS_OF = {Code.NO_SUCH_MESH: 404, Code.NOT_FOUND: 404, Code.FORBIDDEN: 403}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that passed the checks. `body` is empty when none was sent."""

    user: User
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Object


Handler = Callable[[Call], Any]


class Rest:
    """The routes and what they answer."""

    def __init__(self, world: World, identity: ClientIdentity) -> None:
        self._world = world
        self._checks = CallChecks(identity, world.sessions)

    def routes(self) -> list[web.RouteDef]:
        """The routes of the api base; what is named first can be made to fail (`switches.FAULT_TARGETS`)."""
        calls: list[tuple[str, str, str, Handler]] = [
            ("discovery", "GET", "/meshes/self", self._discover),
            ("mesh", "GET", "/meshes/{mesh}", self._mesh),
            ("uninvite", "DELETE", "/meshes/{mesh}/invites", self._uninvite),
            ("invite", "POST", "/meshes/{mesh}/invites", self._invite),
            ("leave", "DELETE", "/meshes/{mesh}/devices/{device}/leave", self._leave),
            ("kick", "POST", "/meshes/{mesh}/kick", self._kick),
            ("self", "GET", "/users/self", self._self),
            ("users", "POST", "/users/list", self._users),
        ]
        return [web.route(verb, path, self._guard(target, handler)) for target, verb, path, handler in calls]

    def _guard(self, target: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            fault = self._world.faults.take(target)
            status, payload = await self._checked(request, handler)
            if target == "discovery":
                self._count_listing(request, fault, status, payload)
            return (
                await self._failing(request, fault, status, payload) if fault else _answer(request, status, payload)
            )

        return answer

    async def _checked(self, request: web.Request, handler: Handler) -> tuple[int, dict[str, Any]]:
        """Status and payload of a call without a fault."""
        where = f"{request.method} {request.path}"
        world = self._world
        body = await request.read()
        window = world.options.request_window
        mismatches = self._checks.mismatches(request.headers, body, now=world.clock(), window=window)
        for mismatch in mismatches:
            world.log.violation(where, mismatch.what)
        if mismatches:
            return mismatches[0].status, _error(mismatches[0].status, mismatches[0].what)
        try:
            document = fields.parse_object(body, "the body") if body else {}
            user = world.sessions[bearer(request.headers)]
            return 200, handler(Call(user, request.match_info, request.query, document))
        except RaveError as e:
            status = _STATUS_OF.get(e.code, 400)
            if status == 400:
                world.log.violation(where, e.message)
            return status, _error(status, e.message)

    def _count_listing(
        self, request: web.Request, fault: Fault | None, status: int, payload: Mapping[str, Any]
    ) -> None:
        later = "cursor" in request.query
        if status != 200 or (fault and fault.mode != "empty" and (later or fault.mode != "later-page")):
            self._world.end_listing("failed")
        elif not payload["paging"]:
            self._world.end_listing("completed")

    # Failures.

    async def _failing(
        self, request: web.Request, fault: Fault, status: int, payload: dict[str, Any]
    ) -> web.StreamResponse:
        """The answer with a failure that is switched on."""
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return web.json_response(_error(fault.status, "switched on"), status=fault.status, headers=headers)
        if fault.mode == "2015":
            return web.json_response(_error(2015, "slow down"), status=400)
        if fault.mode == "empty":
            return _answer(request, 200, {"data": [], "paging": {}})
        if fault.mode == "half-page":
            return await _cut(request, payload)
        if fault.mode == "later-page":
            later = "cursor" in request.query
            return _answer(request, 500, _error(500, "switched on")) if later else _answer(request, status, payload)
        if fault.mode == "timeout":
            await self._world.log.until(lambda: request.transport is None, _HANGING)
        # `reset` and `refused`, and a call that hung: without a word.
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    # The calls.

    def _discover(self, call: Call) -> dict[str, Any]:
        self._own_device(call.user, call.query)
        flags = {name: _flag(call.query, name) for name in ("public", "friends", "local", "invited")}
        limit = min(fields.get_int(call.query, "limit"), int(self._world.options.page_size))
        after = _position(call.query.get("cursor"))
        if limit < 1:
            raise RaveError(Code.BAD_DATA, "limit must be 1 or more")
        if after == 0:
            self._world.begin_listing()
        found = [m for m in self._world.meshes.values() if m.serial > after and _listed(m, call.user, flags)]
        page, rest = found[:limit], found[limit:]
        paging = {"next": self._next_page(call, page[-1])} if rest else {}
        return {"data": [self._entry(mesh) for mesh in page], "paging": paging}

    def _entry(self, mesh: Mesh) -> dict[str, Any]:
        options = self._world.options
        return {"mesh": views.mesh_object(mesh, self._world.server, options), "users": views.users_of(mesh, options)}

    def _next_page(self, call: Call, last: Mesh) -> str:
        query = {**call.query, "cursor": f"after-{last.serial:x}"}
        return f"https://{self._world.server}/meshes/self?{urlencode(query)}"

    def _mesh(self, call: Call) -> dict[str, Any]:
        mesh = self._visible(call)
        options = self._world.options
        shown = views.mesh_object(mesh, self._world.server, options)
        return {"data": {**shown, "users": views.users_of(mesh, options)}}

    def _invite(self, call: Call) -> dict[str, Any]:
        mesh = self._visible(call)
        self._own_device(call.user, call.body)
        for user in self._known(call):
            self._world.invite(mesh, user)
        return {"success": True}

    def _uninvite(self, call: Call) -> dict[str, Any]:
        mesh = self._world.mesh(call.path["mesh"])
        if not self._world.uninvite(mesh, call.user):
            raise RaveError(Code.NOT_FOUND, "not invited")
        return {"success": True}

    def _leave(self, call: Call) -> dict[str, Any]:
        mesh = self._world.mesh(call.path["mesh"])
        self._own_device(call.user, {"deviceId": call.path["device"]})
        if not self._world.part(mesh, [call.user]):
            raise RaveError(Code.NOT_FOUND, "not in this mesh")
        return {"success": True}

    def _kick(self, call: Call) -> dict[str, Any]:
        mesh = self._visible(call)
        self._own_device(call.user, call.body)
        if mesh.leader != call.user.peer_id:
            raise RaveError(Code.FORBIDDEN, "only the leader may kick")
        for user in self._known(call):
            if user.peer_id in mesh.present:
                self._world.kick(mesh, user)
        return {"success": True}

    def _self(self, call: Call) -> dict[str, Any]:
        return {"data": views.user_object(call.user, self._world.options)}

    def _users(self, call: Call) -> dict[str, Any]:
        self._own_device(call.user, call.body)
        shown = [views.user_object(user, self._world.options) for user in self._known(call)]
        if fields.opt_bool(call.body, "includeOnline"):
            shown = [{**user, "online": True} for user in shown]
        return {"data": shown}

    # What the calls have in common.

    def _visible(self, call: Call) -> Mesh:
        mesh = self._world.mesh(call.path["mesh"])
        if not mesh.open_to(call.user):
            raise RaveError(Code.FORBIDDEN, "no access to this mesh")
        return mesh

    def _known(self, call: Call) -> list[User]:
        """The users whose ids the body lists; ids of nobody are passed over."""
        ids = [fields.as_int(value) for value in fields.get_list(call.body, "ids")]
        if None in ids:
            raise RaveError(Code.BAD_DATA, "ids holds something that is not an id")
        return [self._world.users[number] for number in ids if number in self._world.users]

    def _own_device(self, user: User, source: Object) -> None:
        if fields.get_str(source, "deviceId") != user.device_id:
            self._world.log.violation("deviceId", "the device is not one of the token's user")
            raise RaveError(Code.FORBIDDEN, "not your device")


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false"):
        raise RaveError(Code.BAD_DATA, f"{name} must be true or false")
    return value == "true"


def _position(cursor: str | None) -> int:
    """The serial number in a cursor; 0 without one."""
    if cursor is None:
        return 0
    try:
        return int(cursor.removeprefix("after-"), 16)
    except ValueError as e:
        raise RaveError(Code.BAD_DATA, "cursor is none of ours") from e


def _listed(mesh: Mesh, user: User, flags: Mapping[str, bool]) -> bool:
    kinds = {"public": mesh.public, "friends": mesh.friends, "local": mesh.local, "invited": user.id in mesh.invited}
    return not mesh.missing and any(kinds[name] for name, wanted in flags.items() if wanted)


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _answer(request: web.Request, status: int, payload: dict[str, Any]) -> web.Response:
    """A JSON answer, compressed if the client takes it, as the real server's answers are."""
    body = json.dumps(payload).encode()
    response = web.Response(body=body, status=status, content_type="application/json")
    if len(body) >= _COMPRESS_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _cut(request: web.Request, payload: dict[str, Any]) -> web.StreamResponse:
    """Half an answer: the headers promise all of it, and the connection ends in the middle."""
    body = json.dumps(payload).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
    return response
