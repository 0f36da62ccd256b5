"""Text for people: untrusted text made safe for terminal, log and bus; numbers of things; names of users."""

from __future__ import annotations

import pwd


def printable(text: object, limit: int) -> str:
    """At most `limit` characters of a text, on one line, none of which controls a terminal; empty if it is no text.

    systemd takes a line feed or carriage return in a status for its end, and the rest for further assignments.
    """
    found = text[:limit] if isinstance(text, str) else ""
    # Nearly every text is printable: this check makes thousands of entries fast.
    return found if found.isprintable() else "".join(c if c.isprintable() else "?" for c in found)


def user_name(user: int) -> str:
    """The name of a user of this machine, by id; the id itself if it has no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def count(number: int, noun: str) -> str:
    """A number of things: 1 mesh, 2 meshes, 2 entries. The last word of `noun` must have a regular plural."""
    return f"{number} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith(("s", "sh", "ch", "x")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
