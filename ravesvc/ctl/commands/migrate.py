"""ravectl migrate: move in from the Node.js bot."""

from __future__ import annotations

import argparse
from pathlib import Path

from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.exit_status import Exit

COMMANDS = Commands()

_DIRECTORY = Argument(
    "directory", metavar="DIRECTORY", help="that of the Node.js bot, with its config directory in it"
)


@COMMANDS.service_command("migrate", _DIRECTORY)
def _migrate(service: Service, options: argparse.Namespace) -> Exit:
    """Take over what the Node.js bot has: account, blocklist, database, options.

    Stop the Node.js bot before. ravectl reads its files in DIRECTORY, changes none of them, and lists for each what
    was taken over and what was not, with the reason and the fix. You may run it again. Only root may run it. The exit
    status is 1 if a file is damaged, can't be read or has a bad entry; all else is taken over nevertheless.

    Blocklist (config/blocklist.json): entries keep their reasons and times. A kick is for ever, and entries that are
    over are left out. A mesh whose entry can't be read is blocked for ever. If a mesh is blocked here too, the entry
    with the stronger reason stays: a kick, then an operator's block, then a hold, then all others; of two alike, the
    longer one.

    Account (config/credentials.json): taken over if there is none here, unless the blocklist could not be read at
    all. The bots then start at once. To change the account, run `ravectl logout` before.

    Database (config/database.json): copied to /etc/rave/database.json if there is no such file and it has no mistake.
    Restart the service to use it. Account, admins and permissions are then those in that database.

    Options and client identity: the Node.js bot has them in its source, its .env and its unit. What is written there
    plainly is set in /etc/rave/rave.yaml and holds from the next start of the service on; the program that `npm
    start` runs comes before all others. A variable in .env counts for an option if the source has `process.env` and
    its name. An option that is set in rave.yaml already stays. Bots keep their settings until `ravectl roll`. Where
    the source has several values, or one that can't be read without running it, ravectl names file and line. It
    prints no value.

    Where the source sets blocklistPersistPath or databaseConfigPath, ravectl reads the file of that name instead.

    Example:
        ravectl migrate /opt/rave-bot
    """
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.migration import migrate

    return migrate(service, Path(options.directory))
