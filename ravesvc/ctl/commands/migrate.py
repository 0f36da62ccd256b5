"""ravectl migrate: move in from the Node.js bot."""

from __future__ import annotations

import argparse
from pathlib import Path

from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = commands.add_parser(
        "migrate", help="take over what the Node.js bot has: account, blocklist, database, options"
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="that of the bot, with its config directory in it")
    parser.set_defaults(run=_migrate)


def _migrate(service: Service, options: argparse.Namespace) -> Exit:
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.migration import migrate

    return migrate(service, Path(options.directory))
