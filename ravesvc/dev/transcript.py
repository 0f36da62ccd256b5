"""What happens in the room, as lines for the author. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ravesvc.common.text import printable
from ravesvc.dev.lines import BOT

# A bot may say a thousand characters at once.
_MAX_LINE_CHARS = 4000
_HAPPENED = {"joined": "has joined", "left": "has left", "kicked": "was kicked"}


def told(event: Mapping[str, Any], mesh: str, name_of: Callable[[str], str]) -> str:
    """An event of the simulator's log in words; empty for one that the author need not see.

    Args:
        mesh: the room. Events of others are not shown.
        name_of: returns the display name that goes with a handle.
    """
    if event.get("mesh") != mesh:
        return ""
    kind = event["type"]
    if kind == "chat":
        return said(name_of(event["user"]), " ".join([event["text"], *event["media"]]).strip())
    if kind == "reaction":
        return notice(f"{name_of(event['user'])} reacts with {event['emoji']}")
    if kind in _HAPPENED:
        handles = event["users"] if "users" in event else [event["user"]]
        return "\n".join(notice(_moved(kind, each, name_of)) for each in handles)
    return ""


def _moved(kind: str, handle: str, name_of: Callable[[str], str]) -> str:
    text = f"{name_of(handle)} {_HAPPENED[kind]}"
    return f"{text}; /restart brings it back" if handle == BOT and kind != "joined" else text


def said(name: str, text: str) -> str:
    """A message, after its user as after the prompt."""
    return _block(prompt(name), text)


def prompt(name: str) -> str:
    """What stands before the message of a user."""
    return f"{name}> "


def notice(text: str) -> str:
    """What this program says itself."""
    return _block("* ", text)


def trouble(text: str) -> str:
    """What has failed."""
    return _block("! ", text)


def plain(text: str) -> str:
    """A line of which nothing controls a terminal."""
    return printable(text, _MAX_LINE_CHARS)


def _block(first: str, text: str) -> str:
    """A text with `first` before its first line; the other lines are indented. Nothing in it controls a terminal."""
    lines = [plain(line) for line in text.splitlines()] or [""]
    return "\n".join([first + lines[0], *(" " * len(first) + line for line in lines[1:])])
