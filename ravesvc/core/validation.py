"""What callers may name when they change admins and command permissions: users, commands, descriptions."""

from __future__ import annotations

from ravesvc.bot.command_names import command_key, refuse_fixed
from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError

# What every engine can keep.
_MAX_USER_ID = 2**63 - 1
_MAX_DESCRIPTION_CHARS = 200


def user_id(number: int) -> int:
    """`number` if it can be the id of a user; raises `RaveError` (InvalidArgument)."""
    if not 1 <= number <= _MAX_USER_ID:
        raise RaveError(
            Code.INVALID_ARGUMENT, f"{number} is not a user id", hint=f"it is a number from 1 to {_MAX_USER_ID}"
        )
    return number


def command(text: str) -> str:
    """The key of a command whose permission can be changed; raises `RaveError` (InvalidArgument)."""
    name = command_key(text)
    if name is None:
        raise RaveError(
            Code.INVALID_ARGUMENT,
            f"{printable(text, 80)!r} is not the name of a command",
            hint="it is one word of at most 32 characters",
        )
    refuse_fixed(name)
    return name


def description(text: str, command: str) -> str:
    """What the store says of a command; made up if there is nothing to say."""
    return printable(text, _MAX_DESCRIPTION_CHARS) or f"Command: {command}"
