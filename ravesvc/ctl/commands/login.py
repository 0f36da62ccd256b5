"""ravectl login and logout: log the bots' account in and show the progress, or remove the account."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from ravesvc import names
from ravesvc.ctl.arguments import YES, word
from ravesvc.ctl.client import Service
from ravesvc.ctl.command import Argument, Commands
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.progress import display
from ravesvc.errors import Code, RaveError

COMMANDS = Commands()

_EMAIL = Argument(
    "email",
    nargs="?",
    type=word,
    metavar="EMAIL",
    help="the account's address, which other users can see in ps(1); better leave it out",
)


@COMMANDS.service_command("login", _EMAIL)
def _login(service: Service, options: argparse.Namespace) -> Exit:
    """Log the bots' account in, by a link in a mail.

    Rave sends a mail to EMAIL. Follow the link in the mail within ten minutes to finish the login. Without EMAIL,
    ravectl asks for the address at a terminal. Anywhere else, or if you type nothing, it takes the address of the
    last login. An address on the command line can be seen by other users of the machine, in ps(1), until the login is
    over.

    ravectl shows each step until the login is over. Ctrl-C cancels it, as do SIGTERM and SIGHUP. Only one login runs
    at a time, and Rave sends at most one mail a minute.

    Example:
        ravectl login
    """
    (status,) = service.call("GetStatus")
    _require_identity(status)
    email = options.email
    if email is None and sys.stdin.isatty():
        known = " (empty: the one that is known)" if status.get("HasAccount") else ""
        email = output.ask(f"E-mail address of the account{known}:")
    # Imported here because no other command needs it.
    from ravesvc.ctl.operations.login_run import SignIn

    return service.run(SignIn(service, display()).run(email or ""))


def _require_identity(status: Mapping[str, Any]) -> None:
    """Raise `RaveError` (Config) with all settings that a login lacks, before it asks any question."""
    if missing := status.get("IdentityMissing", []):
        text = f"a login needs all of client_identity that is not set yet: {'; '.join(missing)}"
        hint = f"set it in {names.CONFIG_FILE}, and: systemctl restart rave-orchestrator"
        raise RaveError(Code.CONFIG, text, hint=hint)


@COMMANDS.service_command("logout", YES)
def _logout(service: Service, options: argparse.Namespace) -> Exit:
    """Forget the bots' account, and stop all bots.

    The store forgets the account and keeps admins and permissions. The service renames credentials.json, with
    `.replaced-` and the time at its end; that file still holds the tokens. Rave is not told, so the tokens stay
    valid. A login that is under way is cancelled.

    ravectl asks first. Without a terminal it needs --yes.

    Example:
        ravectl logout
    """
    if not options.yes:
        if not sys.stdin.isatty():
            raise RaveError(
                Code.INVALID_ARGUMENT,
                "every bot would be stopped, and a login be needed",
                hint="with --yes that is done; ravectl store export saves the account before",
            )
        if not output.confirm("Forget the account, and stop every bot?"):
            output.print_line("Nothing is changed.")
            return Exit.FAILED
    (removed,) = service.call("Logout", interface=names.ACCOUNT_INTERFACE)
    output.print_line("Logged out." if removed else "There was no account.")
    return Exit.OK
