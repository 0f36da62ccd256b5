"""ravectl config: check the configuration without the service."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.command import Argument, CommandGroup
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.errors import RaveError

COMMANDS = CommandGroup("config", "Look for mistakes in the configuration.")

_FILE = Argument(
    "file", nargs="?", default=names.CONFIG_FILE, metavar="FILE", help=f"{names.CONFIG_FILE} if you name none"
)


def mistakes(file: str) -> list[RaveError]:
    """The mistakes in a rave.yaml, and in the database.json that it names."""
    from ravesvc.setup.check import check

    return check(file)[1]


@COMMANDS.local_command("check", _FILE)
def _check(options: argparse.Namespace) -> Exit:
    """Show everything that is wrong with rave.yaml and database.json.

    It checks FILE, the files and directories that FILE names, and whether the users of the service and of the bots
    can use them in their sandbox. Each mistake is one line on standard error with file, line, key and how to fix it.
    The service says the same in its log when a mistake keeps it from starting.

    What is allowed but hardly meant is a line that begins with "warning: ": a time span in milliseconds without their
    unit, or a file with secrets that other users can read. It keeps nothing from starting, and the service says it in
    its log as well.

    Without a mistake it lists the keys of client_identity that are still missing. The service runs without them, but
    starts no bot.

    Every user who can read the files may run it, and the service need not run. It connects to no database. Some
    checks need root and are left out for other users.

    Example:
        ravectl config check
    """
    # Imported here because no other command needs it, and it takes its time.
    from ravesvc.setup.check import check, check_files, check_identity, remarks, warnings

    settings, problems = check(options.file)
    warned, lacking = [], []
    if settings:
        problems, warned, lacking = check_files(settings), warnings(settings), check_identity(settings)
    if not problems and not lacking:
        found = f"has no mistake, but {count(len(warned), 'warning')}:" if warned else "is fine."
        output.print_line(f"{options.file} {found}")
    for warning in warned:
        output.print_problem(f"warning: {warning}")
    for problem in problems:
        output.print_problem(str(problem))
    if settings is None or problems:
        return Exit.FAILED
    if lacking:
        for problem in lacking:
            output.print_problem(str(problem))
        output.print_problem(f"{options.file} has no mistake, but no bot starts until these are set.")
        return Exit.FAILED
    if settings.database:
        output.print_line(f"{settings.database.path} is fine.")
    for remark in remarks(settings):
        output.print_line(remark)
    return Exit.OK
