"""What ravectl says and asks. Whatever comes from elsewhere is made fit for a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from ravesvc.words import count, printable

_LONGEST = 2000


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(printable(text, _LONGEST) + "\n")
    sys.stdout.flush()


def complain(message: str, hint: str = "") -> None:
    """A failure on standard error, and what to do about it."""
    lines = [f"ravectl: {message}"] + ([f"hint: {hint}"] if hint else [])
    sys.stderr.write("".join(printable(line, _LONGEST) + "\n" for line in lines))


def dump(document: object) -> None:
    """A document for programs."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()


def report(text: str) -> None:
    """One line on standard error, about something else than what was asked for: a file, an entry."""
    sys.stderr.write(printable(text, _LONGEST) + "\n")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as need be, the last as long as it is."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ask(question: str) -> str:
    """The answer of whoever sits at the terminal; empty if there is none."""
    sys.stderr.write(f"{question} ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
    return answer.strip()


def agrees(question: str) -> bool:
    """Whether whoever sits at the terminal says yes."""
    return ask(f"{question} [y/N]").lower() in ("y", "yes")


def date(microseconds: int) -> str:
    """A time since the epoch, in the local time zone; 0 is none."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(microseconds // 1_000_000)) if microseconds else "-"


def counts(admins: int, permissions: int) -> str:
    """What a store holds."""
    return f"{count(admins, 'admin')}, {count(permissions, 'command permission')}"
