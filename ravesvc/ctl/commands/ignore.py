"""ravectl ignore: the users whom every bot ignores."""

from __future__ import annotations

import argparse

from ravesvc import names
from ravesvc.ctl.arguments import USER
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import CommandGroup
from ravesvc.ctl.ui import output

COMMANDS = CommandGroup(
    "ignore",
    """See and change which users the bots ignore.

    A bot does not listen to an ignored user, in any room. Ignore another bot, for example. The option ignored_users
    in rave.yaml(5) names more users, which these commands neither show nor change.
    """,
)


@COMMANDS.service_command("list")
def _list(service: Service, _: argparse.Namespace) -> None:
    """List the ignored users: user id, who has added them, and when.

    Example:
        ravectl ignore list
    """
    (users,) = service.call("ListIgnoredUsers", interface=names.PERMISSIONS_INTERFACE)
    if not users:
        output.print_line("No user is ignored, unless the option ignored_users in rave.yaml names some.")
        return
    dates = output.date_column([at for _user, _by, at in users])
    rows = [
        [str(user), str(by) if by else "operator", date] for (user, by, _at), date in zip(users, dates, strict=True)
    ]
    output.print_table(["USER", "ADDED BY", "SINCE"], rows)


@COMMANDS.service_command("add", USER)
def _add(service: Service, options: argparse.Namespace) -> None:
    """Have all bots ignore a user.

    An admin can do the same in a room with `?ignore @user`. Admins can't be ignored.

    Example:
        ravectl ignore add 100000002
    """
    (ignored,) = service.call("IgnoreUser", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is ignored {'now' if ignored else 'already'}.")


@COMMANDS.service_command("remove", USER)
def _remove(service: Service, options: argparse.Namespace) -> None:
    """Have the bots listen to a user again.

    An admin can do the same in a room with `?ignore @user remove`.

    Example:
        ravectl ignore remove 100000002
    """
    (removed,) = service.call("UnignoreUser", "t", options.user, interface=names.PERMISSIONS_INTERFACE)
    output.print_line(f"User {options.user} is {'no longer' if removed else 'not'} on the list of ignored users.")
