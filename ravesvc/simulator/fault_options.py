"""Switches: what the real server is not known to do for certain, and the failures that a client must survive."""

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
    *("register", "video", "vote", "clear", "like", "state", "endstream", "transfer", "mute", "unmute"),
    *("magiclink", "status", "parse", "auth2", "auth", "tokens"),
)
FAULT_MODES = (
    *("refused", "reset", "timeout", "slow", "half-page", "later-page", "empty", "2015"),
    *("huge", "no-json", "no-lists", "wrong-types", "wrong-ids"),
    *("many-values", "deep"),
    *hostile.ANSWERS,
)
# What may be sent to sockets without a break.
FLOOD_KINDS = tuple(hostile.FLOODS)


@dataclass(slots=True)
class FaultOptions:
    """One value per switch, for all meshes. Delays are in seconds; `never` is infinity."""

    # When the first state message comes, seen from the answer to fullyJoined.
    first_state: str = "after"
    # Whether a relayed chat message keeps the id that its sender chose.
    echo_ids: str = "kept"
    # Chat in which form is shown. A request is one although it is marked as a notification as well; where it is not
    # shown, it is granted, or by `refusing` refused.
    chat_form: str = "both"
    # How long a sender waits for the echo.
    echo_delay: float = 0.0
    # How often each chat message is delivered.
    chat_copies: float = 1.0
    # How user ids are written in HTTP answers and state messages.
    user_ids: str = "number"
    # What a state message lacks.
    state_parts: str = "all"
    # Whether the state is JSON inside a string, as usual, or a plain object.
    state_form: str = "text"
    # What the list `kicks` of a state message consists of.
    kicks_form: str = "ids"
    # The playback status of the video that a mesh is made with; `none`: it is made without.
    playback: str = "PLAY"
    # How what plays is chosen; `playback.py` has the rules.
    play_mode: str = "VOTE"
    # Who may play, pause, seek, end the video and clear votes, where the play mode leaves that to all.
    playback_rights: str = "all"
    # How fast videos run that start from now on, as the state says.
    playback_speed: float = 1.0
    # Whether more than half of those present, by the opinion SKIP, end a video.
    skips: str = "counted"
    # What the lists of votes cleared, of voters, and of opinions consist of.
    cleared_form: str = "urls"
    voters_form: str = "ids"
    likeskips_form: str = "users"
    # Under which key the state has the id of this playing of the video.
    instance_key: str = "video_instance_id"
    # What the state says after a video when nothing follows: no video, an empty one, or the last with status VOTE.
    ended_form: str = "none"
    # Whether the state says how long the video is.
    state_duration: str = "none"
    # Whether anything says how long a video is: it ends all the same.
    video_duration: str = "kept"
    # Whether a failure response says `ok: false` or has no such key, as stock protoo servers do.
    refusal_ok: str = "false"
    # Methods that are refused, separated by commas: fullyJoined, chatMessage, ...
    refused_methods: str = ""
    # How long the answers to these requests take.
    joined_delay: float = 0.0
    ping_delay: float = 0.0
    chat_delay: float = 0.0
    # After so much silence the server closes a socket.
    silence_limit: float = 60.0
    # How far Request-Ts may be from our clock.
    request_window: float = 300.0
    # Whether a refusal says what it is about: an expired session and a wrong signature look alike without.
    reasons: str = "given"
    # How long calls take whose failure is to be slow.
    slow_by: float = 5.0
    # At most so many bytes of a picture are taken.
    upload_limit: float = 10_000_000.0
    # How many searches of a day the video provider allows.
    provider_quota: float = math.inf
    # Whether what Rave does not allow a user is answered 403, or 200 without success.
    forbidden_form: str = "status"
    # At most so many meshes on a page of the listing, whatever the limit asked for.
    page_size: float = 100.0
    # After how many looks the link of a mail counts as followed; `never`: somebody has to follow it (`confirm`).
    confirm: float = math.inf
    # For how long the link of a mail is good.
    link_life: float = 900.0
    # What the answer that tells of a followed link proves it with; `late` is not in the first such answer.
    id_token: str = "sent"  # noqa: S105 - a word for when it is sent

    def set(self, name: str, value: str) -> None:
        """Set a switch from text; raises `RaveError` (InvalidArgument) in words that list what is possible."""
        kinds = {field.name: field.type for field in fields(self)}
        if name not in kinds:
            raise RaveError(Code.INVALID_ARGUMENT, f"no option {name[:40]!r}", hint=f"one of: {', '.join(kinds)}")
        setattr(self, name, _number(name, value) if kinds[name] == "float" else _choice(name, value))

    def to_json(self) -> dict[str, Any]:
        """All switches; infinity is written `never`."""
        return {name: "never" if value == math.inf else value for name, value in asdict(self).items()}


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
    """A failure of one kind of call. `times` is how often it still happens, None for ever."""

    mode: str
    times: int | None = None
    retry_after: int | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status if the mode is one."""
        return int(self.mode) if len(self.mode) == 3 and self.mode.isdigit() else None

    @property
    def refuses(self) -> bool:
        """Whether nothing comes of the call; other failures only lose its answer."""
        return self.status is not None or self.mode == "2015"


class Faults:
    """The failures that are switched on, by target."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}

    def set(self, target: str, fault: Fault) -> None:
        """Switch a failure on, or off with mode `ok`; raises `RaveError` (InvalidArgument)."""
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

    def take(self, target: str) -> Fault | None:
        """The failure that the call happening now meets, counted down."""
        fault = self._faults.get(target)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._faults[target]
        return fault

    @property
    def refusing(self) -> bool:
        """Whether nothing listens at all: one port serves every call, so `refused` for one is refused for all."""
        return any(fault.mode == "refused" for fault in self._faults.values())

    def to_json(self) -> dict[str, Any]:
        """`{target: {"mode", "times", "retry_after"}}`."""
        return {target: asdict(fault) for target, fault in self._faults.items()}


@dataclass(slots=True)
class RejectRule:
    """How sockets of a mesh are turned away: by HTTP status, or closed `after_open` seconds after opening.

    `times` is how often it still happens, None for ever.
    """

    status: int = 403
    after_open: float | None = None
    code: int = 4000
    times: int | None = None
