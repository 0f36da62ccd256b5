"""`ravesvc-dev`, or `python3 -m ravesvc.dev`: try plugins in one room, in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ravesvc.common import extras
from ravesvc.errors import Code, RaveError
from ravesvc.version import __version__

_FAILED = 1
_WRONG_COMMAND_LINE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status: 0, 1 for what has failed in words or in a script, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        with extras.explain_missing():
            # Imported here, because the help needs nothing of it.
            from ravesvc.dev import repl

            return 0 if repl.run(options.files, options.admin) else _FAILED
    except RaveError as e:
        sys.stderr.write(f"ravesvc-dev: {e}\n")
        return _WRONG_COMMAND_LINE if e.code is Code.INVALID_ARGUMENT else _FAILED
    except KeyboardInterrupt:
        # Ctrl-C came before there was a room.
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ravesvc-dev",
        description="Try plugins in one room, in the terminal: the real bot in a simulated Rave on this machine. "
        "Each time a file is saved, the bot loads it anew.",
        epilog="If standard input is no terminal, its lines are a script.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file of commands, such as greet.py")
    parser.add_argument(
        "--admin", metavar="USER", action="append", default=[], help="a user who is an admin besides Ann"
    )
    parser.add_argument("--version", action="version", version=f"ravesvc {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
