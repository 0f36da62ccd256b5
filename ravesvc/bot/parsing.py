"""From a chat text to the command that it invokes, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Invocation:
    """What somebody asked for. `name` is in lower case; `args` are as written."""

    name: str
    args: tuple[str, ...]
    prefix: str


def parse(text: str, prefixes: Sequence[str]) -> Invocation | None:
    """The invocation in `text`, or None for an ordinary message.

    The first of `prefixes` that the text starts with counts; blanks may follow it, but something must. White space
    separates the arguments; nothing quotes it. Whether a command of that name exists is not asked here.
    """
    prefix = next((prefix for prefix in prefixes if text.startswith(prefix)), None)
    if prefix is None:
        return None
    words = text[len(prefix) :].split()
    return Invocation(words[0].lower(), tuple(words[1:]), prefix) if words else None
