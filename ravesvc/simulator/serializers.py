"""The world in the forms of Rave: the objects of HTTP answers and of state messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ravesvc.simulator.clips import Clip
from ravesvc.simulator.fault_options import FaultOptions
from ravesvc.simulator.mesh import SimulatedMesh, SimulatedUser
from ravesvc.simulator.playback import Ballot, PlayingVideo

_CROWD_VIDEO_URL = "https://localhost/videos/youtube/00000000-0000-4000-8000-000000000001"
_FIRST_CROWD_USER_ID = 600_000_001
_CHAT_MESSAGE_CHARS = 1000


def user_id(number: int, options: FaultOptions) -> int | str:
    """A user id, which some answers of the real server write as text."""
    return str(number) if options.user_ids == "text" else number


def user_object(user: SimulatedUser, options: FaultOptions) -> dict[str, Any]:
    """A user in an HTTP answer."""
    return {
        "id": user_id(user.id, options),
        "handle": user.handle,
        "displayName": user.display_name,
        "name": user.display_name,
        "avatar": None,
        "country": "XX",
    }


def account_object(user: SimulatedUser, options: FaultOptions) -> dict[str, Any]:
    """The account in the answer of a login: its user, and fields that no client here reads."""
    flags = ("acceptDataPolicy", "acceptPrivacy", "acceptTos", "acceptWebIndexing")
    return {
        **user_object(user, options),
        **dict.fromkeys(flags, 1),
        "gender": "X",
        "yearOfBirth": 2000,
        "userScore": 0,
    }


def chat(
    message_id: str,
    text: str,
    reply: str | None,
    mentions: Iterable[SimulatedUser],
    options: FaultOptions,
) -> dict[str, Any]:
    """The data of a chatMessage, as the app of a user sends it."""
    return {
        "chat": text,
        "id": message_id,
        "detected_lang": "en",
        "translations": {},
        "reply": reply,
        "media": [],
        "user_metas": [{"handle": user.handle, "id": user_id(user.id, options)} for user in mentions],
    }


def reaction(reaction_id: str, emoji: str, message_id: str) -> dict[str, Any]:
    """The data of a chatMessage that is a reaction to a message, likewise."""
    absent = dict.fromkeys(("detected_lang", "translations", "reply"))
    return {"chat": "", "id": reaction_id, **absent, "emoji": emoji, "reaction": message_id, "media": [], "links": []}


def mesh_object(mesh: SimulatedMesh, server: str, options: FaultOptions) -> dict[str, Any]:
    """A mesh in an HTTP answer; one without a video lacks the video's fields."""
    shown = {
        "id": mesh.id,
        "server": server,
        "originator": mesh.originator,
        "createdAt": datetime.fromtimestamp(mesh.created_at, UTC).isoformat(),
        "isPublic": mesh.public,
        "isFriend": mesh.friends,
        "isLocal": mesh.local,
        "playMode": mesh.playback.mode,
        "voipMode": "OFF",
        "kickMode": "LEADER",
        "maturity": "G",
    }
    playing = mesh.playback.current
    return shown if playing is None else shown | _video_fields(playing, options)


def _video_fields(playing: PlayingVideo, options: FaultOptions) -> dict[str, Any]:
    """The fields of a mesh in an HTTP answer that describe its video."""
    shown: dict[str, Any] = {
        "currentState": playing.status.lower(),
        "position": playing.position,
        "time": playing.time,
        "mediaUrl": playing.url,
        "videoTitle": playing.clip.title,
        "videoProvider": playing.clip.provider.upper(),
    }
    metadata = playing.clip.metadata
    known = {"videoUrl": "url", "videoAuthor": "author", "videoThumbnail": "thumbnail"}
    shown |= {name: metadata[key] for name, key in known.items() if metadata.get(key)}
    if playing.clip.seconds is not None and options.video_duration == "kept":
        shown["videoDuration"] = metadata.get("duration")
    return shown


def clip_object(clip: Clip, options: FaultOptions) -> dict[str, Any]:
    """A registered video in an HTTP answer."""
    unknown = {"duration": None} if options.video_duration == "unknown" else {}
    return {**clip.metadata, **unknown, "id": clip.id, "provider": clip.provider.upper()}


def users_of(mesh: SimulatedMesh, options: FaultOptions) -> list[dict[str, Any]]:
    """The users of a mesh in an HTTP answer, with those of its crowd."""
    crowd = (SimulatedUser(number, f"fan{number}", f"Fan {number}", "") for number in _crowd_ids(mesh))
    return [user_object(user, options) for user in (*mesh.users(), *crowd)]


def _crowd_ids(mesh: SimulatedMesh) -> range:
    """The ids of the users of the crowd."""
    return range(_FIRST_CROWD_USER_ID, _FIRST_CROWD_USER_ID + mesh.crowd.users)


def _crowd_user(number: int, order: int, mesh: SimulatedMesh, options: FaultOptions) -> dict[str, Any]:
    return {
        "user_id": user_id(number, options),
        "when_joined": mesh.created_at,
        "is_leader": False,
        "order": order,
        "voip_enabled": False,
    }


def state_message(mesh: SimulatedMesh, options: FaultOptions) -> dict[str, Any]:
    """The notification `stateMessage`, whose content is usually JSON within a string."""
    playback = mesh.playback
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
        + [
            _crowd_user(number, order, mesh, options) for order, number in enumerate(_crowd_ids(mesh), mesh.joins + 1)
        ],
        "votes": _votes(mesh, options),
        "likeskips": _likeskips(mesh, options),
        "kicks": [{"user_id": number} for number in ids] if options.kicks_form == "objects" else ids,
        "cleared_votes": [{"url": url} if options.cleared_form == "objects" else url for url in playback.cleared],
        "vote_originator": _originator(mesh, options),
    }
    if mesh.crowd.history:
        whole, rest = divmod(mesh.crowd.history, _CHAT_MESSAGE_CHARS)
        state["messages"] = [{"chat": "x" * length} for length in (*[_CHAT_MESSAGE_CHARS] * whole, rest)]
    if options.state_parts != "all":
        del state[options.state_parts.removeprefix("no-")]
    message = state if options.state_form == "object" else json.dumps(state)
    return notification("stateMessage", {"message": message})


def _votes(mesh: SimulatedMesh, options: FaultOptions) -> list[dict[str, Any]]:
    crowds = (
        {"url": _CROWD_VIDEO_URL, "user_id": user_id(_FIRST_CROWD_USER_ID + n, options)}
        for n in range(mesh.crowd.votes)
    )
    return [*(_vote(ballot, order, options) for order, ballot in enumerate(mesh.playback.ballots)), *crowds]


def _vote(ballot: Ballot, order: int, options: FaultOptions) -> dict[str, Any]:
    ids = [user_id(number, options) for number in ballot.voters]
    return {
        "url": ballot.url,
        "users": [{"user_id": number} for number in ids] if options.voters_form == "objects" else ids,
        "num_votes": len(ids),
        "oldest_vote_time": ballot.oldest_vote_at,
        "order": order,
    }


def _likeskips(mesh: SimulatedMesh, options: FaultOptions) -> list[dict[str, Any]]:
    playing = mesh.playback.current
    if playing is None:
        return []
    about = {"url": playing.url, "video_instance_id": playing.instance_id}
    opinions = [(user_id(number, options), opinion) for number, opinion in mesh.playback.opinions.items()]
    if options.likeskips_form == "users":
        return [{"user_id": number, "opinion": opinion, **about} for number, opinion in opinions]
    totals = {f"{kind.lower()}s": [n for n, opinion in opinions if opinion == kind] for kind in ("LIKE", "SKIP")}
    return [{**about, **totals}] if opinions else []


def _originator(mesh: SimulatedMesh, options: FaultOptions) -> int | str | None:
    playing = mesh.playback.current
    return None if playing is None or playing.originator is None else user_id(playing.originator, options)


def _mesh_state(mesh: SimulatedMesh, options: FaultOptions) -> dict[str, Any]:
    playing, ended = mesh.playback.current, mesh.playback.ended
    if ended is not None and options.ended_form == "VOTE":
        playing = replace(ended, status="VOTE")
    state: dict[str, Any] = {
        "time": playing.time if playing else mesh.created_at,
        "position": playing.position if playing else 0.0,
        "privacy_mode": "PUBLIC" if mesh.public else "INVITE",
        "play_mode": mesh.playback.mode,
        "voip_mode": "OFF",
        "maturity": "G",
    }
    if playing is None:
        empty = {"url": "", "video_url": ""} if options.ended_form == "empty" else {}
        return state | {"status": "WAIT", **empty}
    state |= {
        "status": playing.status,
        "server": playing.clip.provider.upper(),
        "url": playing.url,
        "video_url": playing.clip.metadata.get("url", playing.url),
        "playback_speed": playing.speed,
    }
    if options.instance_key != "none":
        state[options.instance_key] = playing.instance_id
    if options.state_duration == "seconds" and options.video_duration == "kept":
        state["duration"] = playing.clip.seconds
    return state


def notification(method: str, data: dict[str, Any]) -> dict[str, Any]:
    """A notification frame."""
    return {"notification": True, "method": method, "data": data}
