"""ravectl blocklist: which meshes are blocked or held, and why."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.ui import output
from ravesvc.errors import Code, RaveError

_INTERFACE = names.BLOCKLIST_INTERFACE
# As `ravesvc.blocklist.model.Reason` has them, which would take ravectl some time to import; a test compares them.
REASONS = ("connection_failures", "kicked", "rejected", "crashes", "too_large", "left", "gone", "held", "operator")
# After these the bot has no invitation any more.
_UNINVITED = frozenset({"kicked", "left"})


def add(commands: Commands) -> None:
    """Add the group to a command line."""
    group = arguments.group(commands, "blocklist", "see and change which meshes are blocked or held")
    group.add_parser("list", help="list the entries, the oldest first").set_defaults(run=_list)
    group.add_parser("stats", help="count the entries").set_defaults(run=_stats)

    history = group.add_parser("history", help="list what has happened to a mesh")
    history.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    history.set_defaults(run=_history)

    adding = group.add_parser("add", help="block a mesh")
    adding.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    adding.add_argument(
        "--for", dest="span", type=arguments.span, default=0, metavar="TIME", help="such as 1h; else for ever"
    )
    adding.add_argument("--why", type=arguments.word, default="", metavar="TEXT", help="for those who read the list")
    adding.set_defaults(run=_add)

    removing = group.add_parser("remove", help="take entries out, and start their meshes if they are listed")
    removing.add_argument("meshes", nargs="*", type=arguments.word, metavar="MESH", help=arguments.MESH)
    removing.add_argument("--reason", choices=REASONS, metavar="REASON", help=f"all with it: {', '.join(REASONS)}")
    removing.add_argument(
        "--since", type=arguments.span, default=0, metavar="TIME", help="only those of the last 10min, 1h, ..."
    )
    removing.set_defaults(run=_remove)

    restoring = group.add_parser("restore", help="go on with what was saved last, when the file can't be used")
    restoring.set_defaults(run=_restore)


def _list(service: Service, _: argparse.Namespace) -> None:
    (entries,) = service.call("ListEntries", interface=_INTERFACE)
    if not entries:
        output.print_line("The blocklist is empty.")
        return
    rows = [
        [mesh, reason, output.date(since), output.date(until) if until else "for ever", actor, str(count), detail]
        for mesh, reason, since, until, detail, actor, count in entries
    ]
    output.print_table(["MESH", "REASON", "SINCE", "UNTIL", "BY", "COUNT", "DETAIL"], rows)


def _stats(service: Service, _: argparse.Namespace) -> None:
    total, permanent, temporary = service.call("GetStats", interface=_INTERFACE)
    output.print_line(f"Blocked: {total} ({permanent} permanent, {temporary} temporary)")


def _history(service: Service, options: argparse.Namespace) -> None:
    mesh = mesh_lookup.find(service, options.mesh)
    (events,) = service.call("GetHistory", "s", mesh, interface=_INTERFACE)
    if not events:
        output.print_line(f"Nothing has happened to mesh {mesh}.")
        return
    rows = [[output.date(at), what, reason, actor, detail] for at, what, reason, actor, detail in events]
    output.print_table(["WHEN", "WHAT", "REASON", "BY", "DETAIL"], rows)


def _add(service: Service, options: argparse.Namespace) -> None:
    mesh = mesh_lookup.find(service, options.mesh)
    service.call("Block", "sts", mesh, options.span, options.why, interface=_INTERFACE)
    output.print_line(f"Mesh {mesh} is blocked.")


def _remove(service: Service, options: argparse.Namespace) -> None:
    if bool(options.meshes) is bool(options.reason) or (options.since and not options.reason):
        hint = "ravectl blocklist remove MESH..., or --reason REASON [--since TIME]"
        raise RaveError(Code.INVALID_ARGUMENT, "either meshes are named, or a reason", hint=hint)
    (entries,) = service.call("ListEntries", interface=_INTERFACE)
    reasons = {mesh: reason for mesh, reason, *_ in entries}
    chosen = [mesh_lookup.find(service, text) for text in options.meshes] or _chosen(entries, options)
    if not chosen:
        output.print_line("No entry is like that.")
    for mesh in chosen:
        (unblocked,) = service.call("Unblock", "s", mesh, interface=_INTERFACE)
        output.print_line(f"Mesh {mesh} {'is no longer' if unblocked else 'was not'} on the blocklist.")
    if not _UNINVITED.isdisjoint(reasons.get(mesh) for mesh in chosen):
        output.print_line("After a kick, or when the bot was sent away, it comes back when it is invited again.")


def _chosen(entries: Sequence[Sequence[Any]], options: argparse.Namespace) -> list[str]:
    """The meshes that are blocked for the given reason, and not for longer than the given time."""
    earliest = time.time() * 1_000_000 - options.since if options.since else 0
    return [mesh for mesh, reason, since, *_ in entries if reason == options.reason and since >= earliest]


def _restore(service: Service, _: argparse.Namespace) -> None:
    (entries,) = service.call("Restore", interface=_INTERFACE)
    output.print_line(f"The blocklist goes on as it was saved last, with {count(entries, 'entry')} in force.")
