"""ravectl start, stop, restart, reconnect, debug, users and explain: one mesh."""

from __future__ import annotations

import argparse

from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.operations import mesh_lookup
from ravesvc.ctl.ui import output

_VERBS = {
    "start": ("StartMesh", "let a mesh run that is held, or blocked for a time", "is being started"),
    "stop": ("StopMesh", "stop a mesh, and hold it", "is being stopped, and held until it is started"),
    "restart": ("RestartMesh", "give a mesh another process", "has another process"),
    "reconnect": ("ReconnectMesh", "let a mesh's process connect anew", "is connecting anew"),
}


def add(commands: Commands) -> None:
    """Add the commands to a command line."""
    for name, (_, description, _) in _VERBS.items():
        parser = commands.add_parser(name, help=description)
        parser.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
        parser.set_defaults(run=_run_verb, verb=name)

    debugging = commands.add_parser("debug", help="let a mesh log all there is, until its next start")
    debugging.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    debugging.add_argument("debug", choices=("on", "off"), help="all there is, or no more than usual")
    debugging.set_defaults(run=_debug)

    users = commands.add_parser("users", help="list who is in a mesh now, with their user ids")
    users.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    users.set_defaults(run=_users)

    explaining = commands.add_parser("explain", help="tell why a mesh runs or does not")
    explaining.add_argument("mesh", type=arguments.word, metavar="MESH", help=arguments.MESH)
    explaining.set_defaults(run=_explain)


def _run_verb(service: Service, options: argparse.Namespace) -> None:
    member, _, done = _VERBS[options.verb]
    mesh = mesh_lookup.find(service, options.mesh)
    service.call(member, "s", mesh)
    output.print_line(f"Mesh {mesh} {done}.")


def _debug(service: Service, options: argparse.Namespace) -> None:
    mesh = mesh_lookup.find(service, options.mesh)
    debug = options.debug == "on"
    service.call("SetDebug", "sb", mesh, debug)
    output.print_line(f"Mesh {mesh} logs {'all there is, until its next start' if debug else 'no more than usual'}.")


def _users(service: Service, options: argparse.Namespace) -> None:
    users, total = service.call("ListUsers", "s", mesh_lookup.find(service, options.mesh))
    if not users:
        output.print_line("The bot sees no users there.")
        return
    output.print_table(
        ["USER", "NAME", "ADMIN"], [[str(user), name, "admin" if admin else "-"] for user, name, admin in users]
    )
    if total > len(users):
        output.print_line(f"and {total - len(users)} more")


def _explain(service: Service, options: argparse.Namespace) -> None:
    lines, _ = service.call("Explain", "s", mesh_lookup.find(service, options.mesh))
    for line in lines:
        output.print_line(line)
