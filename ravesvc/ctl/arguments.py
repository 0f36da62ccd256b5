"""What the command lines of several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from ravesvc.common import timespan
from ravesvc.common.text import printable

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

MESH = "its id, or the beginning of it"

# Characters of what is said about a wrong command line, which quotes it.
_MAX_ERROR = 500

# What every engine of the store can keep.
_MOST_USER = 2**63 - 1
# What the service takes.
_MAX_SPAN_S = 100 * 365 * 24 * 3600


class Parser(argparse.ArgumentParser):
    """A command line that is refused in words which control no terminal, whatever words a script has put into it."""

    def error(self, message: str) -> NoReturn:
        """Print it with the usage, and end the process."""
        super().error(printable(message, _MAX_ERROR))


def user_id(text: str) -> int:
    """The id of a user."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= _MOST_USER):
        raise argparse.ArgumentTypeError("a user id is a positive whole number, such as 100000001")
    return int(text)


def number(text: str) -> int:
    """A number as it stands in a list."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise argparse.ArgumentTypeError("it must be a number from 'ravectl admin undo'")
    return int(text)


def word(text: str) -> str:
    """Text that stands on one line; a command line may hold anything."""
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
