from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ravesvc.bot import games
from ravesvc.bot.permissions import StaticPermissions
from ravesvc.common import translation
from ravesvc.common.translation import Catalogue, RemoteText, gettext, joined, lines, ngettext, translate
from ravesvc.errors import Code, RaveError
from tests.unit.bot_scene import ANN, Scene

ROOT = Path(__file__).parents[3]
LOCALE = ROOT / "ravesvc/locale"

HEADER = 'msgid ""\nmsgstr ""\n"Language: xx\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'
# What these raise is for authors and operators.
NOT_CHAT = {
    "bot.py",
    "command.py",
    "outbox.py",
    "parameters.py",
    "plugin_helpers.py",
    "plugins.py",
    "step_timeout.py",
}


def catalogue(entries: str) -> Catalogue:
    return translation.parse("xx", HEADER + entries)


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


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("it is gone", "es ist weg"),
        ("it is gone (try again in 3 hours)", "es ist weg (versuch es in 3 Stunden wieder)"),
        ("try again in 3 hours", "versuch es in 3 Stunden wieder"),
        ("try again never", "versuch es never wieder"),
        ("is 5 more than 3?", "ist 5 mehr als 3?"),
        # Of what is nearly nothing but values anything could be made.
        ("a: b", "a: b"),
        ("something else (it is gone)", "something else (es ist weg)"),
        ("something (else) (it is gone)", "something (else) (it is gone)"),
        ("something else", "something else"),
        ("try again {time} {0} {", "versuch es {time} {0} { wieder"),
        ("", ""),
    ],
)
def test_a_text_of_another_process_is_recognised(english: str, german: str) -> None:
    entries = {
        "it is gone": "es ist weg",
        "try again {time}": "versuch es {time} wieder",
        "in {number} hours": "in {number} Stunden",
        "is {a} more than {b}?": "ist {a} mehr als {b}?",
        "{a}: {b}": "{b}: {a}",
    }
    text = "\n".join(f'msgid "{msgid}"\nmsgstr "{msgstr}"\n' for msgid, msgstr in entries.items())
    assert translate(RemoteText(english), catalogue(text)) == german
    assert translate(RemoteText(english), None) == english


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
        HEADER + 'msgid "Hello, {name}!"\nmsgstr "Hallo, {nam}!"\n',
        HEADER + 'msgid "Hello, {name}!"\nmsgstr "Hallo, {name.__class__}!"\n',
        HEADER + 'msgid "Hello, {name}!"\nmsgstr "Hallo, {name:>999999999}!"\n',
        HEADER + 'msgid "Pong!"\nmsgstr "Pong {"\n',
    ],
)
def test_what_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(RaveError) as caught:
        translation.parse("xx", text)
    assert caught.value.code is Code.BAD_FILE


# --- the catalogues that are shipped ----------------------------------------------------------------------------


@pytest.mark.process
def test_the_template_has_every_text_of_the_source() -> None:
    printed = subprocess.run([sys.executable, ROOT / "packaging/pot.py"], capture_output=True, text=True, check=True)
    assert printed.stdout == (LOCALE / "ravesvc.pot").read_text(), "run make pot, and translate what is new"


def test_what_is_said_in_chat_is_marked_as_a_text() -> None:
    unmarked = [place for path in sorted((ROOT / "ravesvc/bot").glob("*.py")) for place in _unmarked(path)]
    assert unmarked == []


def test_a_text_that_is_not_marked_is_found(tmp_path: Path) -> None:
    path = tmp_path / "said.py"
    path.write_text(
        'context.reply("a")\ncontext.send(f"{b}")\nregistry.command("c", "d", usage="e")\ncontext.reply(_("f"))\n'
        'RaveError(1, "g")\n'
    )
    assert list(_unmarked(path)) == [f"said.py:{line}" for line in (1, 2, 3, 3, 5)]


def _unmarked(path: Path) -> Iterator[str]:
    """Calls that say or describe something for the chat with a text that can't be translated."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, (ast.Attribute, ast.Name)):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        said: list[ast.expr] = []
        if name in ("reply", "send", "lines"):
            said = node.args
        elif name in ("command", "add"):
            said = [*node.args[1:2], *(each.value for each in node.keywords if each.arg == "usage")]
        elif name == "RaveError" and path.name not in NOT_CHAT:
            said = [*node.args[1:], *(each.value for each in node.keywords if each.arg == "hint")]
        for each in said:
            if isinstance(each, (ast.Constant, ast.JoinedStr)):
                yield f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("code", [code for code in translation.languages() if code != translation.ENGLISH])
def test_a_catalogue_is_complete_and_names_what_the_english_text_names(code: str) -> None:
    found = translation.load(code)
    assert found

    wanted = [entry for entry in translation._entries((LOCALE / "ravesvc.pot").read_text()) if entry["msgid"]]
    assert set(found.texts) == {entry["msgid"] for entry in wanted}
    for entry in wanted:
        named = set(re.findall(r"{\w+}", entry["msgid"]))
        for form in found.texts[entry["msgid"]]:
            assert set(re.findall(r"{\w*}?", form)) == named, entry["msgid"]
            form.format(**dict.fromkeys((name[1:-1] for name in named), "x"))


def test_there_are_these_languages() -> None:
    assert translation.languages() == ["de", "en"]
    assert translation.load("en") is None
    assert translation.load("fr") is None
    assert translation.load("../de") is None
    german = translation.load("de_AT")
    assert german
    assert german.language == "de"


def test_a_catalogue_that_is_broken_leaves_the_room_with_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(translation, "_LOCALE", tmp_path)
    (tmp_path / "de.po").write_bytes(b"\xff")
    assert translation.load("de") is None
    assert "The catalogue of the language de can't be read" in caplog.text


def test_a_bot_answers_in_the_language_of_its_room() -> None:
    scene = Scene(lang="de", permissions=StaticPermissions(admins=frozenset({ANN})))

    async def body() -> None:
        assert await scene.answer("?hello") == "Hallo, Ann!"
        assert (await scene.answer("?status")).splitlines()[1] == "Raum 11111111: 3 Personen"
        assert (await scene.answer("?help spiele")).splitlines()[:2] == [
            "**Spiele**:",
            "• **?dare**: Gibt dir etwas zu tun.",
        ]
        answer = await scene.answer("?help pnig")
        assert answer.startswith("Es gibt keinen Befehl pnig. Meintest du ping? (Fehler ")
        assert await scene.answer("?truth") in games.read("de")["truth PG"]

    scene.play(body)
