"""Every HTTP call on its way in and out: checked, answered, or made to fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import hostile, lies
from ravesvc.simulator.fault_options import Fault
from ravesvc.simulator.lies import Content, Payload
from ravesvc.simulator.mesh import SimulatedUser
from ravesvc.simulator.request_checks import Checks, bearer
from ravesvc.simulator.world import World

# A call that hangs is ended after this time, so that a forgotten fault option does not pile calls up.
_MAX_HANG_S = 120.0
_MIN_COMPRESSED_BYTES = 1024
# The HTTP status and the error code of answers that are no mistake of the client.
_ANSWERS = {
    Code.NO_SUCH_MESH: (404, 404),
    Code.NOT_FOUND: (404, 404),
    Code.NOT_CONFIRMED: (410, 410),
    Code.FORBIDDEN: (403, 403),
    # The magic-link service's own code.
    Code.WRONG_ADDRESS: (400, 900),
    # A video provider's key that is wrong.
    Code.CONFIG: (400, 400),
    Code.TOO_LARGE: (413, 413),
}
_NO_SESSION = SimulatedUser(0, "", "", "")


@dataclass(frozen=True, slots=True)
class RestCall:
    """A call that passed the checks; `user` has the id 0 where no token counts."""

    user: SimulatedUser
    token: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    content: bytes
    mime: str

    @property
    def body(self) -> Object:
        """The JSON object that was sent, empty if nothing was; raises `RaveError` (BadData)."""
        return json_fields.parse_object(self.content, "the body") if self.content else {}


Handler = Callable[[RestCall], Payload]
Watch = Callable[[web.Request, "Fault | None", int, Payload], None]
Error = Callable[[int, str], dict[str, Any]]


def error(code: int, message: str) -> dict[str, Any]:
    """The payload of an answer of Rave's that says no."""
    return {"error": {"code": code, "message": message}}


class HttpEndpoint:
    """Makes routes of handlers. `error` is the payload with which this server says no."""

    def __init__(self, world: World, error: Error = error) -> None:
        self._world = world
        self._error = error

    def route(
        self,
        target: str,
        verb: str,
        path: str,
        checks: Checks,
        handler: Handler,
        watch: Watch = lambda _request, _fault, _status, _payload: None,
    ) -> web.RouteDef:
        """A route that can be made to fail as `target`.

        `watch` is told of every call: the failure that it meets, and what is answered if it meets none.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            fault = self._world.faults.take(target)
            status, payload = await self._checked(request, checks, _nothing if fault and fault.refuses else handler)
            watch(request, fault, status, payload)
            return (
                await self._failing(request, fault, status, payload) if fault else _answer(request, status, payload)
            )

        return web.route(verb, path, answer)

    async def _checked(self, request: web.Request, checks: Checks, handler: Handler) -> tuple[int, Payload]:
        """Status and payload of a call without a fault."""
        where = f"{request.method} {request.path}"
        world = self._world
        body = await request.read()
        window = world.options.request_window
        mismatches = checks.mismatches(request.headers, body, now=world.clock(), window=window)
        for mismatch in mismatches:
            world.log.violation(where, mismatch.what)
        if mismatches:
            return mismatches[0].status, self._refusal(mismatches[0].status, mismatches[0].what)
        token = bearer(request.headers)
        if token in world.expired:
            return 401, self._refusal(401, "the session has expired")
        try:
            user = world.sessions.get(token, _NO_SESSION)
            call = RestCall(user, token, request.match_info, request.query, body, request.content_type)
            return 200, handler(call)
        except RaveError as e:
            status, code = _ANSWERS.get(e.code, (400, 400))
            if e.code not in _ANSWERS:
                world.log.violation(where, e.message)
            return status, self._error(code, e.message)

    def _refusal(self, status: int, reason: str) -> dict[str, Any]:
        return self._error(status, reason if self._world.options.reasons == "given" else "Unauthorized")

    async def _failing(self, request: web.Request, fault: Fault, status: int, payload: Payload) -> web.StreamResponse:
        """The answer with a failure that is switched on."""
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            payload = self._error(fault.status, "switched on")
            return web.json_response(payload, status=fault.status, headers=headers)
        if fault.mode == "2015":
            return web.json_response(self._error(2015, "slow down"), status=400)
        if fault.mode == "empty":
            return _answer(request, 200, {"data": [], "paging": {}})
        if fault.mode == "half-page":
            return await _cut(request, payload)
        if fault.mode == "later-page":
            later = "cursor" in request.query
            return (
                _answer(request, 500, self._error(500, "switched on")) if later else _answer(request, status, payload)
            )
        if fault.mode in lies.LIES:
            return _answer(request, status, lies.LIES[fault.mode](payload))
        if fault.mode == "slow":
            await self._world.log.wait_until(lambda: request.transport is None, self._world.options.slow_by)
            return _answer(request, status, payload)
        if fault.mode == "timeout":
            await self._world.log.wait_until(lambda: request.transport is None, _MAX_HANG_S)
        if fault.mode in hostile.ANSWERS and request.transport is not None:
            await hostile.pour(request.transport, hostile.ANSWERS[fault.mode])
            request.transport.close()
            return web.Response(status=status)
        # `reset` and `refused`, and a call that hung: without a word.
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)


def _nothing(_: RestCall) -> dict[str, Any]:
    return {}


def _encoded(payload: Payload) -> Content:
    return payload if isinstance(payload, Content) else Content("application/json", json.dumps(payload).encode())


def _answer(request: web.Request, status: int, payload: Payload) -> web.Response:
    """An answer, compressed if it is JSON and the client takes it, as the real server's answers are."""
    said = _encoded(payload)
    response = web.Response(body=said.content, status=status, content_type=said.mime)
    long = said is not payload and len(said.content) >= _MIN_COMPRESSED_BYTES
    if long and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _cut(request: web.Request, payload: Payload) -> web.StreamResponse:
    """Half an answer: the headers promise all of it, and the connection ends in the middle."""
    said = _encoded(payload)
    response = web.StreamResponse(headers={"Content-Type": said.mime, "Content-Length": str(len(said.content))})
    await response.prepare(request)
    await response.write(said.content[: len(said.content) // 2])
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
    return response
