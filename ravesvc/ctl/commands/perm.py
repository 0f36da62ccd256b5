"""ravectl perm: which commands are for all users, and which for admins."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.ctl.arguments import word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, CommandGroup
from ravesvc.ctl.ui import output

_WHOM = {True: "admin", False: "user"}


COMMANDS = CommandGroup("perm", "See and change who may use the commands of the chat.")

_COMMAND = Argument("command", type=word, metavar="COMMAND", help="its name, without the prefix")
_WHO = Argument("whom", choices=list(_WHOM.values()), help="admin: admins only; user: all users")


@COMMANDS.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> None:
    """List the commands that do not have their default permission.

    Example:
        ravectl perm list
    """
    (permissions,) = service.call("ListPermissions", interface=names.PERMISSIONS_INTERFACE)
    if not permissions:
        output.print_line("Nothing is set: every command has its default permission.")
        return
    dates = output.date_column([updated_at for *_others, updated_at in permissions])
    rows = [
        [command, _WHOM[requires_admin], date, description]
        for (command, requires_admin, description, _), date in zip(permissions, dates, strict=True)
    ]
    output.print_table(["COMMAND", "FOR", "SINCE", "DESCRIPTION"], rows)


@COMMANDS.service_command("set", _COMMAND, _WHO)
def _set(service: Service, options: argparse.Namespace) -> None:
    """Allow a command to admins only, or to all users, in all meshes.

    Example:
        ravectl perm set ping admin
    """
    requires_admin = options.whom == _WHOM[True]
    service.call("SetPermission", "sb", options.command, requires_admin, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"The command {options.command} is for {'admins only' if requires_admin else 'all users'} now.")


@COMMANDS.service_command("unset", _COMMAND)
def _unset(service: Service, options: argparse.Namespace) -> None:
    """Reset a command to its default permission.

    Example:
        ravectl perm unset ping
    """
    (removed,) = service.call("RemovePermission", "s", options.command, interface=names.PERMISSIONS_INTERFACE)
    if removed:
        output.print_line(f"The command {options.command} has its default permission now.")
    else:
        output.print_line(f"Nothing was set for the command {options.command}.")
