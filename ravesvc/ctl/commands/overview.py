"""ravectl status, list and show: how the meshes are."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl import exit_status
from ravesvc.ctl.arguments import JSON, MESH
from ravesvc.ctl.client import Service, connected, running_bots
from ravesvc.ctl.command import Argument, Commands, OneOf
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import absence, memory, mesh_lookup, status_view, verdict
from ravesvc.ctl.operations.mesh_lookup import MeshRow
from ravesvc.ctl.operations.status_view import StatusFacts, StatusView
from ravesvc.ctl.ui import mesh_facts, output
from ravesvc.errors import Code, RaveError

# Monitoring systems stop a plug-in after ten seconds.
_CHECK_CALL_TIMEOUT_S = 8.0


COMMANDS = Commands()


@dataclass(frozen=True, slots=True)
class JsonKey:
    """A key of a mesh in `ravectl status --json`: what it says, and where its value comes from.

    Args:
        value: called with the mesh and the bytes of memory by mesh id, as far as is known.
    """

    text: str
    value: Callable[[MeshRow, Mapping[str, int]], object]


MESH_KEYS = {
    "Id": JsonKey("its id", lambda mesh, _: mesh.id),
    "Title": JsonKey("the title of its video when it was last listed", lambda mesh, _: mesh.title),
    "State": JsonKey("its state, as in the table", lambda mesh, _: mesh.state),
    "Reason": JsonKey("why it is not connected, in words; may be empty", lambda mesh, _: mesh.reason),
    "SinceTimestamp": JsonKey(
        "when its bot last connected or disconnected, in microseconds since the epoch; 0 for never",
        lambda mesh, _: mesh.since,
    ),
    "Users": JsonKey("how many users discovery last saw in it", lambda mesh, _: mesh.users),
    "Restarts": JsonKey("how often its process was restarted by itself", lambda mesh, _: mesh.restarts),
    "Outdated": JsonKey("whether `ravectl roll` would replace its process", lambda mesh, _: mesh.outdated),
    "MemoryCurrent": JsonKey(
        "the memory of its unit in bytes; null if that is not known", lambda mesh, used: used.get(mesh.id)
    ),
}

_WATCH = Argument("--watch", action="store_true", help="draw it again whenever something changes, until q or Ctrl-C")
_CHECK = Argument("--check", action="store_true", help="print one line, for monitoring")


@COMMANDS.local_command("status", OneOf(JSON, _WATCH, _CHECK))
def _status(options: argparse.Namespace) -> int:
    """Show how the service is, and all meshes.

    The table has the beginning of the mesh's id, its title, its state, how long its bot has been connected, the users
    when discovery last looked, the memory of its unit, how often its process was restarted by itself, and the reason
    why it is not connected. Users and memory are "-" where no bot runs. At a terminal the table is as wide as the
    terminal, and coloured unless NO_COLOR is set. A terminal of less than 110 columns has no column for the reasons:
    each stands below its mesh.

    A mesh is connected, disconnected, starting, stopping, restarting, unhealthy (its process does not answer),
    failed (its process has ended, and the service is about to decide what follows), blocked (on the blocklist), held
    (stopped by an operator) or stopped (it is not to run, or waits for its start). A mesh that the bot has left
    because it was alone there is stopped, with that reason: the bot comes back when there is company. Of the blocked
    meshes that discovery does not list any more, the latest 200 are shown. `ravectl blocklist list` has all.

    With --watch the table has the screen for itself, and is drawn again whenever something changes. When there is no
    room for all meshes, the arrow keys, PgUp, PgDn, Home and End scroll. q or Ctrl-C quits, and brings back what was
    on the terminal before.

    When the service does not run, ravectl says why, and asks systemd which bots run on.

    Examples:
        ravectl status
        ravectl status --watch
    """
    if options.check:
        found = _judge()
        output.print_line(found.line())
        return found.level
    try:
        with connected() as running:
            _show_status(running, options)
    except RaveError as e:
        if options.json or not _is_absence(e):
            raise
        _show_absence(e)
        return exit_status.of(e)
    return Exit.OK


def _is_absence(error: RaveError) -> bool:
    return "configuration" in error.attributes


def _judge() -> verdict.HealthVerdict:
    """The service as a monitoring plug-in sees it; does not fail."""
    try:
        with connected(call_timeout_s=_CHECK_CALL_TIMEOUT_S) as running:
            facts = running.run(_facts(running))
        return verdict.judge(facts.status, facts.meshes, facts.now)
    except RaveError as e:
        if _is_absence(e):
            why = [e.message, *map(str, absence.mistakes(e)[:1])]
            return verdict.absent(": ".join(why), len(running_bots()))
        return verdict.hung(str(e)) if e.code is Code.TIMEOUT else verdict.unknown(str(e))


def _show_absence(error: RaveError) -> None:
    """Why the service does not run, and which bots run on."""
    absence.print_error(error)
    if bots := running_bots():
        output.print_line(f"Running on without it: {count(len(bots), 'bot')}")
        output.print_table(["MESH", "UNIT", "STATUS"], [[*bot] for bot in bots])


def _show_status(service: Service, options: argparse.Namespace) -> None:
    if options.json:
        output.print_json(_document(service))
    elif options.watch:
        _watch(service)
    else:
        _draw(service.run(_facts(service)))


async def _facts(service: Service) -> StatusFacts:
    (status,) = await service.ask("GetStatus")
    (found,) = await service.ask("DescribeMeshes")
    return StatusFacts(status, [MeshRow(*each) for each in found], memory.used(), time.time())


def _draw(facts: StatusFacts) -> None:
    coloured = output.has_colours()
    for line in _view(facts).lines():
        output.print_row(line, status_view.colours(line) if coloured else {})
    sys.stdout.flush()


def _view(facts: StatusFacts) -> StatusView:
    if not sys.stdout.isatty():
        return status_view.for_file(facts)
    # Imported here because it imports modules for all kinds of compression, and only a terminal needs it.
    import shutil

    return status_view.for_terminal(facts, shutil.get_terminal_size().columns)


def _watch(service: Service) -> None:
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        raise RaveError(Code.INVALID_ARGUMENT, "--watch is for a terminal", hint="--json is for programs")
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.watch_run import WatchRun

    service.run(WatchRun(service, lambda: _facts(service)).run())


def _document(service: Service) -> dict[str, Any]:
    facts = service.run(_facts(service))
    return {
        "service": facts.status,
        "meshes": [{name: key.value(mesh, facts.memory) for name, key in MESH_KEYS.items()} for mesh in facts.meshes],
    }


@COMMANDS.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> None:
    """List the meshes: id, state and title.

    These are the meshes that `ravectl status` shows, with their full ids.

    Example:
        ravectl list
    """
    (found,) = service.call("ListMeshes")
    if not found:
        output.print_line("There are no meshes.")
    for mesh, title, state, _path in found:
        output.print_line(f"{mesh}  {state:<12}  {title}".rstrip())


@COMMANDS.service_command("show", MESH, JSON)
def _show(service: Service, options: argparse.Namespace) -> None:
    """Show all that is known of a mesh.

    It shows the mesh, its bot and its process, and then what `ravectl explain` says. A mesh is healthy when its
    process answers; one without a process is neither healthy nor unhealthy. With --json it shows the properties
    alone, under their names on the bus.

    Example:
        ravectl show 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh).id
    explained, facts = service.call("Explain", "s", mesh)
    labels = mesh_facts.PROPERTY_LABELS
    try:
        properties = service.properties(names.mesh_path(mesh), names.MESH_INTERFACE)
    except RaveError as e:
        if not str(e.attributes.get("error_name")).endswith(".UnknownObject"):
            raise
        # It is only blocked. There may be thousands of these, so they have no object.
        properties, labels = dict(facts), mesh_facts.BLOCK_LABELS
    if options.json:
        output.print_json(properties)
        return
    for label, words in mesh_facts.words({"Id": mesh, **properties}, labels):
        output.print_line(f"{label + ':':<19} {words}")
    output.print_line("")
    for line in explained:
        output.print_line(line)
