"""The command `ravectl`."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence

from ravesvc.common import dates, extras
from ravesvc.ctl import command_line, exit_status
from ravesvc.ctl.client import connected
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import absence
from ravesvc.ctl.ui import output
from ravesvc.errors import RaveError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. A wrong command line ends the process with 2."""
    dates.use_zone_of_the_machine()
    _prepare()
    options = command_line.parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with extras.explain_missing():
            if "run_alone" in options:
                return options.run_alone(options) or Exit.OK
            with connected() as service:
                return options.run(service, options) or Exit.OK
    except RaveError as e:
        absence.print_error(e)
        return exit_status.of(e)
    except KeyboardInterrupt:
        output.print_error("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone. At its end the interpreter would try to write the rest, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def _prepare() -> None:
    # Log entries of the bus connection are dropped: the command prints the error anyway.
    logging.getLogger("ravesvc").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal may know fewer characters than people's descriptions have.
            stream.reconfigure(errors="replace")
