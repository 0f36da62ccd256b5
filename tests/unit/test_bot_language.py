from __future__ import annotations

import pytest

from ravesvc.bot import language
from ravesvc.bot.language import Catalogue, gettext, joined, lines, ngettext, translate
from ravesvc.errors import Code, RaveError

HEADER = 'msgid ""\nmsgstr ""\n"Language: xx\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'


def catalogue(entries: str) -> Catalogue:
    return language.parse("xx", HEADER + entries)


def test_a_text_is_english_until_it_is_translated() -> None:
    german = catalogue('msgid "Hello, {name}!"\nmsgstr "Hallo, {name}!"\n')
    text = gettext("Hello, {name}!", name="{Ann}")
    assert text == "Hello, {Ann}!"
    assert translate(text, None) == "Hello, {Ann}!"
    assert translate(text, german) == "Hallo, {Ann}!"


def test_what_a_catalogue_lacks_stays_english_and_so_does_what_is_no_text_of_ours() -> None:
    german = catalogue('msgid "Hello"\nmsgstr "Hallo"\n')
    assert translate(gettext("Bye"), german) == "Bye"
    assert translate("Hello", german) == "Hello"
    assert translate(ngettext("{n} film", "{n} films", 2), german) == "2 films"


@pytest.mark.parametrize(
    ("number", "english", "german"), [(0, "0 films", "0 Filme"), (1, "1 film", "1 Film"), (2, "2 films", "2 Filme")]
)
def test_a_number_has_its_form_in_each_language(number: int, english: str, german: str) -> None:
    text = ngettext("{n} film", "{n} films", number)
    entry = 'msgid "{n} film"\nmsgid_plural "{n} films"\nmsgstr[0] "{n} Film"\nmsgstr[1] "{n} Filme"\n'
    assert text == english
    assert translate(text, catalogue(entry)) == german


def test_texts_within_texts_are_translated_too() -> None:
    german = catalogue('msgid "red"\nmsgstr "rot"\n\nmsgid "It is {what}"\nmsgstr "Es ist {what}"\n')
    text = lines(gettext("It is {what}", what=joined(" & ", [gettext("red"), "{x}"])), "as written")
    assert text == "It is red & {x}\nas written"
    assert translate(text, german) == "Es ist rot & {x}\nas written"
    assert joined(", ", []) == ""


def test_a_catalogue_is_read_as_translators_write_it() -> None:
    found = catalogue(
        "# a comment\n#: file.py:1\n#, python-brace-format\n"
        'msgid ""\n"two\\n"\n"lines \\"quoted\\" \\\\ "\nmsgstr "zwei\\t"\n\n'
        '#, fuzzy\nmsgid "unsure"\nmsgstr "unsicher"\n\n'
        'msgid "missing"\nmsgstr ""\n\n'
        '#~ msgid "old"\n#~ msgstr "alt"\n'
    )
    assert found.texts == {'two\nlines "quoted" \\ ': ("zwei\t",)}


@pytest.mark.parametrize(
    "text",
    [
        "no line of it\n",
        '"what is this?"\n',
        'msgctxt "x"\nmsgid "a"\nmsgstr "b"\n',
        'msgid ""\nmsgstr "Plural-Forms: nplurals=9; plural=n;\\n"\n',
        'msgid ""\nmsgstr "Language: de\\n"\n',
        HEADER + 'msgid "{n} a"\nmsgid_plural "{n} b"\nmsgstr[0] "one is missing"\n',
    ],
)
def test_what_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        language.parse("xx", text)
    assert caught.value.code is Code.BAD_FILE
