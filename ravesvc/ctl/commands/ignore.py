"""ravectl ignore: the users whom every bot ignores."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.ui import output


def add(commands: Commands) -> None:
    """Add the group to a command line."""
    group = arguments.group(commands, "ignore", "see and change whom no bot listens to")
    group.add_parser("list", help="list the ignored users").set_defaults(run=_list)
    arguments.user_command(group, "add", _add, "have no bot listen to a user")
    arguments.user_command(group, "remove", _remove, "have bots listen to a user again")


def _list(service: Service, _: argparse.Namespace) -> None:
    (users,) = service.call("ListIgnoredUsers", interface=names.PERMISSIONS_INTERFACE)
    if not users:
        output.print_line("No user is ignored, unless the option ignored_users in rave.yaml names some.")
        return
    rows = [[str(user), str(by) if by else "operator", output.date(at)] for user, by, at in users]
    output.print_table(["USER", "ADDED BY", "SINCE"], rows)


def _add(service: Service, options: argparse.Namespace) -> None:
    (ignored,) = service.call("IgnoreUser", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is ignored {'now' if ignored else 'already'}.")


def _remove(service: Service, options: argparse.Namespace) -> None:
    (removed,) = service.call("UnignoreUser", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is {'no longer' if removed else 'not'} on the list of ignored users.")
