"""Parts that the command lines of several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from ravesvc.common import timespan
from ravesvc.common.text import printable

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

MESH = "its id, or the beginning of it"

# The message about a wrong command line, which quotes it.
_MAX_ERROR_CHARS = 500

# Every engine of the store can keep it.
_MAX_USER_ID = 2**63 - 1
# The service accepts no more.
_MAX_SPAN_S = 100 * 365 * 24 * 3600


class Parser(argparse.ArgumentParser):
    """A parser whose messages about a wrong command line are safe to print on a terminal, as they quote it."""

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and end the process."""
        super().error(printable(message, _MAX_ERROR_CHARS))


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


def group(commands: Commands, name: str, description: str) -> Commands:
    """A command that only has commands of its own."""
    parser = commands.add_parser(name, help=description, description=f"{description[0].upper()}{description[1:]}.")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def user_command(commands: Commands, name: str, run: Callable[..., None], description: str) -> None:
    """A command about one user, whose id it takes."""
    parser = commands.add_parser(name, help=description)
    parser.add_argument("user", type=user_id, metavar="USER_ID", help="a number")
    parser.set_defaults(run=run)
