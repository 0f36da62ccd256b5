"""ravectl admin: the users who may control the bots from the chat."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl.arguments import MESH_HELP, USER, number, span, word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, CommandGroup
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.operations import undo
from ravesvc.ctl.ui import output

COMMANDS = CommandGroup(
    "admin",
    """See and change who rules the bots from the chat.

    An admin may use the admin commands in the chat of every mesh. An admin whom an operator has added, on the host or
    with a code, is an owner: other admins can't remove an owner from a room.
    """,
)

_NUMBERS = Argument("numbers", nargs="*", type=number, metavar="NUMBER", help="of a change, as it is listed")
_FROM_MESH = Argument("--mesh", type=word, metavar="MESH", help=f"all changes from a mesh: {MESH_HELP}")
_SINCE = Argument("--since", type=span, metavar="TIME", help="all changes of the last 10min, 1h, ...")


@COMMANDS.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> None:
    """List the admins: user id, who has added them, and when.

    Example:
        ravectl admin list
    """
    (admins,) = service.call("ListAdmins", interface=names.PERMISSIONS_INTERFACE)
    if not admins:
        output.print_line("There are no admins.")
        return
    dates = output.date_column([added_at for *_others, added_at in admins])
    rows = [
        # The service names owners themselves as those who have added them, and 0 where that user was forgotten.
        [str(user), "operator" if added_by == user else str(added_by or "-"), date]
        for (user, added_by, _), date in zip(admins, dates, strict=True)
    ]
    output.print_table(["USER", "ADDED BY", "SINCE"], rows)


@COMMANDS.service_command("claim")
def _claim(service: Service, _: argparse.Namespace) -> None:
    """Show a code that makes the user who writes it in a room an admin.

    This is how you make the first admin. The code works once, within ten minutes, in any room; upper and lower case
    are the same. A newer code, a restart of the service and five wrong codes, from all rooms together, void it. Keep
    the code to yourself: a user who reads it before it is used can use it. While the service can't save changes there
    is no code.

    Example:
        ravectl admin claim
    """
    command, seconds = service.call("IssueClaim", interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"Within {count(seconds // 60, 'minute')}, write this in a room where the bot is:")
    output.print_line("")
    output.print_line(f"    {command}")
    output.print_line("")
    output.print_line("The user who writes it first is an admin in all rooms from then on. It works once.")


@COMMANDS.service_command("add", USER)
def _add(service: Service, options: argparse.Namespace) -> None:
    """Make a user an admin in all meshes.

    The user becomes an owner too, even a user who is an admin already. `?whoami` in a room tells users their ids,
    `ravectl users` tells you the ids of all users in a room.

    Example:
        ravectl admin add 100000001
    """
    (added,) = service.call("AddAdmin", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is an admin {'now' if added else 'already'}.")


@COMMANDS.service_command("remove", USER)
def _remove(service: Service, options: argparse.Namespace) -> None:
    """Make a user an ordinary user again.

    The service keeps the last admin.

    Example:
        ravectl admin remove 100000001
    """
    (removed,) = service.call("RemoveAdmin", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is {'no longer an' if removed else 'no'} admin.")


@COMMANDS.service_command("undo", _NUMBERS, _FROM_MESH, _SINCE)
def _undo(service: Service, options: argparse.Namespace) -> Exit:
    """List what users have changed from rooms, or undo it.

    Without arguments it lists the latest thousand changes that hold in all rooms. With numbers it undoes these
    changes. With --mesh it undoes all changes from one mesh, with --since all changes of the last TIME, and with both
    those that fit both. The last change is undone first. Each entry is then as it was before, with the admin who had
    made it and the date. An entry that was changed again since is not undone but named, and the exit status is 1.

    Keep the room from changing more before you undo: block the mesh, or remove the admin.

    Examples:
        ravectl admin undo
        ravectl admin undo 17 18
        ravectl admin undo --mesh 1c2d3e4f --since 1h
    """
    return undo.undo(service, options)
