"""The command line of ravectl: all that completion, manual page and help are made from."""

from __future__ import annotations

import argparse
import functools

from ravesvc.ctl.command import Commands, Parser
from ravesvc.ctl.commands import (
    admin,
    blocklist,
    config,
    doctor,
    fleet,
    ignore,
    login,
    logs,
    mesh,
    migrate,
    overview,
    perm,
    store,
    takeover,
)
from ravesvc.version import __version__

# By the headings of the manual page.
SECTIONS: dict[str, tuple[Commands, ...]] = {
    "Meshes": (overview.COMMANDS, mesh.COMMANDS, logs.COMMANDS, fleet.COMMANDS),
    "The blocklist": (blocklist.COMMANDS,),
    "The account": (login.COMMANDS,),
    "Admins and permissions": (admin.COMMANDS, perm.COMMANDS, ignore.COMMANDS),
    "The store": (store.COMMANDS, store.GROUP, takeover.COMMANDS),
    "The configuration": (config.COMMANDS, doctor.COMMANDS),
    "Moving in": (migrate.COMMANDS,),
}


@functools.cache
def parser(*sections: str) -> argparse.ArgumentParser:
    """The parser of the commands under some headings, or of all. To make it takes long, so it is made once."""
    found: argparse.ArgumentParser = Parser(prog="ravectl", description="Control the Rave bots of this machine.")
    found.add_argument("--version", action="version", version=f"ravectl {__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for section in sections or SECTIONS:
        for each in SECTIONS[section]:
            each.add_to(commands)
    return found
