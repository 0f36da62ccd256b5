"""Arguments that several commands take, and the types of their values."""

from __future__ import annotations

import argparse

from ravesvc.common import timespan
from ravesvc.ctl.command import Argument

# Every engine of the store can keep it.
_MAX_USER_ID = 2**63 - 1
# The service accepts no more.
_MAX_SPAN_S = 100 * 365 * 24 * 3600


def user_id(text: str) -> int:
    """The id of a user."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= _MAX_USER_ID):
        raise argparse.ArgumentTypeError("a user id is a positive whole number, such as 100000001")
    return int(text)


def number(text: str) -> int:
    """A number as it stands in a list."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError("it must be a number from 'ravectl admin undo'")
    return int(text)


def word(text: str) -> str:
    """Text on one line, without control characters."""
    if not text.isprintable():
        raise argparse.ArgumentTypeError("it has characters that can't be printed")
    return text


def span(text: str) -> int:
    """Microseconds of a time span, from one second to a hundred years."""
    try:
        seconds = timespan.parse(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError("a time is written like 90s, 30min, 1h or 7d") from e
    if seconds < 1:
        raise argparse.ArgumentTypeError("that is less than a second")
    if seconds > _MAX_SPAN_S:
        raise argparse.ArgumentTypeError("that is more than a hundred years; leave the option out for no limit")
    return int(seconds * 1_000_000)


MESH_HELP = "the id of a mesh or the beginning of it, or its title or a part of it"
MESH = Argument("mesh", type=word, metavar="MESH", help=MESH_HELP)
USER = Argument("user", type=user_id, metavar="USER_ID", help="the id of a user, a number")
JSON = Argument("--json", action="store_true", help="print JSON, for programs")
YES = Argument("--yes", action="store_true", help="do not ask")
