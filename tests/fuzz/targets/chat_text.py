"""What a user types in a room: a command, a link, a word that is spelled nearly like another."""

from __future__ import annotations

import contextlib

from ravesvc.bot.parsing import parse
from ravesvc.common.spelling import fold, nearest
from ravesvc.errors import Code, RaveError
from ravesvc.media import links

_PREFIXES = ("?", "!bot", "--")


def check(data: bytes) -> None:
    """A text is an invocation with a name, or none."""
    text = data.decode(errors="replace")
    _check_link(text)
    assert fold(fold(text)) == fold(text)
    assert nearest(text[:128], ("ping", "play")) in ("ping", "play", None)
    invocation = parse(text, _PREFIXES)
    if invocation is None:
        raise RaveError(Code.INVALID_ARGUMENT, "no command")
    assert invocation.name
    assert invocation.prefix in _PREFIXES
    assert all(argument and not any(map(str.isspace, argument)) for argument in invocation.args)


def _check_link(text: str) -> None:
    with contextlib.suppress(RaveError):
        provider, video = links.video_of(text)
        assert links.is_link(text)
        assert links.is_video(provider, video)
        assert links.video_of(links.page_of(video)) == (provider, video)
