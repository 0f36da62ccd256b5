"""HTTP calls: check them, answer them, and apply the faults that are switched on."""

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
from ravesvc.simulator import hostile, payloads
from ravesvc.simulator.fault_options import Fault
from ravesvc.simulator.mesh import SimulatedUser
from ravesvc.simulator.payloads import Content, Payload
from ravesvc.simulator.request_checks import Checks, bearer
from ravesvc.simulator.world import World

# A call that hangs is ended after this time, so that a forgotten fault option does not pile calls up.
_MAX_HANG_S = 120.0
_MIN_COMPRESSED_BYTES = 1024
# The HTTP status and the error code of answers that are no mistake of the client.
_STATUS_AND_CODE = {
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
    """A call that passed the checks; `user` has the id 0 if the call has no session."""

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
CallObserver = Callable[[web.Request, "Fault | None", int, Payload], None]
ErrorPayload = Callable[[int, str], dict[str, Any]]


def error_payload(code: int, message: str) -> dict[str, Any]:
    """The payload with which Rave refuses a call."""
    return {"error": {"code": code, "message": message}}


class HttpEndpoint:
    """Turns handlers into routes. `error` makes the payload with which this server refuses a call."""

    def __init__(self, world: World, error: ErrorPayload = error_payload) -> None:
        self._world = world
        self._error = error

    def route(
        self,
        target: str,
        verb: str,
        path: str,
        checks: Checks,
        handler: Handler,
        observe: CallObserver = lambda _request, _fault, _status, _payload: None,
    ) -> web.RouteDef:
        """A route that fails while a fault is set for `target`.

        `observe` is called for every call with the request, its fault or None, and the status and payload that the
        call gets without a fault.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            fault = self._world.faults.next_fault(target)
            status, payload = await self._check_and_handle(
                request, checks, _empty if fault and fault.refuses else handler
            )
            observe(request, fault, status, payload)
            return (
                await self._with_fault(request, fault, status, payload)
                if fault
                else _response(request, status, payload)
            )

        return web.route(verb, path, answer)

    async def _check_and_handle(self, request: web.Request, checks: Checks, handler: Handler) -> tuple[int, Payload]:
        """Status and payload of a call without a fault."""
        where = f"{request.method} {request.path}"
        world = self._world
        body = await request.read()
        window = world.options.request_window
        mismatches = checks.mismatches(request.headers, body, now=world.clock(), window=window)
        for mismatch in mismatches:
            world.log.violation(where, mismatch.what)
        if mismatches:
            return mismatches[0].status, self._rejection(mismatches[0].status, mismatches[0].what)
        token = bearer(request.headers)
        if token in world.expired:
            return 401, self._rejection(401, "the session has expired")
        try:
            user = world.sessions.get(token, _NO_SESSION)
            call = RestCall(user, token, request.match_info, request.query, body, request.content_type)
            return 200, handler(call)
        except RaveError as e:
            status, code = _STATUS_AND_CODE.get(e.code, (400, 400))
            if e.code not in _STATUS_AND_CODE:
                world.log.violation(where, e.message)
            return status, self._error(code, e.message)

    def _rejection(self, status: int, reason: str) -> dict[str, Any]:
        return self._error(status, reason if self._world.options.reasons == "given" else "Unauthorized")

    async def _with_fault(
        self, request: web.Request, fault: Fault, status: int, payload: Payload
    ) -> web.StreamResponse:
        """The answer with this fault applied."""
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            payload = self._error(fault.status, "switched on")
            return web.json_response(payload, status=fault.status, headers=headers)
        if fault.mode == "2015":
            return web.json_response(self._error(2015, "slow down"), status=400)
        if fault.mode == "empty":
            return _response(request, 200, {"data": [], "paging": {}})
        if fault.mode == "half-page":
            return await _half_response(request, payload)
        if fault.mode == "later-page":
            later = "cursor" in request.query
            return (
                _response(request, 500, self._error(500, "switched on"))
                if later
                else _response(request, status, payload)
            )
        if fault.mode in payloads.CORRUPTIONS:
            return _response(request, status, payloads.CORRUPTIONS[fault.mode](payload))
        if fault.mode == "slow":
            await self._world.log.wait_until(lambda: request.transport is None, self._world.options.slow_by)
            return _response(request, status, payload)
        if fault.mode == "timeout":
            await self._world.log.wait_until(lambda: request.transport is None, _MAX_HANG_S)
        if fault.mode in hostile.ANSWERS and request.transport is not None:
            await hostile.write_stream(request.transport, hostile.ANSWERS[fault.mode])
            request.transport.close()
            return web.Response(status=status)
        # `reset`, `refused` and the end of a `timeout`: cut the connection without an answer.
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)


def _empty(_: RestCall) -> dict[str, Any]:
    return {}


def _to_content(payload: Payload) -> Content:
    return payload if isinstance(payload, Content) else Content("application/json", json.dumps(payload).encode())


def _response(request: web.Request, status: int, payload: Payload) -> web.Response:
    """An answer. JSON is compressed if it is long and the client accepts that, as with the real server."""
    answer = _to_content(payload)
    response = web.Response(body=answer.content, status=status, content_type=answer.mime)
    long = answer is not payload and len(answer.content) >= _MIN_COMPRESSED_BYTES
    if long and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def _half_response(request: web.Request, payload: Payload) -> web.StreamResponse:
    """Half an answer: the headers promise all of it, and the connection ends in the middle."""
    answer = _to_content(payload)
    response = web.StreamResponse(headers={"Content-Type": answer.mime, "Content-Length": str(len(answer.content))})
    await response.prepare(request)
    await response.write(answer.content[: len(answer.content) // 2])
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
    return response
