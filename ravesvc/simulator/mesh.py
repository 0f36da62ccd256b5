"""A mesh, the users in it and the sockets that hold it open."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ravesvc.simulator.fault_options import RejectRule
from ravesvc.simulator.playback import SimulatedPlayback

# For each mesh; the oldest is dropped.
_MAX_ENDED_CONNECTIONS = 50


@dataclass(frozen=True, slots=True)
class SimulatedUser:
    """A user. `device_id` is of the latest login, and empty before the first."""

    id: int
    handle: str
    display_name: str
    device_id: str

    @property
    def peer_id(self) -> str:
        """The id of this user's socket participant."""
        return f"{self.id}_{self.device_id}"


@dataclass(frozen=True, slots=True)
class RoomPresence:
    """A user who is in a mesh, with or without a socket. `joined_at` is in epoch seconds."""

    user: SimulatedUser
    joined_at: float
    order: int


@dataclass(frozen=True, slots=True)
class SocketEnd:
    """How a connection ended. `by` is `client`, `server` or `network`; 1006 is a loss without a close frame."""

    code: int
    reason: str
    by: str


class SimulatedPeer(Protocol):
    """The part of a connected socket that a mesh uses. `connected_at` is in epoch seconds."""

    number: int
    user: SimulatedUser
    connected_at: float
    joined: bool
    pings: int

    def send(self, frame: dict[str, Any]) -> None:
        """Queue a frame."""

    def echo(self, frame: dict[str, Any]) -> None:
        """Queue a frame with a chat message of this user, after the fault option `echo_delay`."""

    def close(self, code: int, reason: str) -> None:
        """Close with a close frame, after the queued frames."""

    def abort(self) -> None:
        """Cut the TCP connection."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Crowd:
    """Additions that make the state of a mesh large: users, votes, and bytes of past chat messages."""

    users: int = 0
    votes: int = 0
    history: int = 0


@dataclass(slots=True, kw_only=True)
class SimulatedMesh:
    """One watch-party room. `present` and `peers` are keyed by peer id, `present` in order of joining.

    `kicked` are the users that state messages list under `kicks`, until they are invited again.
    `successor` is the peer id of the user who was made the leader, until that user leaves. `muted` are user ids.
    `hidden` is the number of listings from which the mesh will be missing, `missing` whether it is so from this one.
    `reject_rule` decides which new sockets are turned away.
    """

    id: str
    serial: int
    title: str
    public: bool
    friends: bool
    local: bool
    created_at: float
    originator: int
    playback: SimulatedPlayback
    invited: set[int] = field(default_factory=set)
    kicked: set[int] = field(default_factory=set)
    muted: set[int] = field(default_factory=set)
    successor: str | None = None
    present: dict[str, RoomPresence] = field(default_factory=dict)
    peers: dict[str, SimulatedPeer] = field(default_factory=dict)
    ended: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_MAX_ENDED_CONNECTIONS))
    reject_rule: RejectRule | None = None
    crowd: Crowd = Crowd()
    hidden: int = 0
    missing: bool = False
    joins: int = 0

    @property
    def leader(self) -> str | None:
        """The peer id of the leader: the user whom the last leader has chosen, else the one who joined first."""
        return self.successor or next(iter(self.present), None)

    def is_open_to(self, user: SimulatedUser) -> bool:
        """Whether a user may see and enter the mesh, friendships left aside."""
        return self.public or user.id in self.invited or user.peer_id in self.present

    def enter(self, user: SimulatedUser, now: float) -> bool:
        """Add a user; False if already there."""
        if user.peer_id in self.present:
            return False
        self.joins += 1
        self.present[user.peer_id] = RoomPresence(user, now, self.joins)
        return True

    def leave(self, user: SimulatedUser) -> bool:
        """Remove a user with all votes and opinions; False if the user is not there."""
        if self.present.pop(user.peer_id, None) is None:
            return False
        if self.successor == user.peer_id:
            self.successor = None
        self.playback.remove_user(user.id)
        return True

    @property
    def majority(self) -> int:
        """The number of users that is just more than half of those present."""
        return (len(self.users()) + self.crowd.users) // 2 + 1

    def users(self) -> list[SimulatedUser]:
        """The users who are present, in order of joining."""
        return [presence.user for presence in self.present.values()]

    def to_json(self, now: float) -> dict[str, Any]:
        """The mesh for the control API."""
        return {
            "title": self.title,
            "public": self.public,
            "invited": sorted(self.invited),
            "users": [
                {"user_id": user.id, "handle": user.handle, "peer_id": user.peer_id, "leader": peer_id == self.leader}
                for peer_id, user in ((peer_id, presence.user) for peer_id, presence in self.present.items())
            ],
            "muted": sorted(self.muted),
            **self.playback.to_json(now),
            "connections": [connection(peer) for peer in self.peers.values()],
            "ended": list(self.ended),
            "hidden": self.hidden,
            "refusal": asdict(self.reject_rule) if self.reject_rule else None,
        }


def connection(peer: SimulatedPeer) -> dict[str, Any]:
    """A connection for the control API: `id` is never used again, `since` is in epoch seconds."""
    return {
        "id": peer.number,
        "peer_id": peer.user.peer_id,
        "since": peer.connected_at,
        "joined": peer.joined,
        "pings": peer.pings,
    }
