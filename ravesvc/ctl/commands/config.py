"""ravectl config: what is wrong with the configuration, before the service finds out."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.errors import RaveError


def add(commands: Commands) -> None:
    """Add the group to a command line."""
    group = arguments.group(commands, "config", "look for mistakes in the configuration")
    checking = group.add_parser("check", help="tell everything that is wrong with rave.yaml and database.json")
    what = f"if missing: {names.CONFIG_FILE}"
    checking.add_argument("file", nargs="?", default=names.CONFIG_FILE, metavar="FILE", help=what)
    checking.set_defaults(run_alone=_check)


def mistakes(file: str) -> list[RaveError]:
    """What is wrong with a rave.yaml, and with the database.json that it names."""
    from ravesvc.setup.check import check

    return check(file)[1]


def _check(options: argparse.Namespace) -> Exit:
    # Imported here because no other command needs it, and it takes its time.
    from ravesvc.setup.check import check, check_files, check_identity, remarks

    settings, problems = check(options.file)
    if settings:
        problems = check_files(settings)
    for problem in problems:
        output.report(str(problem))
    if settings is None or problems:
        return Exit.FAILED
    if lacking := check_identity(settings):
        for problem in lacking:
            output.report(str(problem))
        output.report(f"{options.file} has no mistake, but no bot starts until these are set.")
        return Exit.FAILED
    output.say(f"{options.file} is fine.")
    if settings.database:
        output.say(f"{settings.database.path} is fine.")
    for remark in remarks(settings):
        output.say(remark)
    return Exit.OK
