"""ravectl logs: what the journal has of one mesh."""

from __future__ import annotations

import argparse
import os

from ravesvc import names
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import connected
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.errors import Code, RaveError


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser("logs", help="show what the journal has of a mesh")
    parser.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is new")
    parser.add_argument("-n", "--lines", type=_number, metavar="N", help="no more than the last so many lines")
    parser.set_defaults(run_alone=_logs)


def _logs(options: argparse.Namespace) -> None:
    # With a whole id it works as well while the service does not run.
    mesh = _full_id(options.mesh)
    if mesh is None:
        with connected() as service:
            mesh = mesh_lookup.find(service, options.mesh)
    words = ["journalctl", *(["--follow"] if options.follow else [])]
    words += [f"--lines={options.lines}"] if options.lines is not None else []
    try:
        os.execvp(words[0], [*words, *matches(mesh)])  # noqa: S606 - no shell is wanted
    except OSError as e:
        raise RaveError(Code.INTERNAL, f"journalctl can't be run: {e.strerror}") from e


def matches(mesh: str) -> list[str]:
    """Matches for journalctl(1): entries of the bot, of systemd about its unit, and of the service about the mesh."""
    unit = names.mesh_unit(mesh)
    return [
        f"_SYSTEMD_UNIT={unit}",
        "+",
        "_PID=1",
        f"UNIT={unit}",
        "+",
        f"_SYSTEMD_UNIT={names.ORCHESTRATOR_UNIT}",
        f"RAVE_MESH={mesh}",
    ]


def _full_id(text: str) -> str | None:
    try:
        return names.mesh_id(text)
    except RaveError:
        return None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError("a number of lines")
    return int(text)
