"""Fault options: variants of answers that the real server may send, and failures that a client must survive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ravesvc.errors import Code, RaveError
from ravesvc.simulator import hostile

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "first_state": ("after", "before", "never"),
    "echo_ids": ("kept", "replaced"),
    "chat_form": ("both", "request", "notification", "refusing"),
    "user_ids": ("number", "text"),
    "state_parts": ("all", "no-users", "no-mesh_state"),
    "state_form": ("text", "object"),
    "kicks_form": ("ids", "objects"),
    "playback": ("PLAY", "PAUS", "WAIT", "none"),
    "play_mode": ("VOTE", "QUICKPLAY", "AUTOPLAY", "LEADER"),
    "playback_rights": ("all", "leader"),
    "skips": ("counted", "obeyed"),
    "cleared_form": ("urls", "objects"),
    "voters_form": ("ids", "objects"),
    "likeskips_form": ("users", "totals"),
    "instance_key": ("video_instance_id", "videoInstanceId", "instance", "none"),
    "ended_form": ("none", "empty", "VOTE"),
    "state_duration": ("none", "seconds"),
    "forbidden_form": ("status", "success"),
    "video_duration": ("kept", "unknown"),
    "refusal_ok": ("false", "absent"),
    "id_token": ("sent", "late", "missing"),
    "reasons": ("given", "none"),
}
# Calls that can be made to fail; `discovery` is GET /meshes/self.
FAULT_TARGETS = (
    *("discovery", "mesh", "uninvite", "invite", "leave", "kick", "self", "users"),
    *("contacts", "friendships", "user", "profile", "images", "upload", "picture"),
    *("provider_search", "provider_videos", "provider_oembed", "provider_picture"),
    *("register", "video", "vote", "clear", "like", "state", "endstream", "transfer"),
    *("mute", "unmute", "settings"),
    *("magiclink", "status", "parse", "auth2", "auth", "tokens"),
)
FAULT_MODES = (
    *("refused", "reset", "timeout", "slow", "half-page", "later-page", "empty", "2015"),
    *("huge", "no-json", "no-lists", "wrong-types", "wrong-ids"),
    *("many-values", "deep"),
    *hostile.ANSWERS,
)
# The kinds of frames that `flood` sends without a break.
FLOOD_KINDS = tuple(hostile.FLOODS)


@dataclass(slots=True)
class FaultOptions:
    """One value per option, for all meshes. Delays are in seconds; `never` is infinity."""

    # Whether the first state message comes before or after the answer to fullyJoined.
    first_state: str = "after"
    # Whether a relayed chat message keeps the id that its sender chose.
    echo_ids: str = "kept"
    # In which form a chat message is relayed. A frame that is marked as request and as notification is a request. A
    # request that is not relayed is answered with success all the same, or by `refusing` with an error.
    chat_form: str = "both"
    # After how long a sender gets the echo.
    echo_delay: float = 0.0
    # How often each chat message is delivered.
    chat_copies: float = 1.0
    # How user ids are written in HTTP answers and state messages.
    user_ids: str = "number"
    # Which part a state message lacks.
    state_parts: str = "all"
    # Whether the state is JSON inside a string, as usual, or a plain object.
    state_form: str = "text"
    # What the list `kicks` of a state message consists of.
    kicks_form: str = "ids"
    # The playback status of the video that a new mesh has; `none`: it has no video.
    playback: str = "PLAY"
    # How the next video is chosen; `playback.py` has the rules.
    play_mode: str = "VOTE"
    # Which users may play, pause, seek, end the video and clear votes, where the play mode lets all.
    playback_rights: str = "all"
    # The speed of videos that start from now on, which the state message contains.
    playback_speed: float = 1.0
    # Whether a video ends once more than half of the users have the opinion SKIP.
    skips: str = "counted"
    # What the lists of votes cleared, of voters, and of opinions consist of.
    cleared_form: str = "urls"
    voters_form: str = "ids"
    likeskips_form: str = "users"
    # The key of the id of this playing of the video in a state message.
    instance_key: str = "video_instance_id"
    # The video in the state message after the last one has ended: none, an empty one, or the last with status VOTE.
    ended_form: str = "none"
    # Whether a state message has the length of the video.
    state_duration: str = "none"
    # Whether any answer or message has the length of a video. It ends in both cases.
    video_duration: str = "kept"
    # Whether a failure response says `ok: false` or has no such key, as stock protoo servers do.
    refusal_ok: str = "false"
    # Methods of requests that get an error, separated by commas: fullyJoined, chatMessage, ...
    refused_methods: str = ""
    # How long the answers to these requests take.
    joined_delay: float = 0.0
    ping_delay: float = 0.0
    chat_delay: float = 0.0
    # The server closes a socket from which it has received nothing for so long.
    silence_limit: float = 60.0
    # How far Request-Ts may be from our clock.
    request_window: float = 300.0
    # Whether an error has its reason. Without, an expired session and a wrong signature look alike.
    reasons: str = "given"
    # How long a call takes with the fault `slow`.
    slow_by: float = 5.0
    # The largest picture in bytes that an upload accepts.
    upload_limit: float = 10_000_000.0
    # How many searches the video provider allows.
    provider_quota: float = math.inf
    # Whether an action that Rave forbids a user is answered 403, or 200 with `success` false.
    forbidden_form: str = "status"
    # At most so many meshes on a page of the listing, even if the client asks for more.
    page_size: float = 100.0
    # After how many polls the link of a mail counts as followed; `never`: the verb `confirm` has to follow it.
    confirm: float = math.inf
    # For how long the link of a mail is valid.
    link_life: float = 900.0
    # Whether the answer to a poll after the link was followed has the `id_token`; `late`: all but the first have it.
    id_token: str = "sent"  # noqa: S105 - a word for when it is sent

    def set(self, name: str, value: str) -> None:
        """Set an option from text; raises `RaveError` (InvalidArgument) with a hint that lists possible values."""
        kinds = {field.name: field.type for field in fields(self)}
        if name not in kinds:
            raise RaveError(Code.INVALID_ARGUMENT, f"no option {name[:40]!r}", hint=f"one of: {', '.join(kinds)}")
        setattr(self, name, _number(name, value) if kinds[name] == "float" else _choice(name, value))

    @classmethod
    def listed(cls) -> list[str]:
        """A line for each option: its name, the values that it takes, and its default."""
        defaults = cls().to_json()
        width = max(map(len, defaults))
        return [
            f"{each.name:{width}}  {_values(each.name, str(each.type))} ({_shown(defaults[each.name])})"
            for each in fields(cls)
        ]

    def to_json(self) -> dict[str, Any]:
        """All options; infinity is written `never`."""
        return {name: "never" if value == math.inf else value for name, value in asdict(self).items()}


def _values(name: str, kind: str) -> str:
    if kind == "float":
        return "a number, or never"
    return " | ".join(_CHOICES[name]) if name in _CHOICES else "names, with commas between them"


def _shown(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value) or "none"


def _choice(name: str, value: str) -> str:
    allowed = _CHOICES.get(name)
    if allowed is not None and value not in allowed:
        raise RaveError(
            Code.INVALID_ARGUMENT, f"{name} can't be {value[:40]!r}", hint=f"one of: {', '.join(allowed)}"
        )
    return value


def _number(name: str, value: str) -> float:
    try:
        number = math.inf if value == "never" else float(value)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise RaveError(Code.INVALID_ARGUMENT, f"{name} can't be {value[:40]!r}", hint="a number from 0 up, or never")
    return number


@dataclass(slots=True)
class Fault:
    """A failure of one kind of call. `times` is how many calls will still fail, None for all."""

    mode: str
    times: int | None = None
    retry_after: int | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status if the mode is one."""
        return int(self.mode) if len(self.mode) == 3 and self.mode.isdigit() else None

    @property
    def refuses(self) -> bool:
        """Whether the call has no effect; with other failures it has, and only its answer is lost or wrong."""
        return self.status is not None or self.mode == "2015"


class Faults:
    """The faults that are set, by target."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def set(self, target: str, fault: Fault) -> None:
        """Set a fault, or remove it with mode `ok`; raises `RaveError` (InvalidArgument)."""
        if target not in FAULT_TARGETS:
            hint = f"one of: {', '.join(FAULT_TARGETS)}"
            raise RaveError(Code.INVALID_ARGUMENT, f"{target[:40]!r} can't fail", hint=hint)
        if fault.mode == "refused" and fault.times is not None:
            raise RaveError(Code.INVALID_ARGUMENT, "calls that are refused can't be counted", hint="end it with ok")
        if fault.mode == "ok":
            self._faults.pop(target, None)
        elif fault.mode in FAULT_MODES or 400 <= (fault.status or 0) <= 599:
            self._faults[target] = fault
        else:
            hint = f"a status from 400 to 599, ok, or one of: {', '.join(FAULT_MODES)}"
            raise RaveError(Code.INVALID_ARGUMENT, f"no failure {fault.mode[:40]!r}", hint=hint)

    def next_fault(self, target: str) -> Fault | None:
        """The fault that applies to the current call, if any; counts it down."""
        fault = self._faults.get(target)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._faults[target]
        return fault

    @property
    def refusing(self) -> bool:
        """Whether the port must be closed: it serves every call, so `refused` for one target refuses all."""
        return any(fault.mode == "refused" for fault in self._faults.values())

    def to_json(self) -> dict[str, Any]:
        """`{target: {"mode", "times", "retry_after"}}`."""
        return {target: asdict(fault) for target, fault in self._faults.items()}


@dataclass(slots=True)
class RejectRule:
    """How new sockets of a mesh are rejected: by HTTP status, or closed `after_open` seconds after opening.

    `times` is how many sockets will still be rejected, None for all.
    """

    status: int = 403
    after_open: float | None = None
    code: int = 4000
    times: int | None = None
