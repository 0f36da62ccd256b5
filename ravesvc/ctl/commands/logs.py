"""ravectl logs: what the journal has of one mesh."""

from __future__ import annotations

import argparse
import os

from ravesvc import names
from ravesvc.ctl.arguments import MESH
from ravesvc.ctl.client import connected
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.errors import Code, RaveError

COMMANDS = Commands()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError("a number of lines")
    return int(text)


_FOLLOW = Argument("-f", "--follow", action="store_true", help="go on with new entries")
_LINES = Argument("-n", "--lines", type=_number, metavar="N", help="show only the last N lines")


@COMMANDS.local_command("logs", MESH, _FOLLOW, _LINES)
def _logs(options: argparse.Namespace) -> None:
    """Show what the journal has of a mesh.

    It shows what the bot has logged, what systemd has logged of its unit, and what the service has done with the
    mesh. With a full id it works while the service does not run.

    Examples:
        ravectl logs --lines 20 1c2d3e4f
        ravectl logs --follow 1c2d3e4f
    """
    # With a full id it works as well while the service does not run.
    mesh = options.mesh
    if not names.is_mesh_id(mesh):
        with connected() as service:
            mesh = mesh_lookup.find(service, mesh).id
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
