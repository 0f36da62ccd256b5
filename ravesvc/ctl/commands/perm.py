"""ravectl perm: which commands are for all users, and which for admins."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.ui import output

_WHOM = {True: "admin", False: "user"}


def add(commands: Commands) -> None:
    """Add the group to a command line."""
    group = arguments.group(commands, "perm", "see and change whom commands are for")
    group.add_parser("list", help="list the commands for which something is set").set_defaults(run=_list)
    for name, run, description in (
        ("set", _set, "say whom a command is for, in all meshes"),
        ("unset", _unset, "reset a command to its default permission"),
    ):
        parser = group.add_parser(name, help=description)
        parser.add_argument("command", type=arguments.word, metavar="COMMAND", help="its name, without the prefix")
        parser.set_defaults(run=run)
        if run is _set:
            parser.add_argument("whom", choices=list(_WHOM.values()), help="admins only, or all users")


def _list(service: Service, _: argparse.Namespace) -> None:
    (permissions,) = service.call("ListPermissions", interface=names.PERMISSIONS_INTERFACE)
    if not permissions:
        output.print_line("Nothing is set: every command has its default permission.")
        return
    rows = [
        [command, _WHOM[requires_admin], output.date(updated_at), description]
        for command, requires_admin, description, updated_at in permissions
    ]
    output.print_table(["COMMAND", "FOR", "SINCE", "DESCRIPTION"], rows)


def _set(service: Service, options: argparse.Namespace) -> None:
    requires_admin = options.whom == _WHOM[True]
    service.call("SetPermission", "sb", options.command, requires_admin, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"The command {options.command} is for {'admins only' if requires_admin else 'all users'} now.")


def _unset(service: Service, options: argparse.Namespace) -> None:
    (removed,) = service.call("RemovePermission", "s", options.command, interface=names.PERMISSIONS_INTERFACE)
    if removed:
        output.print_line(f"The command {options.command} has its default permission now.")
    else:
        output.print_line(f"Nothing was set for the command {options.command}.")
