"""From a chat text to the command that it invokes, if any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ravesvc.common.spelling import fold

# How many characters, invisible ones, a prefix may have beyond its own, and how many a word that may be a command.
_MAX_EXTRA_CHARS = 16
_MAX_WORD_CHARS = 96

# Autocorrection turns two hyphens into one of these, and sometimes a single hyphen too.
_DASHES = "\u2012\u2013\u2014\u2015"
_ONE_HYPHEN = str.maketrans(dict.fromkeys(_DASHES, "-"))
_TWO_HYPHENS = str.maketrans(dict.fromkeys(_DASHES, "--"))


class Invocation(NamedTuple):
    """What a user asked for. `name` is folded (`spelling.fold`); `text` is what follows it, as written."""

    name: str
    text: str
    prefix: str


def parse(text: str, prefixes: Sequence[str]) -> Invocation | None:
    """The invocation in `text`, or None for an ordinary message.

    The first of `prefixes` that the text starts with counts, in any spelling of a keyboard; blanks may follow it, but
    something must. Whether a command of that name exists is not asked here.
    """
    for prefix in prefixes:
        rest = without_prefix(text, prefix)
        if rest is not None:
            while words := rest.split(maxsplit=1):
                rest = words[1].rstrip() if len(words) > 1 else ""
                if name := _name(words[0]):
                    return Invocation(name, rest, prefix)
            return None
    return None


def without_prefix(text: str, prefix: str) -> str | None:
    """What follows the prefix, as written; None if the text starts with something else."""
    if text.startswith(prefix):
        return text[len(prefix) :]
    head, wanted = text[: len(prefix) + _MAX_EXTRA_CHARS], fold(prefix)
    for reading in _readings(head):
        # Most texts do not begin with the prefix, and this one comparison shows it.
        if wanted and fold(reading).startswith(wanted):
            for end in range(1, len(head) + 1):
                if wanted in map(fold, _readings(head[:end])):
                    return text[end:]
    return None


def _readings(head: str) -> Iterator[str]:
    yield head
    if not set(_DASHES).isdisjoint(head):
        yield head.translate(_ONE_HYPHEN)
        yield head.translate(_TWO_HYPHENS)


def _name(word: str) -> str:
    # No command has a name that long.
    return fold(word) if len(word) <= _MAX_WORD_CHARS else word
