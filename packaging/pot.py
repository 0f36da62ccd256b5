"""Print the template for translators: every text that a bot may say, from the source. See docs/architecture.md.

python3 packaging/pot.py > ravesvc/locale/ravesvc.pot
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = """# Texts of the bots of ravesvc. {names} must stay as they are.
msgid ""
msgstr ""
"Language: \\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"
"""


def main() -> None:
    """Write it to standard output."""
    # By text: one that is said in several places is translated once.
    found: dict[tuple[str, ...], set[str]] = {}
    for path in sorted((ROOT / "ravesvc").rglob("*.py")):
        for forms in texts(ast.parse(path.read_text())):
            found.setdefault(forms, set()).add(str(path.relative_to(ROOT)))
    sys.stdout.write("\n".join([HEADER, *(entry(forms, places) for forms, places in found.items())]))


def texts(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    """The arguments of `_`, which is `gettext`, and the two first of `ngettext`, as they come in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "ngettext"):
            forms = node.args[: 2 if node.func.id == "ngettext" else 1]
            yield tuple(ast.literal_eval(form) for form in forms)


def entry(forms: tuple[str, ...], places: set[str]) -> str:
    """What translators fill in."""
    lines = [f"#: {place}" for place in sorted(places)] + [f"msgid {quoted(forms[0])}"]
    if len(forms) > 1:
        lines += [f"msgid_plural {quoted(forms[1])}", 'msgstr[0] ""', 'msgstr[1] ""']
    else:
        lines.append('msgstr ""')
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A text as a catalogue has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


if __name__ == "__main__":
    main()
