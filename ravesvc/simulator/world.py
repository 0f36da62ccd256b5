"""The simulated Rave: users, sessions, meshes, invitations, and the changes to them. No I/O, no waiting."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import serializers
from ravesvc.simulator.account import SimulatedAccount
from ravesvc.simulator.clips import Clips
from ravesvc.simulator.events import EventLog
from ravesvc.simulator.fault_options import FaultOptions, Faults
from ravesvc.simulator.friendships import FRIENDS, Change, Friendships
from ravesvc.simulator.mailbox import Mailbox
from ravesvc.simulator.mesh import Crowd, SimulatedMesh, SimulatedPeer, SimulatedUser, SocketEnd, connection
from ravesvc.simulator.playback import SimulatedPlayback, initial_video

# The close code and reason with which a protoo server ends a peer.
CLOSED_BY_SERVER = 4000
MAX_CHAT_COPIES = 10
# The user who creates all meshes.
ORIGINATOR = "ann"
_FIRST_USER_ID = 100_000_001


class World:
    """The whole state of the simulator.

    Attributes:
        server: the `host:port` in the addresses of its meshes.
        sessions: every bearer token, with its user on the device of the session. The bot's is there from the start.
        expired: the tokens that are no longer valid.
    """

    def __init__(self, account: SimulatedAccount, clock: Callable[[], float] = time.time) -> None:
        session = account.session
        self.clock = clock
        self.server = ""
        self.log = EventLog(clock)
        self.options = FaultOptions()
        self.faults = Faults()
        self.bot = SimulatedUser(session.user_id, "botty", "Botty", session.device_id)
        self.sessions: dict[str, SimulatedUser] = {session.auth_token: self.bot}
        self.expired: set[str] = set()
        self.users: dict[int, SimulatedUser] = {self.bot.id: self.bot}
        self.friendships = Friendships()
        self._ids_by_handle = {self.bot.handle: self.bot.id}
        self.mailbox = Mailbox(self.options, self.log, clock)
        self.logins = 0
        self._ids_by_email = {account.email.lower(): self.bot.id}
        self.meshes: dict[str, SimulatedMesh] = {}
        self.clips = Clips()
        self.provider_calls = dict.fromkeys(("search", "videos", "oembed", "picture"), 0)
        self.listings = {"begun": 0, "completed": 0, "failed": 0}
        self._serials = count(1)

    # Users.

    def user(self, handle: str) -> SimulatedUser:
        """The user with this handle, who is created if there is none; `botty` is the bot."""
        number = self._ids_by_handle.get(handle)
        if number is not None:
            return self.users[number]
        return self._add_user(handle, handle.title(), uuid.uuid4().hex)

    def _add_user(self, handle: str, name: str, device_id: str) -> SimulatedUser:
        user = SimulatedUser(_FIRST_USER_ID + len(self.users) - 1, handle, name, device_id)
        self.users[user.id] = user
        self._ids_by_handle.setdefault(handle, user.id)
        return user

    def change_friendship(self, change: Change, user: SimulatedUser, other: SimulatedUser) -> str:
        """A user requests a friendship, answers a request or ends it; returns the state that results for the user."""
        change(self.friendships, user.id, other.id)
        state = self.friendships.state(user.id, other.id)
        self.log.record("friendship", user=user.handle, other=other.handle, state=state)
        return state

    def is_of_a_friend(self, mesh: SimulatedMesh, user: SimulatedUser) -> bool:
        """Whether a mesh is one for friends, and a friend of the user has made it."""
        return mesh.friends and self.friendships.state(user.id, mesh.originator) == FRIENDS

    def is_open(self, mesh: SimulatedMesh, user: SimulatedUser) -> bool:
        """Whether a user may see and enter a mesh."""
        return mesh.is_open_to(user) or self.is_of_a_friend(mesh, user)

    # Sessions.

    def owner(self, email: str) -> SimulatedUser | None:
        """The user with this e-mail address."""
        number = self._ids_by_email.get(email)
        return None if number is None else self.users[number]

    def open_session(self, email: str) -> tuple[SimulatedUser, str]:
        """The user with this e-mail address, who is created if there is none, and the token of a new session.

        The session has no device until `register_device`; older sessions stay valid.
        """
        user = self.owner(email)
        if user is None:
            serial = len(self.users)
            user = self._add_user(f"user{serial}", f"User {serial}", "")
            self._ids_by_email[email] = user.id
        token = secrets.token_hex(16)
        self.sessions[token] = replace(user, device_id="")
        return user, token

    def register_device(self, token: str, device_id: str) -> bool:
        """Set the device of a session and of its user; False if the user had none before."""
        former = self.users[self.sessions[token].id]
        again = self.sessions[token].device_id == device_id
        user = self.sessions[token] = self.users[former.id] = replace(former, device_id=device_id)
        if user.id == self.bot.id:
            self.bot = user
        if not again:
            self.logins += 1
            self.log.record("login", user=user.handle)
        return bool(former.device_id)

    def expire_sessions(self) -> None:
        """End all sessions; sockets that are open stay."""
        self.expired.update(self.sessions)
        self.log.record("expired")

    # Meshes.

    def create(
        self, *, title: str = "", public: bool = False, friends: bool = False, local: bool = False
    ) -> SimulatedMesh:
        """A new mesh, with its originator in it."""
        originator = self.user(ORIGINATOR)
        serial = next(self._serials)
        title = title or f"Mesh {serial}"
        mesh = SimulatedMesh(
            id=str(uuid.uuid4()),
            serial=serial,
            title=title,
            public=public,
            friends=friends,
            local=local,
            created_at=self.clock(),
            originator=originator.id,
            playback=SimulatedPlayback(self.options, initial_video(title, self.clock())),
        )
        mesh.enter(originator, self.clock())
        self.meshes[mesh.id] = mesh
        self.log.record("created", mesh=mesh.id)
        return mesh

    def mesh(self, mesh_id: str) -> SimulatedMesh:
        """The mesh with this id; raises `RaveError` (NoSuchMesh)."""
        mesh = self.meshes.get(mesh_id)
        if mesh is None:
            raise RaveError(Code.NO_SUCH_MESH, f"no mesh {mesh_id[:40]!r}")
        return mesh

    def remove(self, mesh: SimulatedMesh) -> None:
        """Delete the mesh: its sockets get a notification and are closed, and calls about it get 404."""
        del self.meshes[mesh.id]
        self.log.record("removed", mesh=mesh.id)
        self.close(mesh, CLOSED_BY_SERVER, "mesh closed", announced=True)

    def close(self, mesh: SimulatedMesh, code: int, reason: str, *, announced: bool) -> None:
        """Close all sockets of a mesh, if `announced` after the notification `disconnected`."""
        for peer in list(mesh.peers.values()):
            if announced:
                peer.send(serializers.notification("disconnected", {}))
            peer.close(code, reason)

    def invite(self, mesh: SimulatedMesh, user: SimulatedUser) -> None:
        """Invite a user, so that the mesh appears in the user's listing."""
        mesh.invited.add(user.id)
        mesh.kicked.discard(user.id)
        self.log.record("invited", mesh=mesh.id, user=user.handle)

    def uninvite(self, mesh: SimulatedMesh, user: SimulatedUser) -> bool:
        """Remove an invitation; False if there is none."""
        if user.id not in mesh.invited:
            return False
        mesh.invited.remove(user.id)
        self.log.record("uninvited", mesh=mesh.id, user=user.handle)
        return True

    def begin_listing(self) -> None:
        """A client asks for the first page of a listing; hidden meshes are missing in this and its later pages."""
        self.listings["begun"] += 1
        for mesh in self.meshes.values():
            mesh.missing = mesh.hidden > 0
            mesh.hidden -= int(mesh.missing)

    def end_listing(self, outcome: str) -> None:
        """A listing was `completed`, or a page of it `failed`."""
        self.listings[outcome] += 1
        self.log.record("listing", outcome=outcome)

    # The users in a mesh.

    def join(self, mesh: SimulatedMesh, users: Iterable[SimulatedUser]) -> None:
        """Add users to a mesh, without a socket."""
        came = [user for user in users if mesh.enter(user, self.clock())]
        if came:
            self.log.record("joined", mesh=mesh.id, users=[user.handle for user in came])
            self.broadcast_state(mesh)

    def set_crowd(self, mesh: SimulatedMesh, crowd: Crowd) -> None:
        """Enlarge the state of a mesh; an empty `Crowd` ends that."""
        mesh.crowd = crowd
        self.log.record("crowd", mesh=mesh.id, **asdict(crowd))
        self.broadcast_state(mesh)

    def leave(self, mesh: SimulatedMesh, users: Iterable[SimulatedUser]) -> bool:
        """Remove users; their sockets, if any, stay open until they close them. False if none of them was there."""
        went = [user for user in users if mesh.leave(user)]
        if went:
            self.log.record("left", mesh=mesh.id, users=[user.handle for user in went])
            self.broadcast_state(mesh)
        return bool(went)

    def kick(self, mesh: SimulatedMesh, user: SimulatedUser, *, notice: str = "both", close: str = "after") -> None:
        """Kick a user.

        The user learns of it (`notice`) by a `notification`, by the `state` (the list `kicks`, which a user who comes
        back without an invitation sees too), or by `both`. The socket is closed `after` that, `before` it (then no
        notification is sent), or `not` at all.
        """
        peer = mesh.peers.get(user.peer_id)
        if not mesh.leave(user) and peer is None:
            raise RaveError(Code.INVALID_ARGUMENT, f"{user.handle} is not in the mesh")
        self.log.record("kicked", mesh=mesh.id, user=user.handle)
        if notice != "notification":
            mesh.kicked.add(user.id)
        if peer is not None and close == "before":
            peer.close(CLOSED_BY_SERVER, "kicked")
        elif peer is not None and notice != "state":
            peer.send(serializers.notification("kicked", {}))
        self.broadcast(mesh, serializers.state_message(mesh, self.options))
        if peer is not None:
            peer.joined = False
            if close == "after":
                peer.close(CLOSED_BY_SERVER, "kicked")

    # Sockets.

    def attach(self, mesh: SimulatedMesh, peer: SimulatedPeer) -> None:
        """Add a socket that has opened, and with it its user."""
        mesh.peers[peer.user.peer_id] = peer
        self.log.record("opened", mesh=mesh.id, connection=peer.number)
        self.join(mesh, [peer.user])
        if self.options.first_state == "before":
            peer.send(serializers.state_message(mesh, self.options))

    def mark_joined(self, mesh: SimulatedMesh, peer: SimulatedPeer) -> None:
        """The request fullyJoined of a socket was answered: from now on the socket receives broadcasts."""
        peer.joined = True
        self.log.record("connected", mesh=mesh.id, connection=peer.number)
        if self.options.first_state == "after":
            peer.send(serializers.state_message(mesh, self.options))

    def detach(self, mesh: SimulatedMesh, peer: SimulatedPeer, end: SocketEnd) -> None:
        """Remove a socket that has ended, and with it its user."""
        del mesh.peers[peer.user.peer_id]
        ended = {**connection(peer), "ended": self.clock(), "code": end.code, "reason": end.reason, "by": end.by}
        mesh.ended.append(ended)
        facts = {"connection": peer.number, "code": end.code, "reason": end.reason, "by": end.by}
        self.log.record("closed", mesh=mesh.id, **facts)
        self.leave(mesh, [peer.user])

    def broadcast(self, mesh: SimulatedMesh, frame: dict[str, Any]) -> None:
        """Send a frame to every socket that has fully joined."""
        for peer in mesh.peers.values():
            if peer.joined:
                peer.send(frame)

    def broadcast_state(self, mesh: SimulatedMesh) -> None:
        """Send the state to every socket that has fully joined."""
        self.broadcast(mesh, serializers.state_message(mesh, self.options))

    # Chat.

    def relay_chat(self, mesh: SimulatedMesh, sender: SimulatedUser, data: Mapping[str, Any]) -> str:
        """Send a chat message or reaction to all joined sockets, the sender's included; returns its id there."""
        message_id = data["id"] if self.options.echo_ids == "kept" else str(uuid.uuid4())
        frame = serializers.notification("chatMessage", {**data, "id": message_id, "from": sender.peer_id})
        for _ in range(int(min(self.options.chat_copies, MAX_CHAT_COPIES))):
            for peer in mesh.peers.values():
                if peer.joined:
                    (peer.echo if peer.user.peer_id == sender.peer_id else peer.send)(frame)
        if data.get("reaction"):
            reaction = {"id": message_id, "emoji": data["emoji"], "to": data["reaction"]}
            self.log.record("reaction", mesh=mesh.id, user=sender.handle, **reaction)
        else:
            facts = {"id": message_id, "text": data["chat"], "reply": data.get("reply"), "media": _media(data)}
            mentions = [str(user["handle"]) for user in data.get("user_metas") or ()]
            self.log.record("chat", mesh=mesh.id, user=sender.handle, **facts, mentions=mentions)
        return str(message_id)

    def send_chat(
        self,
        mesh: SimulatedMesh,
        user: SimulatedUser,
        text: str,
        *,
        reply: str | None = None,
        mentions: Iterable[SimulatedUser] = (),
    ) -> str:
        """A simulated user, who joins first if necessary, writes a chat message; returns its id."""
        self.join(mesh, [user])
        data = serializers.chat(str(uuid.uuid4()), text, reply, mentions, self.options)
        return self.relay_chat(mesh, user, data)

    def send_reaction(self, mesh: SimulatedMesh, user: SimulatedUser, emoji: str, message_id: str) -> str:
        """A simulated user, who joins first if necessary, reacts to a message; returns the id of the reaction."""
        self.join(mesh, [user])
        return self.relay_chat(mesh, user, serializers.reaction(str(uuid.uuid4()), emoji, message_id))

    def replies_to(self, message_id: str, since: int) -> list[dict[str, Any]]:
        """The chat events after `since` that reply to a message."""
        return [e for e in self.log.after(since) if e["type"] == "chat" and e["reply"] == message_id]

    def said_by_bot(self, mesh: SimulatedMesh, since: int) -> list[dict[str, Any]]:
        """The chat events after `since` that are messages of the bot in a mesh."""
        chat = [each for each in self.log.after(since) if each["type"] == "chat" and each["mesh"] == mesh.id]
        return [each for each in chat if each["user"] == self.bot.handle]

    # For the control API.

    def to_json(self) -> dict[str, Any]:
        """The whole state."""
        return {
            "server": self.server,
            "bot": {"user_id": self.bot.id, "device_id": self.bot.device_id, "peer_id": self.bot.peer_id},
            "listings": self.listings,
            "mail": self.mailbox.to_json(),
            "logins": self.logins,
            "friendships": self.friendships.to_json(),
            "provider_calls": self.provider_calls,
            "options": self.options.to_json(),
            "faults": self.faults.to_json(),
            "violations": len(self.log.violations),
            "seq": self.log.seq,
            "meshes": {mesh.id: mesh.to_json(self.clock()) for mesh in self.meshes.values()},
        }


def _media(data: Mapping[str, Any]) -> list[str]:
    """The URLs of what is attached to a chat message."""
    media = data.get("media")
    return [str(m.get("url")) for m in media if isinstance(m, dict)] if isinstance(media, list) else []
