"""The control API: JSON over HTTP on a Unix socket, for `client.Control` and `rave-simulator`.

A verb is `POST /<verb>` with an object. Most take `meshes`: a list of ids, or the text `all`. Errors come as
`{"code", "message", "hint"}` with status 400, 403, 404 or 408.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.errors import Code, RaveError
from ravesvc.simulator.fault_options import FLOOD_KINDS, Fault, RejectRule
from ravesvc.simulator.friendships import Friendships
from ravesvc.simulator.mesh import Crowd, SimulatedMesh, SimulatedPeer, SimulatedUser
from ravesvc.simulator.party import Party
from ravesvc.simulator.party_control import PartyControl
from ravesvc.simulator.peer import SocketPeer
from ravesvc.simulator.world import CLOSED_BY_SERVER, ORIGINATOR, World

_STATUS_OF = {
    Code.FORBIDDEN: 403,
    Code.NO_SUCH_MESH: 404,
    Code.NOT_FOUND: 404,
    Code.NOT_RUNNING: 404,
    Code.TIMEOUT: 408,
}
# The longest wait that a client may ask for.
_MAX_WAIT_S = 3600.0
_MAX_CROWD_USERS = 100_000_000
_MAX_NEW_MESHES = 2000
# A bot has said all when it has been quiet for so long: before each message it types for a second, by default.
_QUIET_S = 2.0

Verb = Callable[[Object], Awaitable[dict[str, Any]]]


class ControlApi:
    """The verbs. `relisten` is called after the faults have changed: nothing may listen while calls are `refused`."""

    def __init__(self, world: World, party: Party, relisten: Callable[[], Awaitable[None]]) -> None:
        self._world = world
        self._party = PartyControl(world, party)
        self._relisten = relisten

    def app(self) -> web.Application:
        """The application to serve on the control socket."""
        app = web.Application(middlewares=[_errors])
        verbs: Sequence[Verb] = (
            *(self.create, self.remove, self.invite, self.uninvite, self.join, self.part),
            *(self.crowd, self.hide),
            *(self.chat, self.react, self.kick, self.ask),
            *(self._party.vote, self._party.clear_votes, self._party.judge, self._party.playback),
            *(self._party.video, self._party.leader, self._party.mute, self._party.unmute),
            *(self.befriend, self.unfriend),
            *(self.drop, self.flood, self.close, self.refuse, self.accept),
            *(self.confirm, self.expire),
            *(self.fail, self.option, self.wait),
        )
        app.add_routes([web.post(f"/{verb.__name__}", _handler(verb)) for verb in verbs])
        app.add_routes(
            [
                web.get("/state", self._state),
                web.get("/events", self._events),
                web.get("/violations", self._violations),
                web.delete("/violations", self._forget_violations),
            ]
        )
        return app

    # Queries.

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(self._world.to_json())

    async def _events(self, request: web.Request) -> web.Response:
        """The events after `after`; waits up to `wait` seconds for the first."""
        log = self._world.log
        after = json_fields.get_int(request.query, "after")
        await log.wait_until(lambda: log.seq > after, json_fields.opt_int(request.query, "wait") or 0)
        return web.json_response({"events": log.after(after)})

    async def _violations(self, _: web.Request) -> web.Response:
        return web.json_response({"violations": self._world.log.violations})

    async def _forget_violations(self, _: web.Request) -> web.Response:
        self._world.log.forget_violations()
        return web.json_response({})

    # Meshes and the users in them.

    async def create(self, body: Object) -> dict[str, Any]:
        """New meshes: `count`, `title`, `public`, `friends`, `local` -> `{"meshes": [id]}`."""
        number = _int(body, "count", 1)
        if not 1 <= number <= _MAX_NEW_MESHES:
            raise RaveError(Code.INVALID_ARGUMENT, f"count must be 1 to {_MAX_NEW_MESHES}")
        kinds = {kind: bool(json_fields.opt_bool(body, kind)) for kind in ("public", "friends", "local")}
        title = json_fields.opt_str(body, "title") or ""
        return {"meshes": [self._world.create(title=title, **kinds).id for _ in range(number)]}

    async def remove(self, body: Object) -> dict[str, Any]:
        """Delete `meshes`: calls about them get 404, and their sockets are closed."""
        for mesh in self._meshes(body):
            self._world.remove(mesh)
        return {}

    async def invite(self, body: Object) -> dict[str, Any]:
        """Invite `user` (the bot) into `meshes`."""
        for mesh in self._meshes(body):
            self._world.invite(mesh, self._user(body))
        return {}

    async def uninvite(self, body: Object) -> dict[str, Any]:
        """Remove the invitations of `user` (the bot) into `meshes`."""
        for mesh in self._meshes(body):
            self._world.uninvite(mesh, self._user(body))
        return {}

    async def join(self, body: Object) -> dict[str, Any]:
        """`users` join `meshes`, all with one state message."""
        users = [self._world.user(str(handle)) for handle in json_fields.get_list(body, "users")]
        for mesh in self._meshes(body):
            self._world.join(mesh, users)
        return {}

    async def part(self, body: Object) -> dict[str, Any]:
        """`users` leave `meshes`, all with one state message."""
        users = [self._world.user(str(handle)) for handle in json_fields.get_list(body, "users")]
        for mesh in self._meshes(body):
            self._world.leave(mesh, users)
        return {}

    async def crowd(self, body: Object) -> dict[str, Any]:
        """Enlarge the state of `meshes` by `users`, `votes` and `history` bytes of chat; 0 ends that."""
        sizes = {key: _size(body, key) for key in ("users", "votes", "history")}
        for mesh in self._meshes(body):
            self._world.set_crowd(mesh, Crowd(**sizes))
        return {}

    async def hide(self, body: Object) -> dict[str, Any]:
        """`meshes` are missing from the next `times` listings."""
        for mesh in self._meshes(body):
            mesh.hidden = _int(body, "times", 1)
        return {}

    # Chat, kicks and requests.

    async def chat(self, body: Object) -> dict[str, Any]:
        """`user` writes `text` in `mesh` -> `{"id", "answers": [text]}`.

        Waits up to `wait` seconds for `answers` messages that reply to it; returns those that came. Without `answers`
        it returns all that the bot says, and waits until the bot has been quiet for two seconds. `mentions` are the
        users who are mentioned, `reply` is the id of a message that it refers to.
        """
        world = self._world
        mesh = world.mesh(json_fields.get_str(body, "mesh"))
        user = world.user(json_fields.opt_str(body, "user") or ORIGINATOR)
        mentions = [world.user(str(handle)) for handle in json_fields.opt_list(body, "mentions") or []]
        since = world.log.seq
        message_id = world.send_chat(
            mesh, user, json_fields.get_str(body, "text"), reply=json_fields.opt_str(body, "reply"), mentions=mentions
        )
        wanted, wait = json_fields.opt_int(body, "answers"), _seconds(body, "wait", 0.0)
        if wanted is None:
            heard = await self._hear_out(mesh, world.log.seq, wait)
        else:
            await world.log.wait_until(lambda: len(world.replies_to(message_id, since)) >= wanted, wait)
            heard = world.replies_to(message_id, since)
        return {"id": message_id, "answers": [event["text"] for event in heard]}

    async def react(self, body: Object) -> dict[str, Any]:
        """`user` reacts with `emoji` in `mesh` to the message `to`, or the bot's last -> `{"id", "answers": [text]}`.

        Waits up to `wait` seconds for what the bot says then, as `chat` does without `answers`.
        """
        world = self._world
        mesh = world.mesh(json_fields.get_str(body, "mesh"))
        user = world.user(json_fields.opt_str(body, "user") or ORIGINATOR)
        said = [str(event["id"]) for event in world.said_by_bot(mesh, 0)]
        to = json_fields.opt_str(body, "to") or (said[-1] if said else "")
        if not to:
            raise RaveError(Code.NOT_FOUND, "the bot has said nothing to react to")
        reaction_id = world.send_reaction(mesh, user, json_fields.get_str(body, "emoji"), to)
        heard = await self._hear_out(mesh, world.log.seq, _seconds(body, "wait", 0.0))
        return {"id": reaction_id, "answers": [event["text"] for event in heard]}

    async def _hear_out(self, mesh: SimulatedMesh, since: int, wait: float) -> list[dict[str, Any]]:
        """What the bot says in a mesh, until it has been quiet for a while, at most for `wait` seconds."""
        end = asyncio.get_running_loop().time() + wait
        heard: list[dict[str, Any]] = []
        pause = wait

        def says_more() -> bool:
            return len(self._world.said_by_bot(mesh, since)) > len(heard)

        while await self._world.log.wait_until(says_more, pause):
            heard = self._world.said_by_bot(mesh, since)
            pause = min(_QUIET_S, end - asyncio.get_running_loop().time())
        return heard

    async def kick(self, body: Object) -> dict[str, Any]:
        """Kick `user` (the bot) out of `meshes`; see `World.kick` for `notice` and `close`."""
        notice = _one_of(body, "notice", ("both", "notification", "state"))
        close = _one_of(body, "close", ("after", "before", "not"))
        for mesh in self._meshes(body):
            self._world.kick(mesh, self._user(body), notice=notice, close=close)
        return {}

    async def ask(self, body: Object) -> dict[str, Any]:
        """Send the bot in `mesh` a request `method` with `data` -> `{"answer": frame}`, waiting `timeout` seconds."""
        mesh = self._world.mesh(json_fields.get_str(body, "mesh"))
        peer = self._bot_peer(mesh)
        if not isinstance(peer, SocketPeer):
            raise RaveError(Code.NOT_RUNNING, "the bot is not connected")
        data = json_fields.opt_object(body, "data") or {}
        return {
            "answer": await peer.request(json_fields.get_str(body, "method"), data, _seconds(body, "timeout", 5.0))
        }

    # Friends.

    async def befriend(self, body: Object) -> dict[str, Any]:
        """`user` asks `other` (the bot) for friendship, or accepts it if `other` has asked -> `{"state"}`."""
        return {"state": self._world.change_friendship(Friendships.request, *self._two_users(body))}

    async def unfriend(self, body: Object) -> dict[str, Any]:
        """`user` ends the friendship with `other` (the bot), or declines or withdraws the request for it."""
        self._world.change_friendship(Friendships.end, *self._two_users(body))
        return {}

    def _two_users(self, body: Object) -> tuple[SimulatedUser, SimulatedUser]:
        other = json_fields.opt_str(body, "other")
        user = self._world.user(json_fields.get_str(body, "user"))
        return user, self._world.bot if other is None else self._world.user(other)

    # Connections.

    async def drop(self, body: Object) -> dict[str, Any]:
        """Cut the TCP connections of the sockets of `meshes`."""
        for mesh in self._meshes(body):
            for peer in list(mesh.peers.values()):
                peer.abort()
        return {}

    async def flood(self, body: Object) -> dict[str, Any]:
        """Send the sockets of `meshes` frames of a `kind` without a break, until their clients disconnect."""
        kind = _one_of(body, "kind", FLOOD_KINDS)
        for mesh in self._meshes(body):
            for peer in mesh.peers.values():
                if isinstance(peer, SocketPeer):
                    peer.flood(kind)
        return {}

    async def close(self, body: Object) -> dict[str, Any]:
        """Close the sockets of `meshes` with `code` and `reason`; `announced`: after a notification of it."""
        code = _int(body, "code", CLOSED_BY_SERVER)
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise RaveError(
                Code.INVALID_ARGUMENT, f"{code} can't stand in a close frame", hint="1000, 1011, 4000, ..."
            )
        for mesh in self._meshes(body):
            announced = bool(json_fields.opt_bool(body, "announced"))
            self._world.close(mesh, code, json_fields.opt_str(body, "reason") or "", announced=announced)
        return {}

    async def refuse(self, body: Object) -> dict[str, Any]:
        """Reject new sockets of `meshes`: with `status`, or `after_open` seconds after opening with `code`.

        `times` is how often, without an end if absent.
        """
        after_open = None if body.get("after_open") is None else json_fields.get_number(body, "after_open")
        status = _int(body, "status", 403)
        if not 400 <= status <= 599:
            raise RaveError(Code.INVALID_ARGUMENT, "status must be 400 to 599")
        for mesh in self._meshes(body):
            code = _int(body, "code", CLOSED_BY_SERVER)
            mesh.reject_rule = RejectRule(status, after_open, code, json_fields.opt_int(body, "times"))
        return {}

    async def accept(self, body: Object) -> dict[str, Any]:
        """End the effect of `refuse`."""
        for mesh in self._meshes(body):
            mesh.reject_rule = None
        return {}

    # The account.

    async def confirm(self, body: Object) -> dict[str, Any]:
        """Follow the link of the latest open mail, to the address `email` if there is one."""
        email = json_fields.opt_str(body, "email")
        self._world.mailbox.follow(email and email.lower())
        return {}

    async def expire(self, body: Object) -> dict[str, Any]:
        """End all sessions: calls and new sockets get 401. With `close`, open sockets are closed."""
        self._world.expire_sessions()
        if json_fields.opt_bool(body, "close"):
            for mesh in self._world.meshes.values():
                self._world.close(mesh, CLOSED_BY_SERVER, "session expired", announced=False)
        return {}

    # Faults, fault options, waiting.

    async def fail(self, body: Object) -> dict[str, Any]:
        """Let calls of `target` fail in `mode`, `times` (absent: for ever); `retry_after` goes with a status."""
        retry_after = json_fields.opt_int(body, "retry_after")
        fault = Fault(json_fields.get_str(body, "mode"), json_fields.opt_int(body, "times"), retry_after)
        self._world.faults.set(json_fields.get_str(body, "target"), fault)
        await self._relisten()
        return {}

    async def option(self, body: Object) -> dict[str, Any]:
        """Set fault options: each key is a name, its value the text to set."""
        for name, value in body.items():
            self._world.options.set(name, str(value))
        if "play_mode" in body:
            for mesh in self._world.meshes.values():
                self._world.broadcast_state(mesh)
        return {"options": self._world.options.to_json()}

    async def wait(self, body: Object) -> dict[str, Any]:
        """Wait up to `timeout` seconds until all conditions in the body hold -> the state.

        `connected`: ids of meshes in which the bot has fully joined. `disconnected`: those where it has no socket.
        `reconnected`: `{mesh: id}` of connections; the bot has fully joined with another one. `listings`: at least
        so many listings were completed since the start. `mail`: there is a mail whose link can be followed. `polls`:
        the client has polled the latest mail at least so often.
        """
        conditions = self._conditions(body)
        done = await self._world.log.wait_until(
            lambda: not any(left() for left in conditions), _seconds(body, "timeout", 30.0)
        )
        if not done:
            left = [what for missing in conditions for what in missing()]
            raise RaveError(Code.TIMEOUT, f"still waiting for {len(left)}: {', '.join(left[:5])}")
        return self._world.to_json()

    def _conditions(self, body: Object) -> list[Callable[[], list[str]]]:
        """Functions that return the conditions that do not hold yet."""
        connected = self._meshes_by_id(json_fields.opt_list(body, "connected") or [])
        disconnected = self._meshes_by_id(json_fields.opt_list(body, "disconnected") or [])
        former = json_fields.opt_object(body, "reconnected") or {}
        listings, polls = _int(body, "listings", 0), _int(body, "polls", 0)
        mail = bool(json_fields.opt_bool(body, "mail"))
        return [
            lambda: [f"{mesh.id} connected" for mesh in connected if not self._joined_connection(mesh)],
            lambda: [f"{mesh.id} disconnected" for mesh in disconnected if self._bot_peer(mesh)],
            lambda: [
                f"{mesh.id} reconnected"
                for mesh in self._meshes_by_id(list(former))
                if self._joined_connection(mesh) in (0, former[mesh.id])
            ],
            lambda: ["listings"] if self._world.listings["completed"] < listings else [],
            lambda: ["a mail"] if mail and not self._world.mailbox.waiting else [],
            lambda: ["polls"] if self._world.mailbox.polls < polls else [],
        ]

    # Helpers.

    def _meshes(self, body: Object) -> list[SimulatedMesh]:
        if body.get("meshes") == "all":
            return list(self._world.meshes.values())
        return self._meshes_by_id(json_fields.get_list(body, "meshes"))

    def _meshes_by_id(self, ids: Sequence[Any]) -> list[SimulatedMesh]:
        return [self._world.mesh(str(mesh_id)) for mesh_id in ids]

    def _user(self, body: Object) -> Any:
        handle = json_fields.opt_str(body, "user")
        return self._world.bot if handle is None else self._world.user(handle)

    def _bot_peer(self, mesh: SimulatedMesh) -> SimulatedPeer | None:
        return mesh.peers.get(self._world.bot.peer_id)

    def _joined_connection(self, mesh: SimulatedMesh) -> int:
        """The number of the connection with which the bot has fully joined, or 0."""
        peer = self._bot_peer(mesh)
        return peer.number if peer is not None and peer.joined else 0


def _one_of(body: Object, key: str, allowed: Sequence[str]) -> str:
    value = json_fields.opt_str(body, key) or allowed[0]
    if value not in allowed:
        raise RaveError(Code.INVALID_ARGUMENT, f"{key} must be one of: {', '.join(allowed)}")
    return value


def _int(body: Object, key: str, default: int) -> int:
    value = json_fields.opt_int(body, key)
    return default if value is None else value


def _size(body: Object, key: str) -> int:
    size = _int(body, key, 0)
    if not 0 <= size <= _MAX_CROWD_USERS:
        raise RaveError(Code.INVALID_ARGUMENT, f"{key} can't be {size}", hint=f"from 0 to {_MAX_CROWD_USERS}")
    return size


def _seconds(body: Object, key: str, default: float) -> float:
    value = default if body.get(key) is None else json_fields.get_number(body, key)
    if not 0 <= value <= _MAX_WAIT_S or math.isnan(value):
        raise RaveError(Code.INVALID_ARGUMENT, f"{key} must be 0 to {_MAX_WAIT_S:g} seconds")
    return value


def _handler(verb: Verb) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(await verb(json_fields.parse_object(await request.read() or b"{}", "the body")))

    return handle


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RaveError as e:
        document = {"code": e.code, "message": e.message, "hint": e.hint}
        return web.json_response(document, status=_STATUS_OF.get(e.code, 400))
