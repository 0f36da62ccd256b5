"""What the author types: messages to the room, and orders to this program, which begin with a slash. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ravesvc.common.text import printable
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import is_emoji

_USER_EXAMPLE, _EMOJI_EXAMPLE = "Bob", "👍"
# Each order, an example of what it takes, a user or an emoji, and what it does.
_ORDERS = {
    "as": (_USER_EXAMPLE, "go on as this user, who joins if necessary"),
    "join": (_USER_EXAMPLE, "this user joins"),
    "leave": (_USER_EXAMPLE, "this user leaves"),
    "react": (_EMOJI_EXAMPLE, "react to the latest message of the bot"),
    "users": ("", "list who is in the room"),
    "admin": (_USER_EXAMPLE, "make this user an admin"),
    "restart": ("", "restart the bot, to see what it remembers"),
    "help": ("", "show this"),
    "quit": ("", "end, as Ctrl-D does"),
}
_USER = re.compile(r"@?([^\W_][\w-]{0,31})")
# The handle of the bot.
BOT = "botty"
_MAX_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Entered:
    """A line that was typed.

    Attributes:
        order: the word after the slash; empty for a message.
        argument: the handle of the user, or the emoji, that an order takes, or else empty; of a message the text.
    """

    order: str
    argument: str


def parse(line: str) -> Entered | None:
    """What a line means; None for a blank one. Raises `RaveError` (InvalidArgument), in words for the author."""
    text = line.strip()
    if not text:
        return None
    if not text.startswith("/"):
        return Entered("", text)
    order, *rest = text[1:].split(maxsplit=1) or [""]
    if order not in _ORDERS:
        shown = printable(order, _MAX_SHOWN_CHARS)
        raise RaveError(Code.INVALID_ARGUMENT, f"there is no /{shown}", hint="/help lists what there is")
    example, _ = _ORDERS[order]
    argument = rest[0].strip() if rest else ""
    if not example and argument:
        raise RaveError(Code.INVALID_ARGUMENT, f"/{order} takes nothing", hint=f"write /{order}")
    if example and not argument:
        what = "a user" if example == _USER_EXAMPLE else "an emoji"
        raise RaveError(Code.INVALID_ARGUMENT, f"/{order} takes {what}", hint=f"write /{order} {example}")
    if example == _EMOJI_EXAMPLE and not is_emoji(argument):
        shown = printable(argument, _MAX_SHOWN_CHARS)
        raise RaveError(Code.INVALID_ARGUMENT, f"{shown!r} is no emoji", hint=f"write /{order} {example}")
    return Entered(order, handle(argument) if example == _USER_EXAMPLE else argument)


def handle(name: str) -> str:
    """The handle of a user, by a name that was typed. Raises `RaveError` (InvalidArgument)."""
    found = _USER.fullmatch(name)
    if not found:
        text = f"{printable(name, _MAX_SHOWN_CHARS)!r} is no name"
        raise RaveError(Code.INVALID_ARGUMENT, text, hint="write one word of at most 32 letters and digits")
    if found[1].lower() == BOT:
        raise RaveError(Code.INVALID_ARGUMENT, f"{name} is the bot", hint="name another user")
    return found[1].lower()


def mentioned(text: str) -> list[str]:
    """The handles that a message names, such as `bob` in "@Bob: hello", in their order and each once."""
    found = (match[1].lower() for match in re.finditer(rf"(?<!\S){_USER.pattern}", text) if match[0][0] == "@")
    return list(dict.fromkeys(found))


def help_text() -> str:
    """What can be typed."""
    rows = [(f"/{order} {example}".strip(), what) for order, (example, what) in _ORDERS.items()]
    cells = max(len(written) for written, _ in rows)
    return "\n".join(f"{written:{cells}}  {what}" for written, what in [("any text", "say it"), *rows])
