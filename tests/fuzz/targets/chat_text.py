"""What a user types in a room: a command, a link, a word that is spelled nearly like another."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Literal, cast

from ravesvc.bot.display_names import DisplayNames
from ravesvc.bot.parameters import Duration, Parameters, Said, UserId
from ravesvc.bot.parsing import parse
from ravesvc.bot.video_finder import VideoFinder
from ravesvc.common.spelling import fold, nearest
from ravesvc.errors import Code, RaveError
from ravesvc.media import links
from ravesvc.room.chat import Mention

_PREFIXES = ("?", "!bot", "--")


async def _numbers(context: object, *numbers: float) -> None: ...


async def _mixed(
    context: object, user: UserId, span: Duration, on: bool, color: Literal["red"], n: int = 0, *, rest: str = ""
) -> None: ...


async def _words(context: object, first: str, *others: str) -> None: ...


async def _nobody(users: Sequence[int]) -> dict[int, str]:
    return {}


# No parameter is a video.
_VIDEOS = VideoFinder(cast(Any, None))
_PARAMETERS = [Parameters.of(each) for each in (_numbers, _mixed, _words)]


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
    assert invocation.text == invocation.text.strip()
    for parameters in _PARAMETERS:
        _check_parameters(parameters, invocation.text)


def _check_parameters(parameters: Parameters, text: str) -> None:
    """A text fills the parameters, or is answered in words."""
    mentions = [Mention(2, "Ann"), Mention(3, "Bob the great")]
    said = Said("?it", parameters.usage, "", text, mentions, frozenset({2}), DisplayNames(_nobody), 2, _VIDEOS)
    try:
        # Nothing has to be waited for: without a Member nobody is asked for a name.
        parameters.read(said).send(None)
    except StopIteration as done:
        places, names = done.value
        assert len(places) <= 100
        assert all(isinstance(each, str) and each for each in names.values())
    except RaveError as error:
        _check_answer(error)


def _check_answer(error: RaveError) -> None:
    assert error.code is Code.INVALID_ARGUMENT
    assert "write ?it" in str(error) or "name one at a time" in str(error)


def _check_link(text: str) -> None:
    with contextlib.suppress(RaveError):
        provider, video = links.video_of(text)
        assert links.is_link(text)
        assert links.is_video(provider, video)
        assert links.video_of(links.page_of(video)) == (provider, video)
