"""Sets options in the text of rave.yaml, and keeps its comments and layout. Pure."""

from __future__ import annotations

import re


def put(text: str, key: str, value: str) -> str | None:
    """The text with an option set; None if it has a value already, or its section is written in braces.

    `key` is the option's name, with that of its section before a dot. `value` is as YAML has it.
    """
    section, _, name = key.rpartition(".")
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    if not section:
        return _put(lines, 0, len(lines), "", f"{name}: {value}{end}", name)
    start = next((i for i, line in enumerate(lines) if re.match(rf"{section}\s*:\s*(#.*)?$", line)), None)
    if start is None:
        if any(re.match(rf"{section}\s*:", line) for line in lines):
            # In braces.
            return None
        return "".join([*lines, f"{section}:{end}", f"  {name}: {value}{end}"])
    stop = next((i for i in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    indents = [re.match(r"\s*", line)[0] for line in lines[start + 1 : stop] if re.match(r"\s+[^\s#]", line)]  # type: ignore[index]
    indent = indents[0] if indents else "  "
    return _put(lines, start + 1, stop, indent, f"{indent}{name}: {value}{end}", name)


def _put(lines: list[str], start: int, stop: int, indent: str, new: str, name: str) -> str | None:
    """Put a line in place of the comment with the default, or at the end of the file or the start of the section."""
    own = re.compile(rf"{indent}{name}\s*:[ \t]*(?P<value>[^\s#].*)?")
    shown = re.compile(rf"[ \t]*#[ \t]*{name}\s*:")
    place = None
    for i in range(start, stop):
        if match := own.match(lines[i]):
            if match["value"] or (i + 1 < stop and re.match(rf"{indent}[ \t]+[^\s#]|{indent}-", lines[i + 1])):
                return None
            place = i
            break
        if place is None and shown.match(lines[i]):
            place = i
    if place is None:
        where = start if indent else len(lines)
        return "".join([*lines[:where], new, *lines[where:]])
    return "".join([*lines[:place], new, *lines[place + 1 :]])
