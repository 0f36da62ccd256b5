"""Text for the chat: split when it is too long, made plain when it comes from strangers; spans of time in words."""

from __future__ import annotations

from collections.abc import Sequence

from ravesvc.common.translation import gettext as _
from ravesvc.common.translation import joined

# The marks of Rave's light markdown: in a user's name they would format the text after it.
_MARKUP = str.maketrans("", "", "*`")


def split(text: str, length: int, whole: Sequence[str] = ()) -> list[str]:
    """`text` in parts of at most `length` characters, none of them blank.

    Cuts at the last line end of the second half of a part, else at the last blank, else anywhere; but through none of
    `whole`, unless a part would have nothing else.
    """
    parts: list[str] = []
    text = text.strip()
    start = 0
    while len(text) - start > length:
        end = _before(whole, text, start, _cut(text, start, length))
        parts.append(text[start:end].rstrip())
        start = end
        while text[start].isspace():
            start += 1
    if text:
        parts.append(text[start:])
    return parts


def _cut(text: str, start: int, length: int) -> int:
    end = start + length
    line = text.rfind("\n", start + length // 2, end + 1)
    if line > start:
        return line
    return next((at for at in range(end, start, -1) if text[at].isspace()), end)


def _before(whole: Sequence[str], text: str, start: int, end: int) -> int:
    """`end`, or the beginning of the one of `whole` that a cut there would go through."""
    for each in whole:
        at = text.rfind(each, max(start + 1, end - len(each) + 1), end + len(each) - 1)
        end = end if at < 0 else at
    return end


def plain(text: str, length: int) -> str:
    """A stranger's text on one line: no control or formatting characters, no markdown, at most `length` characters.

    What remains may be empty.
    """
    line = " ".join(text.split()).translate(_MARKUP)
    line = "".join(character for character in line if character.isprintable()).strip()
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def duration(seconds: float) -> str:
    """A span in its two largest units, such as 3 h 12 min."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, _("d")), (hours, _("h")), (minutes, _("min")), (rest, _("s"))]
    first = next((at for at, unit in enumerate(units) if unit[0]), len(units) - 1)
    return joined(" ", [joined(" ", [str(value), unit]) for value, unit in units[first : first + 2]])
