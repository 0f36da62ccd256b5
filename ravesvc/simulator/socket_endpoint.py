"""Opening a WebSocket: which client may open one, and the fault options that reject it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count

from aiohttp import web

from ravesvc.simulator.fault_options import RejectRule
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.peer import SocketPeer
from ravesvc.simulator.request_checks import Mismatch, bearer, socket_mismatches
from ravesvc.simulator.world import World

# How long a client may take to answer a close frame.
_CLOSE_TIMEOUT_S = 2.0
_MAX_FRAME_BYTES = 256 * 1024


class SocketEndpoint:
    """Opens sockets and keeps the set of open ones."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._open: set[SocketPeer] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler of `GET /`: check, upgrade, serve until the end."""
        if "Upgrade" not in request.headers and not request.query:
            # A client that only asks whether the server is up and what its clock says, such as the doctor.
            return web.Response(status=404, text="nothing to see")
        mismatch = self._mismatch(request.headers, request.query)
        if mismatch is not None:
            self._world.log.violation(f"socket of {request.query.get('roomId', '')[:40]}", mismatch.what)
            return self._reject(request, mismatch.status)
        user = self._world.sessions[bearer(request.headers)]
        if bearer(request.headers) in self._world.expired:
            return self._reject(request, 401)
        mesh = self._world.meshes.get(request.query["roomId"])
        if mesh is None:
            return self._reject(request, 404)
        if request.query["peerId"] in mesh.peers:
            # No mistake of this client: it can't know that another client uses the account.
            return self._reject(request, 403)
        rule = _next_rejection(mesh)
        if rule is not None and rule.after_open is None:
            return self._reject(request, rule.status)
        if not self._world.is_open(mesh, user):
            return self._reject(request, 403)
        return await self._serve(request, mesh, user, rule)

    async def close_all(self, code: int) -> None:
        """Close every socket and wait for its end."""
        for peer in self._open:
            peer.close(code, "the simulator stops")
        await self._world.log.wait_until(lambda: not self._open, _CLOSE_TIMEOUT_S)

    def _mismatch(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Mismatch | None:
        """The first thing wrong with an opening that is the client's mistake."""
        mismatches = socket_mismatches(headers, query, self._world.sessions)
        if mismatches:
            return mismatches[0]
        if query["peerId"] != self._world.sessions[bearer(headers)].peer_id:
            return Mismatch(403, "peerId is not of the token's user and device")
        return None

    def _reject(self, request: web.Request, status: int) -> web.Response:
        self._world.log.record("refused", mesh=request.query.get("roomId", "")[:40], status=status)
        return web.Response(status=status, text="refused")

    async def _serve(
        self, request: web.Request, mesh: SimulatedMesh, user: SimulatedUser, rule: RejectRule | None
    ) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            protocols=("protoo",), timeout=_CLOSE_TIMEOUT_S, compress=False, max_msg_size=_MAX_FRAME_BYTES
        )
        if not ws.can_prepare(request):
            return self._reject(request, 400)
        peer = SocketPeer(self._world, mesh, user, next(self._numbers), ws)
        if rule is not None and rule.after_open is not None:
            asyncio.get_running_loop().call_later(rule.after_open, peer.close, rule.code, "rejected")
        self._open.add(peer)
        try:
            await peer.run(request)
        finally:
            self._open.remove(peer)
            # Wakes close_all.
            self._world.log.record("gone", mesh=mesh.id, connection=peer.number)
        return ws


def _next_rejection(mesh: SimulatedMesh) -> RejectRule | None:
    """The rule that rejects the current opening, if any; counts it down."""
    rule = mesh.reject_rule
    if rule is not None and rule.times is not None:
        rule.times -= 1
        if rule.times <= 0:
            mesh.reject_rule = None
    return rule
