"""What commands are called, and whom they are for: all that the service has to know of them."""

from __future__ import annotations

import re
from enum import StrEnum

from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

# Commands that change admins, permissions and the account. No setting opens them to other users.
ADMIN_COMMANDS = frozenset({"admin", "ignore", "refresh", "setperm", "removeperm", "listperms", "relogin"})

# No setting closes it to users: the user who becomes the first admin is not an admin yet.
CLAIM = "claim"

# Commands whose permission can't be changed.
FIXED_COMMANDS = ADMIN_COMMANDS | {CLAIM}

# For admins, unless an admin opens it to all users.
LEAVE = "leave"

# The groups of `help`; authors may have others. What names none is in GENERAL, or in MORE if an author wrote it.
GENERAL, VIDEO, GAMES, MODERATION, SERVICE, MORE = "general", "video", "games", "moderation", "service", "more"

# Admins may give it with the usual prefixes in any room.
SETTINGS = "settings"

# As it is written, and as it is compared.
_NAME = re.compile(r"\S{1,32}")


class Permission(StrEnum):
    """Whom a command is for."""

    USER = "user"
    ADMIN = "admin"


def command_key(name: str) -> str | None:
    """The key of a command of that name; None if it can't be typed, or not be kept by each engine of the store."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        return None
    key = fold(name)
    return key if _NAME.fullmatch(key) and key.isprintable() else None


def refuse_fixed(key: str) -> None:
    """Raise `RaveError` (InvalidArgument) for a command whose permission can't be changed."""
    if key == CLAIM:
        text = _("the command {name} is for all users, which can't be changed", name=key)
        raise RaveError(Code.INVALID_ARGUMENT, text)
    if key in FIXED_COMMANDS:
        raise RaveError(
            Code.INVALID_ARGUMENT, _("the command {name} is for admins, which can't be changed", name=key)
        )
