"""What README and manual pages print to be typed or written."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

_PAGES = ROOT / "packaging" / "man"
_BLOCK = re.compile(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", re.M | re.S)


def chapters() -> list[str]:
    """The titles of the README's chapters."""
    return re.findall(r"^## (.+)$", README, re.M)


def commands(chapter: str) -> list[str]:
    """The commands of a chapter of the README: its indented lines, without their comments."""
    text = README.split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r"\s+# .*", "", line) for line in lines]


def programs(text: str = README) -> list[str]:
    """The Python in a document."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def pages() -> dict[str, str]:
    """The sources of all manual pages, by file name."""
    found = {path.name: path.read_text() for path in sorted(_PAGES.glob("*.[1-8]"))}
    with tempfile.TemporaryDirectory() as xml:
        run = [sys.executable, "-B", str(_PAGES.parent / "dbus/introspection.py"), xml]
        subprocess.run(run, check=True, timeout=20)
        interfaces = _written("interfaces.py", xml)
    return found | {"org.ravesvc.Rave1.5": interfaces, "ravectl.1": _written("ravectl.py")}


def _written(script: str, *arguments: str) -> str:
    """A page that a script writes when the packages are built."""
    command = [sys.executable, "-I", str(_PAGES / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def literal(source: str) -> list[str]:
    """The literal blocks of a page, or of a part of one, as a reader sees them."""
    return [block.replace("\\e", "\\").replace("\\&", "") for block in _BLOCK.findall(source)]


def examples(source: str) -> list[str]:
    """The literal blocks in the section EXAMPLES of a page."""
    _, _, rest = source.partition("\n.Sh EXAMPLES\n")
    return literal(rest.partition("\n.Sh ")[0])
