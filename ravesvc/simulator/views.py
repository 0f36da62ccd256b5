"""What the simulator shows of its world on the wire: the objects of HTTP answers and of state messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ravesvc.simulator.mesh import Mesh, User
from ravesvc.simulator.switches import Options

_VIDEO = "https://localhost/videos/youtube/00000000-0000-4000-8000-000000000001"
_FIRST_OF_CROWD = 600_000_001
_CHAT_LENGTH = 1000
_VIDEO_INSTANCE = "00000000-0000-4000-8000-000000000002"


def user_id(number: int, options: Options) -> int | str:
    """A user id, which some answers of the real server write as text."""
    return str(number) if options.user_ids == "text" else number


def user_object(user: User, options: Options) -> dict[str, Any]:
    """A user in an HTTP answer."""
    return {
        "id": user_id(user.id, options),
        "handle": user.handle,
        "displayName": user.display_name,
        "name": user.display_name,
        "avatar": None,
        "country": "XX",
    }


def account_object(user: User, options: Options) -> dict[str, Any]:
    """The account in the answer of a login: its user, and what nobody here looks at."""
    flags = ("acceptDataPolicy", "acceptPrivacy", "acceptTos", "acceptWebIndexing")
    return {
        **user_object(user, options),
        **dict.fromkeys(flags, 1),
        "gender": "X",
        "yearOfBirth": 2000,
        "userScore": 0,
    }


def mesh_object(mesh: Mesh, server: str, options: Options) -> dict[str, Any]:
    """A mesh in an HTTP answer; one without a video lacks the video's fields."""
    shown = {
        "id": mesh.id,
        "server": server,
        "originator": mesh.originator,
        "createdAt": datetime.fromtimestamp(mesh.created_at, UTC).isoformat(),
        "isPublic": mesh.public,
        "isFriend": mesh.friends,
        "isLocal": mesh.local,
        "playMode": "VOTE",
        "voipMode": "OFF",
        "kickMode": "LEADER",
        "maturity": "G",
    }
    if options.playback == "none":
        return shown
    return shown | {
        "currentState": options.playback.lower(),
        "position": 0.0,
        "time": mesh.created_at,
        "mediaUrl": _VIDEO,
        "videoTitle": mesh.title,
        "videoProvider": "YOUTUBE",
    }


def users_of(mesh: Mesh, options: Options) -> list[dict[str, Any]]:
    """The users of a mesh in an HTTP answer."""
    crowd = (User(number, f"fan{number}", f"Fan {number}", "") for number in _crowd(mesh))
    return [user_object(user, options) for user in (*mesh.users(), *crowd)]


def _crowd(mesh: Mesh) -> range:
    """The ids of the users who are there as a crowd."""
    return range(_FIRST_OF_CROWD, _FIRST_OF_CROWD + mesh.crowd.users)


def _fan(number: int, order: int, mesh: Mesh, options: Options) -> dict[str, Any]:
    return {
        "user_id": user_id(number, options),
        "when_joined": mesh.created_at,
        "is_leader": False,
        "order": order,
        "voip_enabled": False,
    }


def state_message(mesh: Mesh, options: Options) -> dict[str, Any]:
    """The notification `stateMessage`, whose content is usually JSON within a string."""
    ids = [user_id(number, options) for number in sorted(mesh.kicked)]
    state = {
        "__metadata": {},
        "mesh_state": _mesh_state(mesh, options),
        "users": [
            {
                "user_id": user_id(presence.user.id, options),
                "when_joined": presence.joined_at,
                "is_leader": peer_id == mesh.leader,
                "order": presence.order,
                "voip_enabled": False,
            }
            for peer_id, presence in mesh.present.items()
        ]
        + [_fan(number, order, mesh, options) for order, number in enumerate(_crowd(mesh), mesh.joins + 1)],
        "votes": [{"url": _VIDEO, "user_id": user_id(_FIRST_OF_CROWD + n, options)} for n in range(mesh.crowd.votes)],
        "likeskips": [],
        "kicks": [{"user_id": number} for number in ids] if options.kicks_form == "objects" else ids,
        "cleared_votes": [],
        "vote_originator": None,
    }
    if mesh.crowd.history:
        whole, rest = divmod(mesh.crowd.history, _CHAT_LENGTH)
        state["messages"] = [{"chat": "x" * length} for length in (*[_CHAT_LENGTH] * whole, rest)]
    if options.state_parts != "all":
        del state[options.state_parts.removeprefix("no-")]
    message = state if options.state_form == "object" else json.dumps(state)
    return notification("stateMessage", {"message": message})


def _mesh_state(mesh: Mesh, options: Options) -> dict[str, Any]:
    state: dict[str, Any] = {
        "time": mesh.created_at,
        "position": 0.0,
        "privacy_mode": "PUBLIC" if mesh.public else "INVITE",
        "play_mode": "VOTE",
        "voip_mode": "OFF",
        "maturity": "G",
    }
    if options.playback == "none":
        return state | {"status": "WAIT"}
    return state | {
        "status": options.playback,
        "server": "YOUTUBE",
        "url": _VIDEO,
        "video_url": _VIDEO,
        "video_instance_id": _VIDEO_INSTANCE,
    }


def notification(method: str, data: dict[str, Any]) -> dict[str, Any]:
    """A notification frame."""
    return {"notification": True, "method": method, "data": data}
