"""Text for the chat: split when it is too long, made plain when it comes from strangers."""

from __future__ import annotations

# The marks of Rave's light markdown: they would format whatever follows a stranger's name.
_MARKUP = str.maketrans("", "", "*`")


def split(text: str, length: int) -> list[str]:
    """`text` in parts of at most `length` characters, none of them blank.

    Cuts at the last line end of the second half of a part, else at the last blank, else anywhere.
    """
    parts: list[str] = []
    text = text.strip()
    start = 0
    while len(text) - start > length:
        end = _cut(text, start, length)
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


def plain(text: str, length: int) -> str:
    """A stranger's text on one line: no control or formatting characters, no markdown, at most `length` characters.

    What remains may be empty.
    """
    line = " ".join(text.split()).translate(_MARKUP)
    line = "".join(character for character in line if character.isprintable()).strip()
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
