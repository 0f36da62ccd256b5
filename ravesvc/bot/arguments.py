"""What commands read from the words after them: the user or command that is meant; and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable

from ravesvc.bot.command import Context
from ravesvc.bot.parsing import without_prefix
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold, nearest
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.room.state import user_id

MAX_NAME_CHARS = 32
# What is compared of words that may have anything in them.
_MAX_WORD_CHARS = 128
_MAX_HANDLE_CHARS = 64


def actor(context: Context) -> int:
    """The user who asks; raises `RaveError` (AccessDenied) if Rave does not say."""
    if context.user_id is None:
        raise RaveError(Code.ACCESS_DENIED, _("Rave does not tell who you are"))
    return context.user_id


def target_user(context: Context) -> tuple[int, list[str]]:
    """The user whom the first words mean, by mention or user id, and the words after them.

    Raises `RaveError` (InvalidArgument) with what to write, if they mean none, or several.
    """
    words = list(context.args)
    if not words:
        raise usage_error(context)
    first = fold(words[0][:MAX_NAME_CHARS])
    if not first.startswith("@"):
        user = user_id(first)
        if user is None:
            raise usage_error(context)
        return user, words[1:]
    users = {mention.user_id: mention for mention in context.message.mentions}
    if not users:
        hint = _(
            "pick a user from the list that Rave shows after @, or write {command} <user id>",
            command=written(context),
        )
        raise RaveError(Code.INVALID_ARGUMENT, _("that word mentions no user"), hint=hint)
    if len(users) > 1:
        text, hint = _("that mentions several users"), _("name one at a time")
        raise RaveError(Code.INVALID_ARGUMENT, text, hint=hint)
    (mention,) = users.values()
    # A handle may have blanks.
    handle = _folded(f"@{mention.handle}".split())
    return mention.user_id, words[len(handle) if _folded(words[: len(handle)]) == handle else 1 :]


def command_key(context: Context) -> str:
    """The key of the command that the first word names, perhaps with a prefix; there must be such a word."""
    word = context.args[0][:_MAX_WORD_CHARS]
    key = fold(word)
    if context.registry.get(key) or key in context.permissions.overrides:
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


def usage_error(context: Context) -> RaveError:
    """What to say when the words after the command make no sense."""
    command = context.command
    hint = _("for example {command}", command=f"{written(context)} {command.example}") if command.example else ""
    text = _("write {command} {usage}", command=written(context), usage=command.usage)
    return RaveError(Code.INVALID_ARGUMENT, text, hint=hint)


def written(context: Context) -> str:
    """The command that was used, as one writes it."""
    return f"{context.prefixes[0]}{context.command.name}"


def _folded(words: Iterable[str]) -> list[str]:
    return [fold(word[:_MAX_HANDLE_CHARS]) for word in words]
