"""ravectl config: check the configuration without the service."""

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
    """The mistakes in a rave.yaml, and in the database.json that it names."""
    from ravesvc.setup.check import check

    return check(file)[1]


def _check(options: argparse.Namespace) -> Exit:
    # Imported here because no other command needs it, and it takes its time.
    from ravesvc.setup.check import check, check_files, check_identity, remarks

    settings, problems = check(options.file)
    if settings:
        problems = check_files(settings)
    for problem in problems:
        output.print_problem(str(problem))
    if settings is None or problems:
        return Exit.FAILED
    if lacking := check_identity(settings):
        for problem in lacking:
            output.print_problem(str(problem))
        output.print_problem(f"{options.file} has no mistake, but no bot starts until these are set.")
        return Exit.FAILED
    output.print_line(f"{options.file} is fine.")
    if settings.database:
        output.print_line(f"{settings.database.path} is fine.")
    for remark in remarks(settings):
        output.print_line(remark)
    return Exit.OK
