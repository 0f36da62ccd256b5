"""The verbs of `rave-simulator` about what plays and who leads: users vote, like, skip, play, pause, seek, mute."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from ravesvc.simulator.client import Control

# A verb for `cli_commands.Parsers`: its name, what it does, words about it, and its arguments.
Row: TypeAlias = (
    "tuple[str, Callable[[Control, argparse.Namespace], int | None], str, tuple[tuple[str, dict[str, Any]], ...]]"
)

_MESH: tuple[str, dict[str, Any]] = ("mesh", {"metavar": "MESH"})
_USER: tuple[str, dict[str, Any]] = ("--user", {"metavar": "NAME", "help": "who does it (the host)"})
_NAMED: tuple[str, dict[str, Any]] = ("user", {"metavar": "USER"})
_WITHDRAW: tuple[str, dict[str, Any]] = ("--withdraw", {"action": "store_true", "help": "take it back"})
_VIDEO = "an id of the catalogue such as sim-lantern, a link to it, or the URL of a registered video"


def rows() -> list[Row]:
    """All of them."""
    return [
        ("vote", _vote, "a user votes for a video", (_MESH, ("video", {"metavar": "VIDEO", "help": _VIDEO}), _USER)),
        (
            "clear-votes",
            lambda c, o: c.clear_votes(o.mesh, user=o.user),
            "a user takes all votes back",
            (_MESH, _USER),
        ),
        ("like", _opinion("like"), "a user likes what plays", (_MESH, _USER, _WITHDRAW)),
        ("skip", _opinion("skip"), "a user wants to skip what plays", (_MESH, _USER, _WITHDRAW)),
        ("play", _action("play"), "a user goes on with the video", (_MESH, _USER)),
        ("pause", _action("pause"), "a user pauses the video", (_MESH, _USER)),
        (
            "seek",
            lambda c, o: c.playback(o.mesh, position=o.position, user=o.user),
            "a user moves the video to a position",
            (_MESH, ("position", {"type": float, "metavar": "SECONDS"}), _USER),
        ),
        (
            "video",
            lambda c, o: c.video(o.mesh, o.video),
            "start a video without a vote, or end what plays",
            (_MESH, ("video", {"metavar": "VIDEO", "nargs": "?", "help": _VIDEO})),
        ),
        (
            "leader",
            lambda c, o: c.leader(o.mesh, o.user),
            "make a user the leader",
            (_MESH, _NAMED),
        ),
        ("mute", lambda c, o: c.mute(o.mesh, o.user), "the leader takes a user's voice", (_MESH, _NAMED)),
        ("unmute", lambda c, o: c.unmute(o.mesh, o.user), "the leader gives a user's voice back", (_MESH, _NAMED)),
    ]


def _vote(control: Control, options: argparse.Namespace) -> None:
    control.vote(options.mesh, options.video, user=options.user)


def _opinion(opinion: str) -> Callable[[Control, argparse.Namespace], None]:
    def verb(control: Control, options: argparse.Namespace) -> None:
        control.judge(options.mesh, "none" if options.withdraw else opinion, user=options.user)

    return verb


def _action(action: str) -> Callable[[Control, argparse.Namespace], None]:
    return lambda control, options: control.playback(options.mesh, action, user=options.user)


def lines(facts: dict[str, Any]) -> list[str]:
    """What plays in a mesh, who leads and who voted, for people; `facts` is its part of the state."""
    handles = {user["user_id"]: user["handle"] for user in facts["users"]}

    def names(ids: list[int]) -> str:
        return ", ".join(handles.get(number, str(number)) for number in ids) or "-"

    leader = next((user["handle"] for user in facts["users"] if user["leader"]), "-")
    votes = [f"  {len(vote['users'])}  {vote['title']}  ({names(vote['users'])})" for vote in facts["votes"]]
    return [
        f"mode    {facts['mode']}",
        f"plays   {_playing(facts['plays'])}",
        f"leader  {leader}",
        f"users   {names(list(handles))}",
        f"likes   {names(facts['likes'])}",
        f"skips   {names(facts['skips'])}",
        f"votes   {'' if votes else '-'}".rstrip(),
        *votes,
    ]


def _playing(plays: dict[str, Any] | None) -> str:
    if plays is None:
        return "-"
    length = "" if plays["seconds"] is None else f" of {_clock(plays['seconds'])}"
    return f"{plays['title']}, {plays['status']} at {_clock(plays['position'])}{length}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
