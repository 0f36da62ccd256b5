"""Texts for the chat in other languages than English: texts that keep their template and values, and catalogues.

English is in the source. A text for the chat is made by `gettext` or `ngettext`, and is English wherever it is read,
such as in the log; before it is sent it is translated into the language of its room. Catalogues are `locale/*.po`.
One is read when a room needs it, and English needs none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

ENGLISH = "en"
_LOCALE = Path(__file__).parents[1] / "locale"

# `Plural-Forms` of a catalogue, without blanks: the number of forms, and the index of the form for a number.
_PLURALS: Mapping[str, tuple[int, Callable[[int], int]]] = {
    "nplurals=1;plural=0;": (1, lambda n: 0),
    "nplurals=2;plural=(n!=1);": (2, lambda n: int(n != 1)),
    "nplurals=2;plural=(n>1);": (2, lambda n: int(n > 1)),
}
_LINE = re.compile(r'(?:(msgid|msgid_plural|msgstr|msgstr\[\d\]) )?"((?:[^"\\]|\\.)*)"')
_VALUE = re.compile(r"\{(\w+)\}")
# A template with less fixed text is nearly all values, and would match any text.
_MIN_FIXED_CHARS = 6
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t"}


class Catalogue(NamedTuple):
    """The texts of one language: from the English text to its translations, one for each plural form."""

    language: str
    texts: Mapping[str, tuple[str, ...]]
    plural: Callable[[int], int]


class LazyText(str):
    """An English text that can be translated."""

    __slots__ = ("_forms", "_number", "_values")
    _forms: tuple[str, ...]
    _number: int
    _values: Mapping[str, object]

    def __new__(cls, forms: tuple[str, ...], number: int, values: Mapping[str, object]) -> LazyText:
        """Make it of one form, or of the two for one and for many; {names} in it are those of `values`."""
        self = super().__new__(cls, forms[_english(forms, number)].format(**values))
        self._forms, self._number, self._values = forms, number, values
        return self

    def translated(self, catalogue: Catalogue) -> str:
        """The text in that language; what the catalogue does not have stays English."""
        values = {
            name: translate(value, catalogue) if isinstance(value, str) else value
            for name, value in self._values.items()
        }
        found = catalogue.texts.get(self._forms[0])
        if found is None:
            form = self._forms[_english(self._forms, self._number)]
        else:
            form = found[catalogue.plural(self._number) if len(self._forms) > 1 else 0]
        return form.format(**values)


class RemoteText(str):
    """An English text that another process has made of texts of the catalogue, such as a failed search."""

    __slots__ = ()

    def translated(self, catalogue: Catalogue) -> str:
        """The text in that language, as far as it is recognised."""
        message, bracket, hint = self.partition(" (")
        if bracket and self.endswith(")"):
            # As `RaveError` puts a hint behind its message.
            return f"{_recognised(message, catalogue)} ({_recognised(hint[:-1], catalogue)})"
        return _recognised(self, catalogue)


def gettext(text: str, /, **values: object) -> LazyText:
    """A text for the chat; {name} in it stands for the value of that name."""
    return LazyText((text,), 1, values)


def ngettext(one: str, many: str, n: int, /, **values: object) -> LazyText:
    """As `gettext`, where the words depend on a number, which {n} stands for."""
    return LazyText((one, many), n, {"n": n, **values})


def joined(separator: str, texts: Iterable[str]) -> LazyText:
    """Several texts as one, each of which may be lazy."""
    values = {f"t{at}": text for at, text in enumerate(texts)}
    return LazyText((separator.join(f"{{{name}}}" for name in values),), 1, values)


def lines(*texts: str) -> LazyText:
    """Several texts, each on a line of its own."""
    return joined("\n", texts)


def translate(text: str, catalogue: Catalogue | None) -> str:
    """A lazy or remote text in the language of the catalogue (None is English); any other as it is."""
    return text.translated(catalogue) if isinstance(text, (LazyText, RemoteText)) and catalogue else text


def languages() -> list[str]:
    """The codes of all languages that have texts."""
    return sorted([ENGLISH, *(path.stem for path in _LOCALE.iterdir() if path.suffix == ".po")])


def is_known(language: str) -> bool:
    """Whether a language such as `de` or `de-AT` has texts."""
    return _code(language) in languages()


def _code(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def load(language: str) -> Catalogue | None:
    """The catalogue of a language such as `de` or `de-AT`; None for English, and if there is no such catalogue."""
    code = _code(language)
    if code == ENGLISH or code not in languages():
        return None
    try:
        return parse(code, (_LOCALE / f"{code}.po").read_text())
    except (OSError, ValueError, RaveError) as error:
        # An upgrade may be replacing the file. The room gets its answers in English then.
        log.warning("The catalogue of the language %s can't be read: %s", code, error)
        return None


def parse(language: str, text: str) -> Catalogue:
    """A catalogue from the text of its .po file, without fuzzy entries; raises `RaveError` (BadFile)."""
    entries = list(_entries(text))
    header = next((entry.get("msgstr", "") for entry in entries if not entry.get("msgid")), "")
    number, plural = _plural(header)
    texts: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        forms = tuple(value for key, value in entry.items() if key.startswith("msgstr"))
        if len(forms) != (number if "msgid_plural" in entry else 1):
            raise RaveError(Code.BAD_FILE, f"a translation is missing: {entry['msgid'][:80]}")
        if not all(_names_only(_VALUE.findall(entry["msgid"]), form) for form in forms):
            raise RaveError(Code.BAD_FILE, f"a translation has a value of its own: {entry['msgid'][:80]}")
        if entry["msgid"] and all(forms):
            texts[entry["msgid"]] = forms
    return Catalogue(language, texts, plural)


def _names_only(named: list[str], form: str) -> bool:
    """Whether a translation has placeholders of the English text alone, because only these have values later."""
    rest = _VALUE.sub(lambda match: "" if match[1] in named else match[0], form)
    return "{" not in rest and "}" not in rest


def _recognised(text: str, catalogue: Catalogue) -> str:
    """The translation of the longest template that a text can come from; the text itself if there is none."""
    if found := catalogue.texts.get(text):
        return found[0]
    for english in sorted(catalogue.texts, key=len, reverse=True):
        fixed = _VALUE.sub("\0", english).split("\0")
        if len(fixed) == 1 or len("".join(fixed)) < _MIN_FIXED_CHARS or not all(part in text for part in fixed):
            continue
        if match := re.fullmatch("(.{1,200})".join(map(re.escape, fixed)), text):
            values = zip(_VALUE.findall(english), match.groups(), strict=True)
            return catalogue.texts[english][0].format(
                **{name: _recognised(value, catalogue) for name, value in values}
            )
    return text


def _english(forms: tuple[str, ...], number: int) -> int:
    return int(len(forms) > 1 and number != 1)


def _plural(header: str) -> tuple[int, Callable[[int], int]]:
    found = re.search(r"^Plural-Forms:(.*)$", header, re.M)
    rule = found[1].replace(" ", "") if found else ""
    if rule not in _PLURALS:
        raise RaveError(Code.BAD_FILE, f"the plural forms are unknown: {rule}")
    return _PLURALS[rule]


def _entries(text: str) -> Iterator[dict[str, str]]:
    """What stands between blank lines: the texts by keyword."""
    for block in re.split(r"\n\s*\n", text):
        entry: dict[str, str] = {}
        key = ""
        written = [line for line in block.splitlines() if not line.startswith("#")]
        for line in written:
            found = _LINE.fullmatch(line)
            key = found[1] or key if found else ""
            if found is None or not key:
                raise RaveError(Code.BAD_FILE, f"no line of a catalogue: {line[:80]}")
            entry[key] = entry.get(key, "") + _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), found[2])
        if "msgid" in entry and "#, fuzzy" not in block:
            yield entry
