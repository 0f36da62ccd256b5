"""A failure as text for those who read it."""

from __future__ import annotations

from enum import Enum, auto

from ravesvc.common.text import printable
from ravesvc.common.translation import Catalogue, translate
from ravesvc.common.translation import gettext as _
from ravesvc.errors import RaveError, with_incident

_MAX_CHAT_CHARS = 500
_MAX_LINE_CHARS = 2000


class Audience(Enum):
    """Who reads a failure."""

    CHAT = auto()
    """Users of a room, in its language: sentences on one line, the last one without its stop."""
    OPERATOR = auto()
    """Operators at a terminal: what has failed on the first line, what to do about it on a second one."""
    BUS = auto()
    """Callers on D-Bus: one sentence. The id of the incident travels beside it, in the name of the error."""


def present(error: RaveError, audience: Audience, catalogue: Catalogue | None = None) -> str:
    """The text of a failure; `catalogue` is the language of the chat, None for English.

    Chat and operators get the id of its incident, by which the log entry is found.
    """
    incident = error.incident
    match audience:
        case Audience.BUS:
            return str(error)
        case Audience.OPERATOR:
            message = with_incident(error.message, incident) if incident else error.message
            lines = [message, f"hint: {error.hint}"] if error.hint else [message]
            return "\n".join(printable(line, _MAX_LINE_CHARS) for line in lines)
        case Audience.CHAT:
            sentences = [translate(text, catalogue) for text in (error.message, error.hint) if text]
            text = printable(". ".join(each[:1].upper() + each[1:] for each in sentences), _MAX_CHAT_CHARS)
            return translate(_("{text} (error {id})", text=text, id=incident), catalogue) if incident else text
