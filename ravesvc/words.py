"""Text from strangers, made fit for a log line, a status line or a bus message."""

from __future__ import annotations


def printable(text: object, limit: int) -> str:
    """At most `limit` characters of a text, on one line, none of which controls a terminal; empty if it is no text.

    systemd takes a line feed or carriage return in a status for the end of it, and what follows for its orders.
    """
    found = text[:limit] if isinstance(text, str) else ""
    # Nearly all is; of thousands of entries it is the difference.
    return found if found.isprintable() else "".join(c if c.isprintable() else "?" for c in found)
