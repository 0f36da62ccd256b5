"""Rave over WebSocket: one protoo peer.

Frames are read here without the client's code: a mistake there must not hide itself.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from aiohttp import WSMsgType, web

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import hostile, serializers
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser, SocketEnd
from ravesvc.simulator.request_checks import chat_mistake
from ravesvc.simulator.world import CLOSED_BY_SERVER, World

# Frames that wait for a slow client. With more, the connection is cut.
_MAX_OUTBOX_FRAMES = 1000

_ABNORMAL = 1006
_NO_STATUS = 1005


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The last entry of an outbox."""

    code: int
    reason: str


class SocketPeer:
    """A connected client. `number` is of its connection and never reused; `connected_at` is in epoch seconds."""

    def __init__(
        self, world: World, mesh: SimulatedMesh, user: SimulatedUser, number: int, ws: web.WebSocketResponse
    ) -> None:
        self.user = user
        self.number = number
        self.connected_at = world.clock()
        self.joined = False
        self.pings = 0
        self._world = world
        self._mesh = mesh
        self._ws = ws
        self._transport: asyncio.Transport | None = None
        self._outbox: asyncio.Queue[str | CloseFrame] = asyncio.Queue(_MAX_OUTBOX_FRAMES)
        self._end: SocketEnd | None = None
        self._unanswered: dict[int, asyncio.TimerHandle | None] = {}
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._request_ids = count(1)
        self._floods: list[asyncio.Task[None]] = []

    # Calls by the world.

    def send(self, frame: dict[str, Any]) -> None:
        """Queue a frame; does nothing once the connection is being closed."""
        if self._end is None:
            self._queue(json.dumps(frame))

    def echo(self, frame: dict[str, Any]) -> None:
        """As `send`, for a chat message of the client itself: after the fault option `echo_delay`."""
        delay = self._world.options.echo_delay
        if delay == 0:
            self.send(frame)
        elif delay != math.inf:
            asyncio.get_running_loop().call_later(delay, self.send, frame)

    def close(self, code: int, reason: str) -> None:
        """Close with a close frame, after the queued frames."""
        if self._end is None:
            self._end = SocketEnd(code, reason, "server")
            self._queue(CloseFrame(code, reason))

    def abort(self) -> None:
        """Cut the TCP connection without a close frame."""
        self._end = SocketEnd(_ABNORMAL, "cut", "server")
        if self._transport is not None:
            self._transport.abort()

    def flood(self, kind: str) -> None:
        """Send frames of a kind without a break until the client disconnects."""
        if self._transport is not None:
            self._floods.append(asyncio.create_task(hostile.write_stream(self._transport, hostile.FLOODS[kind])))

    def _queue(self, item: str | CloseFrame) -> None:
        try:
            self._outbox.put_nowait(item)
        except asyncio.QueueFull:
            self.abort()

    async def request(self, method: str, data: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send the client a request and return its answer unchanged; raises `RaveError` (Timeout)."""
        number = next(self._request_ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self.send({"request": True, "id": number, "method": method, "data": data})
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as e:
            raise RaveError(Code.TIMEOUT, f"the client did not answer {method[:40]!r}") from e
        finally:
            del self._pending[number]

    # The connection.

    async def run(self, request: web.Request) -> None:
        """Upgrade and serve the connection until its end, between `World.attach` and `World.detach`.

        Scenario: a second client with the same peer id opens a socket while this one is still upgrading. It must be
        rejected, so the peer is attached before the upgrade.
        """
        self._world.attach(self._mesh, self)
        self._transport = request.transport
        end = SocketEnd(_ABNORMAL, "lost", "network")
        try:
            await self._ws.prepare(request)
            writer = asyncio.create_task(self._write())
            end = await self._read()
        finally:
            self._end = self._end or end
            for handle in filter(None, self._unanswered.values()):
                handle.cancel()
            for flood in self._floods:
                flood.cancel()
            self._world.detach(self._mesh, self, self._end)
        if self._end.by != "server" or self._end.code == _ABNORMAL:
            writer.cancel()
        # If the server has begun to close, the writer waits for the client's close frame.
        await asyncio.gather(writer, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            item = await self._outbox.get()
            if isinstance(item, CloseFrame):
                await self._ws.close(code=item.code, message=item.reason.encode()[:123])
                return
            try:
                await self._ws.send_str(item)
            except ConnectionError:
                # The reader sees the loss as well and ends the connection.
                return

    async def _read(self) -> SocketEnd:
        while True:
            limit = self._world.options.silence_limit
            try:
                message = await self._ws.receive(None if limit == math.inf else limit)
            except TimeoutError:
                self._violation(f"silent for {limit:g} s")
                self.close(CLOSED_BY_SERVER, "silent")
                continue
            if message.type is WSMsgType.TEXT:
                self._on_text(message.data)
            elif message.type is WSMsgType.CLOSE:
                return SocketEnd(message.data or _NO_STATUS, message.extra or "", "client")
            elif message.type is not WSMsgType.BINARY:
                # CLOSING follows a close by the server. All other types are the loss of the connection, for which
                # the library's own code is sometimes 1000.
                return SocketEnd(_ABNORMAL, "lost", "network")

    # Frames.

    def _on_text(self, text: str) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            self._violation("a frame is no JSON object")
            return
        data = frame.get("data", {})
        if not isinstance(data, dict):
            self._violation("data of a frame is no object")
            return
        if frame.get("request"):
            self._on_request(frame, data)
        elif frame.get("response"):
            self._on_response(frame)
        elif frame.get("notification"):
            self._on_notification(frame.get("method"), data)
        else:
            self._violation("a frame is neither request nor response nor notification")

    def _on_request(self, frame: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        number, method = frame.get("id"), frame.get("method")
        if type(number) is not int or not isinstance(method, str):
            self._violation("a request has no numeric id or no method")
            return
        if number in self._unanswered:
            self._violation("a request has the id of another one that is still unanswered")
        options = self._world.options
        if method in options.refused_methods.split(","):
            self._send_error(number, 403, "switched on")
        elif method == "fullyJoined":
            self._send_ok(number, options.joined_delay, lambda: self._world.mark_joined(self._mesh, self))
        elif method == "clientPing":
            self.pings += 1
            self._send_ok(number, options.ping_delay)
        elif method != "chatMessage":
            self._violation(f"unknown request {method[:40]!r}")
            self._send_error(number, 404, "unknown method")
        elif options.chat_form == "refusing":
            self._send_error(number, 400, "not a notification")
        elif options.chat_form == "notification" or self._on_chat(data):
            self._send_ok(number, options.chat_delay)
        else:
            self._send_error(number, 403, "not allowed")

    def _send_ok(self, number: int, delay: float, after: Callable[[], None] = lambda: None) -> None:
        """Answer a request after `delay` seconds, or never if that is infinite; then call `after`."""

        def answer() -> None:
            self._unanswered.pop(number, None)
            self.send({"response": True, "id": number, "ok": True, "data": {}})
            after()

        if delay == 0:
            answer()
        elif delay == math.inf:
            self._unanswered[number] = None
        else:
            self._unanswered[number] = asyncio.get_running_loop().call_later(delay, answer)

    def _send_error(self, number: int, code: int, reason: str) -> None:
        frame = {"response": True, "id": number, "ok": False, "errorCode": code, "errorReason": reason}
        if self._world.options.refusal_ok == "absent":
            del frame["ok"]
        self.send(frame)

    def _on_response(self, frame: dict[str, Any]) -> None:
        number = frame.get("id")
        answer = self._pending.get(number) if isinstance(number, int) else None
        if answer is None and number == hostile.FLOOD_REQUEST_ID and self._floods:
            return
        if answer is None:
            self._violation("a response to no request")
        elif not answer.done():
            self._world.log.record("answered", mesh=self._mesh.id, frame=frame)
            answer.set_result(frame)

    def _on_notification(self, method: object, data: Mapping[str, Any]) -> None:
        if method == "chatMessage":
            if self._world.options.chat_form != "request":
                self._on_chat(data)
        elif method in ("typing", "typing_stop"):
            self._on_typing(str(method))
        else:
            self._violation(f"unknown notification {str(method)[:40]!r}")

    def _on_typing(self, method: str) -> None:
        self._world.log.record(method, mesh=self._mesh.id, user=self.user.handle)
        frame = serializers.notification(method, {"from": self.user.peer_id})
        for peer in self._mesh.peers.values():
            if peer is not self and peer.joined:
                peer.send(frame)

    def _on_chat(self, data: Mapping[str, Any]) -> bool:
        """Relay a chat message of the client; False if the client may not send it."""
        if not self.joined:
            # No mistake after a kick: the client may have sent the message before it received the kick.
            if self.user.peer_id in self._mesh.present:
                self._violation("chatMessage before fullyJoined was answered")
            return False
        if mistake := chat_mistake(data):
            self._violation(mistake)
            return False
        self._world.relay_chat(self._mesh, self.user, data)
        return True

    def _violation(self, what: str) -> None:
        self._world.log.violation(f"socket of {self._mesh.id}", what)
