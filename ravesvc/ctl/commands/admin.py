"""ravectl admin: the users who may control the bots from the chat."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.common.text import count
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.commands import undo
from ravesvc.ctl.ui import output


def add(commands: Commands) -> None:
    """Add the group to a command line."""
    group = arguments.group(commands, "admin", "see and change who rules the bots from the chat")
    group.add_parser("list", help="list the admins").set_defaults(run=_list)
    group.add_parser("claim", help="show a code that makes the user who writes it in a room an admin").set_defaults(
        run=_claim
    )
    arguments.user_command(group, "add", _add, "make a user an admin in all meshes")
    arguments.user_command(group, "remove", _remove, "take that away again")
    undo.add(group)


def _list(service: Service, _: argparse.Namespace) -> None:
    (admins,) = service.call("ListAdmins", interface=names.PERMISSIONS_INTERFACE)
    if not admins:
        output.print_line("There are no admins.")
        return
    rows = [
        # The service names owners themselves as those who have added them, and 0 where that user was forgotten.
        [str(user), "operator" if added_by == user else str(added_by or "-"), output.date(added_at)]
        for user, added_by, added_at in admins
    ]
    output.print_table(["USER", "ADDED BY", "SINCE"], rows)


def _claim(service: Service, _: argparse.Namespace) -> None:
    command, seconds = service.call("IssueClaim", interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"Within {count(seconds // 60, 'minute')}, write this in a room where the bot is:")
    output.print_line("")
    output.print_line(f"    {command}")
    output.print_line("")
    output.print_line("The user who writes it first is an admin in all rooms from then on. It works once.")


def _add(service: Service, options: argparse.Namespace) -> None:
    (added,) = service.call("AddAdmin", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is an admin {'now' if added else 'already'}.")


def _remove(service: Service, options: argparse.Namespace) -> None:
    (removed,) = service.call("RemoveAdmin", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is {'no longer an' if removed else 'no'} admin.")
