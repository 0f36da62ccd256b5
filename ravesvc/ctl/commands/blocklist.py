"""ravectl blocklist: which meshes are blocked or held, and why."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from ravesvc import names
from ravesvc.common import dates
from ravesvc.common.text import count
from ravesvc.ctl.arguments import MESH, MESH_HELP, span, word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, CommandGroup
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.operations.mesh_lookup import FoundMesh
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError

_INTERFACE = names.BLOCKLIST_INTERFACE
# As `ravesvc.blocklist.model.Reason` has them, which would take ravectl some time to import; a test compares them.
REASONS = ("connection_failures", "kicked", "rejected", "crashes", "too_large", "left", "gone", "held", "operator")
# After these the bot has no invitation any more.
_UNINVITED = frozenset({"kicked", "left"})


COMMANDS = CommandGroup(
    "blocklist",
    """See and change which meshes are blocked or held.

    The service starts no bot for a mesh on the blocklist. It adds a mesh itself: for ever after a kick; for a time
    when the mesh can't be reached, turns the bot away, or its process keeps failing; and until the next start when an
    operator stops it.
    """,
)

_MESHES = Argument("meshes", nargs="*", type=word, metavar="MESH", help=MESH_HELP)
_FOR = Argument("--for", dest="span", type=span, default=0, metavar="TIME", help="such as 90min or 7d; else for ever")
_WHY = Argument("--why", type=word, default="", metavar="TEXT", help="a note for those who read the list")
_REASON = Argument("--reason", choices=REASONS, metavar="REASON", help=f"all with this reason: {', '.join(REASONS)}")
_SINCE = Argument("--since", type=span, default=0, metavar="TIME", help="only entries of the last 10min, 1h, ...")


@COMMANDS.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> None:
    """List the entries, the oldest first.

    Each line has the mesh, its title when it was blocked, the reason, since when, until when, who has blocked it, how
    often in a row, and details.

    Example:
        ravectl blocklist list
    """
    (entries,) = service.call("DescribeEntries", interface=_INTERFACE)
    if not entries:
        output.print_line("The blocklist is empty.")
        return
    # All in one form.
    written = output.date_column([entry[3] for entry in entries] + [entry[4] for entry in entries])
    since, until = written[: len(entries)], written[len(entries) :]
    rows = [
        [
            *(mesh, output.title(title), reason, begin),
            *(end if ends else "for ever", actor, str(times), detail),
        ]
        for (mesh, title, reason, _, ends, detail, actor, times), begin, end in zip(
            entries, since, until, strict=True
        )
    ]
    output.print_table(["MESH", "TITLE", "REASON", "SINCE", "UNTIL", "BY", "COUNT", "DETAIL"], rows)


@COMMANDS.service_command("stats")
def _stats(service: Service, _: argparse.Namespace) -> None:
    """Count the entries.

    Example:
        ravectl blocklist stats
    """
    total, permanent, temporary = service.call("GetStats", interface=_INTERFACE)
    output.print_line(f"Blocked: {total} ({permanent} permanent, {temporary} temporary)")


@COMMANDS.service_command("history", MESH)
def _history(service: Service, options: argparse.Namespace) -> None:
    """List what has happened to a mesh.

    It lists when the mesh was blocked and unblocked, why and by whom, whether it is blocked now or not.

    Example:
        ravectl blocklist history 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh)
    (events,) = service.call("GetHistory", "s", mesh.id, interface=_INTERFACE)
    if not events:
        output.print_line(f"Nothing has happened to mesh {mesh}.")
        return
    when = output.date_column([event[0] for event in events])
    rows = [[date, *event[1:]] for date, event in zip(when, events, strict=True)]
    output.print_table(["WHEN", "WHAT", "REASON", "BY", "DETAIL"], rows)


@COMMANDS.service_command("add", MESH, _FOR, _WHY)
def _add(service: Service, options: argparse.Namespace) -> None:
    """Block a mesh.

    Its bot leaves, and none is started until the block ends. A block without --for lasts until you remove it; the
    longest TIME is a hundred years.

    Example:
        ravectl blocklist add --for 7d --why "spam" 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh)
    service.call("Block", "sts", mesh.id, options.span, options.why, interface=_INTERFACE)
    end = dates.date(time.time() + options.span / 1_000_000) if options.span else "it is unblocked"
    why = f": {options.why}" if options.why else ""
    output.print_line(f"Mesh {mesh} is blocked until {end}{why}.")


@COMMANDS.service_command("remove", _MESHES, _REASON, _SINCE)
def _remove(service: Service, options: argparse.Namespace) -> None:
    """Remove entries, and start their meshes if they are listed.

    Name the meshes, or give --reason for all entries with one reason, such as kicked, and --since for those of the
    last TIME alone. After a kick, and after an admin has sent the bot away, the bot has no invitation any more: it
    comes back when a user invites it again.

    Examples:
        ravectl blocklist remove 1c2d3e4f
        ravectl blocklist remove --reason kicked --since 10min
    """
    if bool(options.meshes) is bool(options.reason) or (options.since and not options.reason):
        hint = "ravectl blocklist remove MESH..., or --reason REASON [--since TIME]"
        raise RaveError(Code.INVALID_ARGUMENT, "name either meshes or a reason", hint=hint)
    (entries,) = service.call("DescribeEntries", interface=_INTERFACE)
    reasons = {mesh: reason for mesh, _title, reason, *_ in entries}
    chosen = [mesh_lookup.find(service, text) for text in options.meshes] or _chosen(entries, options)
    if not chosen:
        output.print_line("No entry matches.")
    for mesh in chosen:
        (unblocked,) = service.call("Unblock", "s", mesh.id, interface=_INTERFACE)
        reason = reasons.get(mesh.id)
        was = "held" if reason == "held" else "blocked"
        follows = "; its bot comes back when it is invited again" if reason in _UNINVITED else ""
        output.print_line(f"Mesh {mesh} {f'is no longer {was}{follows}' if unblocked else 'was not blocked'}.")


def _chosen(entries: Sequence[Sequence[Any]], options: argparse.Namespace) -> list[FoundMesh]:
    """The meshes that are blocked for the given reason, and not for longer than the given time."""
    earliest = time.time() * 1_000_000 - options.since if options.since else 0
    return [
        FoundMesh(mesh, title)
        for mesh, title, reason, since, *_ in entries
        if reason == options.reason and since >= earliest
    ]


@COMMANDS.service_command("restore")
def _restore(service: Service, _: argparse.Namespace) -> None:
    """Go on with the entries that were saved last, when the file can't be used.

    The service starts no mesh while it can't use its blocklist, see rave-orchestrator(8).

    Example:
        ravectl blocklist restore
    """
    (entries,) = service.call("Restore", interface=_INTERFACE)
    output.print_line(f"The blocklist goes on as it was saved last, with {count(entries, 'entry')} in force.")
