"""One spelling for what keyboards, autocorrection and editors write in many ways: prefixes, command words, names.

And the name that was probably meant by one that does not exist.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable

# What a keyboard or its autocorrection puts in the place of a character of ASCII, where NFKC does not know it.
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("\u00bf\u061f\u2e2e\u2753\u2754", "?"),  # Spanish, Arabic, reversed; emoji
        **dict.fromkeys("\u00a1\u2757\u2755", "!"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02b9\u2032\u2035\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2036", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2014\u2015\ufe58", "--"),  # what autocorrection makes of two
        **dict.fromkeys("\u301c\u02dc", "~"),
        **dict.fromkeys("\u3002\uff61", "."),  # the key of the full stop on Chinese and Japanese keyboards
        **dict.fromkeys("\u3001\uff64\u30fb\uff65", "/"),  # likewise, that of the slash
        "\u0131": "i",  # Turkish: what is left of an I made small; the capital of i is `_DOTTED_I`
    }
)
_DOTTED_I = "i\u0307"
_BLANKS = dict.fromkeys(b"\t\n\v\f\r\x1c\x1d\x1e\x1f", " ")
# Characters without a shape of their own that are no format characters: joiners, fillers, variation selectors.
_SHAPELESS = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)})
_SHAPELESS_SUPPLEMENT = range(0xE0100, 0xE01F0)
# A name less like the given word than this is not suggested, see `_likeness`.
_LIKENESS_THRESHOLD = 0.65
_MAX_COMPARED_CHARS = 40


def fold(text: str) -> str:
    """`text` in the spelling in which names are compared; `fold(fold(text)) == fold(text)`.

    Capitals, full width, typographic quotes and dashes, composed and decomposed accents make no difference, nor do
    invisible characters. White space of any kind becomes a blank each. The time grows with the square of the length:
    bound it first.
    """
    if text.isascii():
        return text.lower().translate(_BLANKS)
    # Decomposed first: some letters have a capital only in that form. Twice: what NFKC takes apart may be one of
    # the lookalikes, and may have a capital.
    for _ in range(2):
        text = unicodedata.normalize("NFD", text).translate(_LOOKALIKES)
        text = unicodedata.normalize("NFKC", text).casefold().replace(_DOTTED_I, "i")
        text = "".join(" " if c.isspace() else c for c in text if not _is_invisible(c))
    return unicodedata.normalize("NFKC", text)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of the names that `word`, of any length, is most like; None if it is like none of them.

    As good for names as difflib, which would cost each bot 130 KB.
    """
    likeness = functools.partial(_likeness, word[:_MAX_COMPARED_CHARS])
    name = max(names, key=likeness, default=None)
    return name if name is not None and likeness(name) >= _LIKENESS_THRESHOLD else None


def _likeness(a: str, b: str) -> float:
    """How much of both is common to them in the same order, from 0 to 1."""
    # common[i]: the length of the longest common subsequence of b[:i] and of what was read of a
    common = [0] * (len(b) + 1)
    for character in a:
        before, common = common, [0]
        for i, other in enumerate(b):
            common.append(before[i] + 1 if character == other else max(before[i + 1], common[i]))
    return 2 * common[-1] / max(len(a) + len(b), 1)


def _is_invisible(character: str) -> bool:
    if character.isascii():
        return False
    number = ord(character)
    return number in _SHAPELESS or number in _SHAPELESS_SUPPLEMENT or unicodedata.category(character) == "Cf"
