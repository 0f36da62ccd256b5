"""What somebody types in a room."""

from __future__ import annotations

from ravesvc.bot.parsing import parse
from ravesvc.errors import Code, RaveError

_PREFIXES = ("?", "!bot", "--")


def check(data: bytes) -> None:
    """A text is an invocation with a name, or none."""
    invocation = parse(data.decode(errors="replace"), _PREFIXES)
    if invocation is None:
        raise RaveError(Code.INVALID_ARGUMENT, "no command")
    assert invocation.name
    assert invocation.prefix in _PREFIXES
    assert all(argument and not any(map(str.isspace, argument)) for argument in invocation.args)
