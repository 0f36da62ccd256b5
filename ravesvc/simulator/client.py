"""The control API's client, for the command line and for tests. Needs nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ravesvc.errors import Code, RaveError

ALL = "all"
# That of rave-simulator.service.
SERVICE_SOCKET = Path("/run/rave-simulator/control.sock")
# The client waits for a reply this much longer than the verb itself waits.
_REPLY_MARGIN_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("simulator", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Control:
    """Controls the simulator behind a control socket.

    Every method raises `RaveError`: NoSuchMesh, NotFound, InvalidArgument, Timeout when a wait was in vain, Network
    when no simulator answers. `meshes` is one id, several, or `ALL`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    # Queries.

    def state(self) -> dict[str, Any]:
        """The whole state.

        It has `server`, `bot`, `listings`, `mail` (`sent`, `waiting`, `polls`), `logins`, `friendships`,
        `provider_calls`, `options`, `faults`, and `meshes` by id, each with `users`, `muted`, `connections` (`id`,
        `since`, `joined`), `ended` connections (also `code`, `reason`, `by`), and its video
        (`SimulatedPlayback.to_json`).
        """
        return self._call("GET", "/state")

    def mesh(self, mesh: str) -> dict[str, Any]:
        """The part of the state about one mesh."""
        found = self.state()["meshes"].get(mesh)
        if found is None:
            raise RaveError(Code.NO_SUCH_MESH, f"no mesh {mesh[:40]!r}")
        return dict(found)

    def connections(self) -> dict[str, int]:
        """The id of the bot's connection by mesh, for the meshes that it has fully joined."""
        state = self.state()
        bot = state["bot"]["peer_id"]
        return {
            mesh: peer["id"]
            for mesh, facts in state["meshes"].items()
            for peer in facts["connections"]
            if peer["peer_id"] == bot and peer["joined"]
        }

    def events(self, after: int = 0, wait: int = 0) -> list[dict[str, Any]]:
        """The events with a number above `after`; waits up to `wait` seconds for the first."""
        return list(self._call("GET", f"/events?after={after}&wait={wait}", wait=wait)["events"])

    def violations(self) -> list[dict[str, Any]]:
        """The clients' mistakes: `at`, `where`, `what`."""
        return list(self._call("GET", "/violations")["violations"])

    def forget_violations(self) -> None:
        """Empty the list of mistakes."""
        self._call("DELETE", "/violations")

    # Meshes and the users in them.

    def create(self, count: int = 1, *, title: str = "", kinds: Iterable[str] = ()) -> list[str]:
        """Make meshes and return their ids. `kinds`: any of public, friends, local."""
        body = {"count": count, "title": title} | dict.fromkeys(kinds, True)
        return list(self._call("POST", "/create", body)["meshes"])

    def remove(self, meshes: str | Iterable[str]) -> None:
        """Delete the meshes: calls about them get 404, and their sockets are closed."""
        self._verb("remove", meshes)

    def invite(self, meshes: str | Iterable[str]) -> None:
        """Invite the bot."""
        self._verb("invite", meshes)

    def uninvite(self, meshes: str | Iterable[str]) -> None:
        """Remove the bot's invitations."""
        self._verb("uninvite", meshes)

    def join(self, meshes: str | Iterable[str], *users: str) -> None:
        """Add users to the meshes, without a socket."""
        self._verb("join", meshes, users=users)

    def part(self, meshes: str | Iterable[str], *users: str) -> None:
        """Remove users from the meshes."""
        self._verb("part", meshes, users=users)

    def crowd(self, meshes: str | Iterable[str], users: int = 0, *, votes: int = 0, history: int = 0) -> None:
        """Enlarge the state of the meshes by users, votes and bytes of past chat; 0 ends that."""
        self._verb("crowd", meshes, users=users, votes=votes, history=history)

    def hide(self, meshes: str | Iterable[str], times: int = 1) -> None:
        """Let the meshes be missing from the next listings."""
        self._verb("hide", meshes, times=times)

    # Chat, kicks and requests.

    def chat(
        self,
        mesh: str,
        text: str,
        *,
        user: str | None = None,
        wait: float = 0.0,
        answers: int | None = 1,
        reply: str | None = None,
        mentions: Iterable[str] = (),
    ) -> list[str]:
        """A user writes a message; returns the replies to it once there are `answers`, or after `wait` seconds.

        With `answers` None, returns all that the bot says until it is quiet.
        """
        message = {"mesh": mesh, "text": text, "user": user, "reply": reply, "mentions": list(mentions)}
        return list(self._call("POST", "/chat", {**message, "wait": wait, "answers": answers}, wait=wait)["answers"])

    def react(
        self, mesh: str, emoji: str, *, user: str | None = None, to: str | None = None, wait: float = 0.0
    ) -> list[str]:
        """A user reacts to a message, by its id, or to the bot's last.

        Returns all that the bot says until it is quiet, at most for `wait` seconds.
        """
        reaction = {"mesh": mesh, "emoji": emoji, "user": user, "to": to, "wait": wait}
        return list(self._call("POST", "/react", reaction, wait=wait)["answers"])

    def kick(self, meshes: str | Iterable[str], *, notice: str = "both", close: str = "after") -> None:
        """Kick the bot. `notice` is a notification, the state, or both; the socket closes after, before, or not."""
        self._verb("kick", meshes, notice=notice, close=close)

    def ask(
        self, mesh: str, method: str, data: Mapping[str, Any] | None = None, timeout: float = 5.0
    ) -> dict[str, Any]:
        """Send the bot a request and return the frame with which it answers."""
        body = {"mesh": mesh, "method": method, "data": data, "timeout": timeout}
        return dict(self._call("POST", "/ask", body, wait=timeout)["answer"])

    # The video. In each, `user` (the host) joins first if necessary.

    def vote(self, mesh: str, video: str, *, user: str | None = None) -> None:
        """A user votes for a video: an id of the catalogue, a link to one, or the URL of a registered video."""
        self._call("POST", "/vote", {"mesh": mesh, "video": video, "user": user})

    def clear_votes(self, mesh: str, *, user: str | None = None) -> None:
        """A user clears all votes."""
        self._call("POST", "/clear_votes", {"mesh": mesh, "user": user})

    def judge(self, mesh: str, opinion: str, *, user: str | None = None) -> None:
        """A user sets an opinion on the current video, `like` or `skip`, or withdraws it (`none`)."""
        self._call("POST", "/judge", {"mesh": mesh, "opinion": opinion, "user": user})

    def playback(
        self, mesh: str, action: str | None = None, *, position: float | None = None, user: str | None = None
    ) -> None:
        """A user plays or pauses the video (`play`, `pause`), or moves it to a position in seconds."""
        self._call("POST", "/playback", {"mesh": mesh, "action": action, "position": position, "user": user})

    def video(self, mesh: str, video: str | None = None) -> None:
        """Start a video without a vote, or end the current one."""
        self._call("POST", "/video", {"mesh": mesh, "video": video})

    def leader(self, mesh: str, user: str) -> None:
        """Make a user the leader."""
        self._call("POST", "/leader", {"mesh": mesh, "user": user})

    def mute(self, mesh: str, user: str) -> None:
        """The leader mutes a user."""
        self._call("POST", "/mute", {"mesh": mesh, "user": user})

    def unmute(self, mesh: str, user: str) -> None:
        """The leader unmutes a user."""
        self._call("POST", "/unmute", {"mesh": mesh, "user": user})

    # Friends.

    def befriend(self, user: str, other: str | None = None) -> str:
        """A user requests a friendship of another (the bot), or accepts the other's request; returns the state."""
        return str(self._call("POST", "/befriend", {"user": user, "other": other})["state"])

    def unfriend(self, user: str, other: str | None = None) -> None:
        """A user ends the friendship with another (the bot), or declines or withdraws the request for it."""
        self._call("POST", "/unfriend", {"user": user, "other": other})

    # Connections.

    def drop(self, meshes: str | Iterable[str]) -> None:
        """Cut the TCP connections."""
        self._verb("drop", meshes)

    def flood(self, meshes: str | Iterable[str], kind: str) -> None:
        """Send frames without a break (`fault_options.FLOOD_KINDS`) until the client disconnects."""
        self._verb("flood", meshes, kind=kind)

    def close(
        self, meshes: str | Iterable[str], code: int = 4000, *, reason: str = "", announced: bool = False
    ) -> None:
        """Close the sockets; `announced`: after the notification `disconnected`."""
        self._verb("close", meshes, code=code, reason=reason, announced=announced)

    def refuse(
        self,
        meshes: str | Iterable[str],
        *,
        status: int = 403,
        times: int | None = None,
        after_open: float | None = None,
        code: int = 4000,
    ) -> None:
        """Reject new sockets with an HTTP status, or `after_open` seconds after opening with a close code."""
        self._verb("refuse", meshes, status=status, times=times, after_open=after_open, code=code)

    def accept(self, meshes: str | Iterable[str]) -> None:
        """End the effect of `refuse`."""
        self._verb("accept", meshes)

    # The account.

    def confirm(self, email: str | None = None) -> None:
        """Follow the link of the latest open mail, to this address or any."""
        self._call("POST", "/confirm", {"email": email})

    def expire(self, *, close: bool = False) -> None:
        """End all sessions; open sockets stay, except with `close`."""
        self._call("POST", "/expire", {"close": close})

    # Faults, fault options, waiting.

    def fail(self, target: str, mode: str, *, times: int | None = None, retry_after: int | None = None) -> None:
        """Make calls fail (`fault_options.FAULT_TARGETS`, `FAULT_MODES` or an HTTP status), or stop it with `ok`."""
        body = {"target": target, "mode": mode, "times": times, "retry_after": retry_after}
        self._call("POST", "/fail", body)

    def option(self, name: str, value: object) -> None:
        """Set a fault option (`fault_options.FaultOptions`)."""
        self._call("POST", "/option", {name: str(value)})

    def wait(
        self,
        *,
        connected: Iterable[str] = (),
        disconnected: Iterable[str] = (),
        reconnected: Mapping[str, int] | None = None,
        listings: int = 0,
        mail: bool = False,
        polls: int = 0,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """Wait until all conditions hold and return the state.

        `connected`, `disconnected`: the bot has fully joined these meshes, or has no socket there. `reconnected`: it
        has fully joined with another connection than this. `listings`: so many were completed since the start.
        `mail`: there is a mail whose link can be followed. `polls`: the client has polled the latest mail so often.
        """
        body = {
            "connected": list(connected),
            "disconnected": list(disconnected),
            "reconnected": dict(reconnected or {}),
            "listings": listings,
            "mail": mail,
            "polls": polls,
            "timeout": timeout,
        }
        return self._call("POST", "/wait", body, wait=timeout)

    def _verb(self, verb: str, meshes: str | Iterable[str], **facts: Any) -> None:
        chosen = meshes if meshes == ALL else [meshes] if isinstance(meshes, str) else list(meshes)
        self._call("POST", f"/{verb}", {"meshes": chosen, **facts})

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, wait: float = 0.0
    ) -> dict[str, Any]:
        connection = _UnixConnection(self._path, wait + _REPLY_MARGIN_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            document = json.loads(response.read())
        except PermissionError as e:
            hint = "try as root, or as a member of the group that it belongs to"
            raise RaveError(Code.ACCESS_DENIED, f"you may not use {self._path}", hint=hint) from e
        except (OSError, http.client.HTTPException, ValueError) as e:
            start = "systemctl start rave-simulator" if self._path == SERVICE_SOCKET else "rave-simulator serve"
            hint = f"{start} starts one"
            raise RaveError(Code.NETWORK, f"no simulator answers at {self._path}", hint=hint) from e
        finally:
            connection.close()
        if response.status != 200:
            raise RaveError(Code(document["code"]), document["message"], hint=document["hint"])
        return dict(document)
