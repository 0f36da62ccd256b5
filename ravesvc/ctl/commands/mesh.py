"""ravectl start, stop, restart, reconnect, debug, users and explain: one mesh."""

from __future__ import annotations

import argparse

from ravesvc.ctl.arguments import MESH
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.operations.mesh_lookup import MeshRow
from ravesvc.ctl.ui import output

COMMANDS = Commands()

# The states of a mesh whose process has been started before.
_RUNNING = ("connected", "disconnected", "unhealthy")

_ON_OR_OFF = Argument("debug", choices=("on", "off"), help="log everything, or no more than usual")


@COMMANDS.service_command("start", MESH)
def _start(service: Service, options: argparse.Namespace) -> None:
    """Start a mesh that is held, or blocked for a time.

    After a kick, or when an operator has blocked the mesh, run `ravectl blocklist remove` instead.

    Example:
        ravectl start 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh)
    service.call("StartMesh", "s", mesh.id)
    state, _reason = _sight(service, mesh.id)
    runs = state in _RUNNING
    output.print_line(f"Mesh {mesh} {f'runs already, and is {state}' if runs else 'is being started'}.")


@COMMANDS.service_command("stop", MESH)
def _stop(service: Service, options: argparse.Namespace) -> None:
    """Stop a mesh, and hold it.

    The mesh stays stopped until an operator starts it. After a kick, or when an operator has blocked the mesh, it
    does not run, and stays blocked as it was.

    Example:
        ravectl stop 1c2d3e4f
    """
    mesh = mesh_lookup.find(service, options.mesh)
    service.call("StopMesh", "s", mesh.id)
    output.print_line(f"Mesh {mesh} {_after_stop(*_sight(service, mesh.id))}.")


@COMMANDS.service_command("restart", MESH)
def _restart(service: Service, options: argparse.Namespace) -> None:
    """Replace the process of a running mesh.

    A mesh that does not run is not started.

    Example:
        ravectl restart 1c2d3e4f
    """
    _call(service, options, "RestartMesh", "has a new process")


@COMMANDS.service_command("reconnect", MESH)
def _reconnect(service: Service, options: argparse.Namespace) -> None:
    """Have the bot of a mesh close its connection and open another.

    Example:
        ravectl reconnect 1c2d3e4f
    """
    _call(service, options, "ReconnectMesh", "is reconnecting")


def _sight(service: Service, mesh: str) -> tuple[str, str]:
    """State and reason of a mesh now; empty when the service does not know it any more."""
    (described,) = service.call("DescribeMeshes")
    rows = (MeshRow(*each) for each in described)
    return next(((row.state, row.reason) for row in rows if row.id == mesh), ("", ""))


def _after_stop(state: str, reason: str) -> str:
    """What is true of a mesh that was to be stopped, as it follows the mesh in a sentence."""
    if state == "blocked":
        return f"does not run, and stays blocked, because {reason}. It is not held in addition"
    if state == "held":
        return "does not run, and is held until it is started"
    return "is being stopped, and held until it is started"


def _call(service: Service, options: argparse.Namespace, member: str, done: str) -> None:
    mesh = mesh_lookup.find(service, options.mesh)
    service.call(member, "s", mesh.id)
    output.print_line(f"Mesh {mesh} {done}.")


@COMMANDS.service_command("debug", MESH, _ON_OR_OFF)
def _debug(service: Service, options: argparse.Namespace) -> None:
    """Turn debug logging of a running bot on or off.

    The next process of the mesh starts as rave.yaml(5) says. `ravectl show` tells whether debug logging is on, and
    rave-mesh(8) how many lines the journal takes.

    Example:
        ravectl debug 1c2d3e4f on
    """
    mesh = mesh_lookup.find(service, options.mesh)
    debug = options.debug == "on"
    service.call("SetDebug", "sb", mesh.id, debug)
    output.print_line(f"Mesh {mesh} logs {'everything, until its next start' if debug else 'no more than usual'}.")


@COMMANDS.service_command("users", MESH)
def _users(service: Service, options: argparse.Namespace) -> None:
    """List who is in a mesh now: user id, display name, and who is an admin.

    It shows what the bot of the mesh sees, at most 200 users.

    Example:
        ravectl users 1c2d3e4f
    """
    users, total = service.call("ListUsers", "s", mesh_lookup.find(service, options.mesh).id)
    if not users:
        output.print_line("The bot sees no users there.")
        return
    output.print_table(
        ["USER", "NAME", "ADMIN"], [[str(user), name, "admin" if admin else "-"] for user, name, admin in users]
    )
    if total > len(users):
        output.print_line(f"and {total - len(users)} more")


@COMMANDS.service_command("explain", MESH)
def _explain(service: Service, options: argparse.Namespace) -> None:
    """Explain why a mesh runs or does not run.

    It says what discovery, blocklist and systemd know of the mesh, how its last process has ended, and what happens
    next.

    Examples:
        ravectl explain 1c2d3e4f
        ravectl explain "film night"
    """
    lines, _ = service.call("Explain", "s", mesh_lookup.find(service, options.mesh).id)
    for line in lines:
        output.print_line(line)
