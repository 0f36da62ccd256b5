"""Whom a message of the bot mentions. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError
from ravesvc.room.chat import Mention

# Of one message: more would disturb the whole room.
MAX_MENTIONS = 5


class Member(NamedTuple):
    """A parameter that users write as a mention or as a user id: a user in the room.

    Attributes:
        id: the user id.
        name: the display name, fit for a chat text.
    """

    id: int
    name: str

    @property
    def handle(self) -> str:
        """The name, or the id if there is none."""
        return self.name.strip() or str(self.id)

    @property
    def mention(self) -> str:
        """What to write into a message that mentions the user, with `mentions=[member]`: such as `@Ann`."""
        return f"@{self.handle}"


Mentioned: TypeAlias = Member | Mention


def mentions_in(text: str, mentioned: Sequence[Mentioned]) -> tuple[Mention, ...]:
    """The mentions of these users, each once.

    Raises `RaveError` (InvalidArgument) for too many, and for one whose @handle the text does not contain.
    """
    found = tuple(dict.fromkeys(map(_mention, mentioned)))
    if len(found) > MAX_MENTIONS:
        raise RaveError(Code.INVALID_ARGUMENT, _("a message mentions at most {n} users", n=MAX_MENTIONS))
    for mention in found:
        if not is_in(mention, text):
            what = _("the message mentions @{handle} without saying so", handle=mention.handle)
            raise RaveError(Code.INVALID_ARGUMENT, what, hint=_("write {handle} into it", handle=written(mention)))
    return found


def is_in(mention: Mention, text: str) -> bool:
    """Whether a text contains the @handle of a mention, and not only that of a longer name: @Ann of @Annabel."""
    return re.search(rf"{re.escape(written(mention))}(?!\w)", text) is not None


def written(mention: Mention) -> str:
    """What a text contains for it."""
    return f"@{mention.handle}"


def _mention(mentioned: Mentioned) -> Mention:
    return mentioned if isinstance(mentioned, Mention) else Mention(mentioned.id, mentioned.handle)
