"""ravectl plan, discover and roll: all meshes together."""

from __future__ import annotations

import argparse

from ravesvc.common.text import count
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.progress import display

COMMANDS = Commands()

_CONFIRM_LOSSES = Argument(
    "--confirm-losses", action="store_true", help="accept at once that meshes which the list lacks are gone"
)


@COMMANDS.service_command("plan")
def _plan(service: Service, _: argparse.Namespace) -> None:
    """Show what the service would start and stop now, and why.

    Each line has the mesh, its title, the action (start, stop, keep or skip), and the reason.

    Example:
        ravectl plan
    """
    (decisions,) = service.call("Plan")
    if not decisions:
        output.print_line("There are no meshes.")
        return
    titles = mesh_lookup.listed_titles(service)
    rows = [[mesh, output.title(titles.get(mesh, "")), action, reason] for mesh, action, reason in decisions]
    output.print_table(["MESH", "TITLE", "ACTION", "REASON"], rows)


@COMMANDS.service_command("discover", _CONFIRM_LOSSES)
def _discover(service: Service, options: argparse.Namespace) -> None:
    """Read Rave's list of meshes now, and wait until that is done.

    The service does not accept that most meshes go missing at once. With --confirm-losses it does.

    Example:
        ravectl discover
    """
    if options.confirm_losses:
        (gone,) = service.call("ConfirmLosses")
        output.print_line(f"{count(gone, 'mesh')} given up.")
        return
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.discovery_run import DiscoveryRun

    meshes = service.run(DiscoveryRun(service).run())
    output.print_line(f"{count(meshes, 'mesh')} found.")


@COMMANDS.service_command("roll")
def _roll(service: Service, _: argparse.Namespace) -> Exit:
    """Replace outdated processes one after another.

    A process is outdated if it runs an older program, or with other settings than the service has read from
    rave.yaml(5). If the file has changed since, ravectl says so first, and what applies the change. The service
    replaces the next one when the last is connected again, and ends the roll at the first that does not connect.
    Ctrl-C ends it after the process that is being replaced.

    Example:
        ravectl roll
    """
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.roll_run import RollRun

    (status,) = service.call("GetStatus")
    if note := status.get("ConfigNote"):
        output.print_problem(note)
    return service.run(RollRun(service, display(), mesh_lookup.listed_titles(service)).run())
