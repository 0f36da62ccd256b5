"""ravectl plan, discover and roll: all meshes together."""

from __future__ import annotations

import argparse

from ravesvc.common.text import count
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.progress import display


def add(commands: Commands) -> None:
    """Add the commands to a command line."""
    commands.add_parser("plan", help="show what would be started and stopped now, and why").set_defaults(run=_plan)

    discovering = commands.add_parser("discover", help="look for meshes now")
    discovering.add_argument(
        "--confirm-losses", action="store_true", help="believe at once that what is not listed any more is gone"
    )
    discovering.set_defaults(run=_discover)

    rolling = commands.add_parser("roll", help="replace the processes that run an older program or other settings")
    rolling.set_defaults(run=_roll)


def _plan(service: Service, _: argparse.Namespace) -> None:
    (decisions,) = service.call("Plan")
    if not decisions:
        output.print_line("There are no meshes.")
        return
    output.print_table(["MESH", "ACTION", "REASON"], decisions)


def _discover(service: Service, options: argparse.Namespace) -> None:
    if options.confirm_losses:
        (gone,) = service.call("ConfirmLosses")
        output.print_line(f"{count(gone, 'mesh')} given up.")
        return
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.discovery_run import DiscoveryRun

    meshes = service.run(DiscoveryRun(service).run())
    output.print_line(f"{count(meshes, 'mesh')} found.")


def _roll(service: Service, _: argparse.Namespace) -> Exit:
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.roll_run import RollRun

    return service.run(RollRun(service, display()).run())
