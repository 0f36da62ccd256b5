"""What several commands need of their context: who asks, and which command a word means."""

from __future__ import annotations

from collections.abc import Iterable

from ravesvc.bot.command import Context
from ravesvc.bot.parsing import without_prefix
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold, nearest
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

MAX_NAME_CHARS = 32
# What is compared of words that may have anything in them.
_MAX_WORD_CHARS = 128


def actor(context: Context) -> int:
    """The user who asks; raises `RaveError` (AccessDenied) if Rave does not say."""
    if context.user_id is None:
        raise RaveError(Code.ACCESS_DENIED, _("Rave does not tell who you are"))
    return context.user_id


def command_key(context: Context, word: str) -> str:
    """The key of the command that a word names, perhaps with a prefix, or by an alias."""
    word = word[:_MAX_WORD_CHARS]
    key = fold(word)
    if found := context.registry.get(key):
        return found.family
    if key in context.permissions.overrides:
        return key
    bare = (rest for prefix in context.prefixes if (rest := without_prefix(word, prefix)) is not None)
    return fold(next(bare, word))


def unknown_command(context: Context, name: str, candidates: Iterable[str]) -> RaveError:
    """What to say when there is no command of that name, with the nearest of the candidates."""
    near = nearest(name, candidates)
    if near:
        hint = _("did you mean {name}?", name=plain(near, MAX_NAME_CHARS))
    else:
        hint = _("see {command}", command=f"{context.prefixes[0]}help")
    shown = plain(name, MAX_NAME_CHARS)
    text = _("there is no command {name}", name=shown) if shown else _("there is no command of that name")
    return RaveError(Code.INVALID_ARGUMENT, text, hint=hint)
