"""The table of faults in README.md, which says which tests make something break."""

from __future__ import annotations

import re
from pathlib import Path

_README = Path(__file__).with_name("README.md")


def rows() -> list[str]:
    """The lines of the table, without its heading."""
    lines = _README.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| Fault |")]


def named() -> list[tuple[str, str]]:
    """File and test of every row, in the order of the table; the test is empty where a row names a whole file.

    `::test` stands for one in the file that the row has named before it.
    """
    found = []
    for row in rows():
        file = ""
        for name in re.findall(r"`((?:test_\w+\.py)?(?:::\w+)?)`", row.split("|")[4]):
            path, _, test = name.partition("::")
            file = path or file
            found.append((file, test))
    return found
