"""The state message: what it says about a room, part by part; no I/O.

It is documented nowhere. A part may be missing, or have one of several shapes; ids are numbers or texts, alone or in
an object. What can't be read says nothing: it must neither spoil another part nor pass for "none".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from ravesvc.api.models import Opinion
from ravesvc.common import json_fields
from ravesvc.common.json_fields import Object
from ravesvc.room.playback import PAUSED, PLAYING, PlaybackReport, PlayMode
from ravesvc.room.votes import Vote

# How much a room stores of one message.
_MAX_URL_CHARS = 2000
_MAX_WORD_CHARS = 32
_MAX_ID_CHARS = 128
_MAX_VOTES = 100
_MAX_VOTERS = 200
_MAX_OPINIONS = 1000
# Users in a room, and users that were kicked.
_MAX_USERS = 12_500
_MAX_SPEED_FACTOR = 16.0
# What lasts longer than a week has no end that could be waited for.
_MAX_DURATION_S = 604_800.0
# Seconds since the epoch never get there; milliseconds have long been.
_MAX_TIME_S = 1e11
_MAX_MAGNITUDE = 1e14

# What a whole `mesh_state` has besides the video.
_SETTINGS = ("privacy_mode", "play_mode", "voip_mode")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMessage:
    """What a state message says. None says nothing; of a user, 0 says that there is none.

    Attributes:
        users: who is in the room.
        leader: which of them leads it.
        kicked: users who were thrown out, in the order of the message.
        play_mode: how the next video is found.
        playback: the video.
        votes: all votes, after those in `cleared` have gone.
        cleared: URLs whose votes are void, for a message without `votes`.
        vote_originator: who began to vote.
        opinions: who likes the video, and who wants to skip it.
    """

    users: frozenset[int] | None = None
    leader: int | None = None
    kicked: tuple[int, ...] | None = None
    play_mode: PlayMode | None = None
    playback: PlaybackReport | None = None
    votes: tuple[Vote, ...] | None = None
    cleared: frozenset[str] = frozenset()
    vote_originator: int | None = None
    opinions: dict[int, Opinion] | None = None


def parse_state(data: Object) -> StateMessage:
    """Read the data of a stateMessage: an object under `message`, as JSON text inside the JSON or as it is.

    Raises `RaveError`: TooLarge, and BadData when there is no such object. A part of it that can't be read says
    nothing, and spoils no other part.
    """
    message = data.get("message")
    if isinstance(message, str):
        # As text of a text it may be written with escapes, which hide from the frame how many values it has.
        inner = json_fields.parse_message(message, "the state")
    else:
        inner = json_fields.as_object(message, "state")
    mesh_state = inner.get("mesh_state")
    mesh = mesh_state if isinstance(mesh_state, dict) else None
    users = _users(inner)
    return StateMessage(
        users=users,
        leader=None if users is None else _leader(inner["users"]),
        kicked=_kicked(inner.get("kicks")),
        play_mode=None if mesh is None else _play_mode(mesh.get("play_mode")),
        playback=None if mesh is None else _playback(mesh, inner),
        votes=_votes(inner.get("votes")),
        cleared=_cleared(inner.get("cleared_votes")),
        vote_originator=_originator(inner),
        opinions=_opinions(inner.get("likeskips")),
    )


def user_id(entry: object) -> int | None:
    """The user that an entry of a list means: an id as number or text, or an object that has one."""
    if isinstance(entry, dict):
        # Spelt out: of 10 000 entries it takes 2 ms less than a loop.
        entry = entry.get("user_id") or entry.get("id") or entry.get("userId")
    return json_fields.as_user_id(entry)


def _users(inner: Object) -> frozenset[int] | None:
    """The users of a message that has both `users` and `mesh_state`.

    None for a list with an entry that can't be read: without the entry it would report that a user left. None as
    well for a list of more than `_MAX_USERS`.
    """
    entries = inner.get("users")
    if not isinstance(entries, list) or len(entries) > _MAX_USERS or inner.get("mesh_state") is None:
        return None
    users = frozenset(map(user_id, entries))
    return None if None in users else cast("frozenset[int]", users)


def _leader(entries: list[object]) -> int | None:
    """The leader; nothing if no entry says of its user whether that is the leader."""
    leader_known = False
    for entry in entries:
        leads = entry.get("is_leader") if isinstance(entry, dict) else None
        if leads is True:
            return user_id(entry) or 0
        leader_known = leader_known or leads is False
    return 0 if leader_known else None


def _kicked(kicks: object) -> tuple[int, ...] | None:
    return tuple(_user_ids(kicks[:_MAX_USERS])) if isinstance(kicks, list) else None


def _user_ids(entries: Iterable[object]) -> Iterator[int]:
    """The users that can be read, each once."""
    return iter(dict.fromkeys(user for user in map(user_id, entries) if user is not None))


def _originator(inner: Object) -> int | None:
    if "vote_originator" not in inner:
        return None
    value = inner["vote_originator"]
    return 0 if value is None else user_id(value)


def _play_mode(value: object) -> PlayMode | None:
    word = _word(value)
    if not word:
        return None
    return PlayMode(word) if word in tuple(PlayMode) else PlayMode.UNKNOWN


def _playback(mesh: Object, inner: Object) -> PlaybackReport | None:
    """What `mesh_state` says about the video.

    A url that can't be read is one of a video all the same, we only don't know of which: then nothing of the part may
    be taken for the video that we do know.
    """
    given = [mesh[key] for key in ("url", "video_url") if mesh.get(key) not in (None, "")]
    if given and not _url(given[0]):
        return None
    status = _word(mesh.get("status"))
    instance_id = _instance_id(mesh)
    if given:
        no_video = False
        instance_id = instance_id or _instance_id(inner) or _instance_id(inner.get("__metadata"))
    elif "url" in mesh:
        no_video = True
    else:
        no_video = not instance_id and _lacks_video(mesh, status)
    return PlaybackReport(
        no_video=no_video,
        url=_url(mesh.get("url")),
        video_url=_url(mesh.get("video_url")),
        instance_id=instance_id,
        status=status,
        position=_position(mesh.get("position")),
        time=_time(mesh.get("time")),
        speed=_speed(mesh.get("playback_speed")),
        duration=_duration(mesh.get("duration")),
    )


def _lacks_video(mesh: Object, status: str) -> bool:
    """Whether a `mesh_state` that names no video means that there is none.

    It may also be part of one, about the video that we know: that it plays on or, without settings of the room, that
    it was paused.
    """
    if status == PAUSED:
        return any(key in mesh for key in _SETTINGS)
    return status not in ("", PLAYING)


def _instance_id(place: object) -> str:
    """The id of this playing: `video_instance_id`, or a UUID under another key that has "instance" in it."""
    if not isinstance(place, dict):
        return ""
    own = place.get("video_instance_id")
    if isinstance(own, str) and 0 < len(own) <= _MAX_ID_CHARS and own.isprintable():
        return own
    values = (value for key, value in place.items() if "instance" in key.lower())
    return next((value for value in values if isinstance(value, str) and _UUID.fullmatch(value)), "")


def _votes(entries: object) -> tuple[Vote, ...] | None:
    if not isinstance(entries, list):
        return None
    found = (_vote(entry) for entry in entries[:_MAX_VOTES])
    return tuple(vote for vote in found if vote)


def _vote(entry: object) -> Vote | None:
    url = _url(entry.get("url")) if isinstance(entry, dict) else ""
    if not isinstance(entry, dict) or not url:
        return None
    voters = entry.get("users")
    entries = voters if isinstance(voters, list) else []
    count = json_fields.as_int(entry.get("num_votes"))
    return Vote(
        url=url,
        users=frozenset(_user_ids(entries[:_MAX_VOTERS])),
        count=len(entries) if count is None else max(0, count),
        oldest=_number(entry.get("oldest_vote_time")),
        order=json_fields.as_int(entry.get("order")),
    )


def _cleared(entries: object) -> frozenset[str]:
    if not isinstance(entries, list):
        return frozenset()
    urls = (_url(entry.get("url") if isinstance(entry, dict) else entry) for entry in entries[:_MAX_VOTES])
    return frozenset(url for url in urls if url)


def _opinions(entries: object) -> dict[int, Opinion] | None:
    """Who has which opinion. How an entry looks is a guess: it has an opinion and a user or users, or two lists."""
    if not isinstance(entries, list):
        return None
    found: dict[int, Opinion] = {}
    for entry in entries:
        if isinstance(entry, dict) and len(found) < _MAX_OPINIONS:
            word = _word(entry.get("opinion") or entry.get("type"))
            for opinion in Opinion:
                users = entry.get("users", [entry]) if word == opinion else entry.get(f"{opinion.lower()}s")
                found |= dict.fromkeys(_user_ids(users[:_MAX_OPINIONS] if isinstance(users, list) else ()), opinion)
    return found


def _url(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_URL_CHARS and value.isprintable() else ""


def _word(value: object) -> str:
    """A word of the protocol in upper case; empty if it is none."""
    if not isinstance(value, str) or len(value) > _MAX_WORD_CHARS or not value.isascii() or not value.isprintable():
        return ""
    return value.upper()


def _number(value: object) -> float | None:
    # NaN is not within bounds either.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MAX_MAGNITUDE:
        return None
    return float(value)


def _position(value: object) -> float | None:
    position = _number(value)
    return None if position is None else max(0.0, position)


def _duration(value: object) -> float | None:
    duration = _number(value)
    return duration if duration is not None and 0 < duration <= _MAX_DURATION_S else None


def _time(value: object) -> float | None:
    """Seconds since the epoch; one source writes other times of votes in milliseconds, so these may be, too."""
    time = _number(value)
    if time is None or time <= 0:
        return None
    return time if time < _MAX_TIME_S else time / 1000


def _speed(value: object) -> float | None:
    speed = _number(value)
    return speed if speed is not None and 0 < speed <= _MAX_SPEED_FACTOR else None
