"""The .po file of a translation: what it makes of the texts of the chat."""

from __future__ import annotations

from ravesvc.common.translation import gettext, ngettext, parse, translate

_TEXTS = (
    gettext("Hello, {name}!", name="{0.__class__} %s"),
    gettext("Pong!"),
    *(ngettext("{n} admin", "{n} admins", number) for number in (0, 1, 2, 2**63)),
)


def check(data: bytes) -> None:
    """Each text is said in that language, or in English, and no other value than its own comes into it."""
    catalogue = parse("xx", data.decode(errors="surrogateescape"))
    for text in _TEXTS:
        said = translate(text, catalogue)
        assert isinstance(said, str)
        assert "<class" not in said
