"""What the program says reads as English whatever number is in it: "1 mesh", "2 meshes".

`ravesvc.common.text.count` writes a number with its noun. Texts of the chat have both forms for translators instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ravesvc

(ROOT,) = map(Path, ravesvc.__path__)
NOUNS = (
    "admins|attempts|bots|bytes|certificates|changes|characters|commands|connections|days|entries|errors|failures|files"
    "|hours|lines|meshes|messages|minutes|mistakes|options|pages|permissions|problems|processes|requests|restarts|rooms"
    "|rounds|seconds|times|users|values|videos|votes"
)
# A number, perhaps with a word or two between, and the plural of a noun.
BETWEEN = r"(?: (?!(?:is|has|takes|answers|for|of) )[a-z]+){0,2}?"
NUMBERED = re.compile(rf"(?:%d|%s|\{{(?P<number>[^{{}}]*)\}}){BETWEEN} (?:{NOUNS})\b")
# A constant is known to be more than one, and so is what has exceeded a limit.
CONSTANT = re.compile(r"(?:\w+\.)*_?[A-Z][A-Z0-9_]+\b.*")
EXCEEDED = ("are too many", "is too much", "are the limit", "are the most", "more than", "no text on one line of")
# These are no numbers.
WORDS = {"source", "self._settings.mesh_mode"}


def numbered_plurals(source: str) -> Iterator[str]:
    """Each text of a program in which a plural stands after any number."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    skipped = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    # Docstrings.
    skipped |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    skipped |= {
        id(argument)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "ngettext")
        for argument in node.args
    }
    for node in nodes:
        if id(node) in skipped:
            continue
        text = text_of(node)
        found = NUMBERED.search(text)
        if found is None or CONSTANT.fullmatch(found["number"] or "") or found["number"] in WORDS:
            continue
        if not any(words in text for words in EXCEEDED):
            yield text


def text_of(node: ast.AST) -> str:
    """A text with its expressions in braces; empty for any other node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{" + re.sub("[{}]", "", ast.unparse(part.value)) + "}"
            for part in node.values
            if isinstance(part, ast.FormattedValue) or isinstance(part.value, str)
        )
    return ""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("say(f'{number} meshes')", True),
        ("say(f'restarted {len(times)} failed times')", True),
        ("log.info('%d failed attempts', n)", True),
        ("say(f'{MAX_PAGES} pages')", False),
        ("say(f'{names.MAX_PAGES // 2} pages')", False),
        ("say(f'{len(data)} bytes are too many')", False),
        ("ngettext('{n} admin', '{n} admins', n)", False),
        ("say(f'{count(n, \"mesh\")}')", False),
    ],
)
def test_what_is_looked_for(source: str, found: bool) -> None:
    assert bool([*numbered_plurals(source)]) is found


def test_no_text_has_a_plural_after_any_number() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in sorted(ROOT.rglob("*.py"))
        for text in numbered_plurals(path.read_text())
    ]
    assert found == [], "ravesvc.common.text.count writes a number with its noun"
