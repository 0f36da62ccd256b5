"""ravectl login and logout: log the bots' account in and show the progress, or remove the account."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from ravesvc import names
from ravesvc.ctl import arguments
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.client import Service
from ravesvc.ctl.exit_status import Exit
from ravesvc.ctl.ui import output
from ravesvc.ctl.ui.progress import display
from ravesvc.errors import Code, RaveError


def add(commands: Commands) -> None:
    """Add the commands to a command line."""
    parser = commands.add_parser("login", help="log the bots' account in, by a link in a mail")
    what = "the account's address, which other users can see (else asked for at a terminal, or the one that is known)"
    parser.add_argument("email", nargs="?", type=arguments.word, metavar="EMAIL", help=what)
    parser.set_defaults(run=_login)

    leaving = commands.add_parser("logout", help="forget the bots' account, and stop all bots")
    leaving.add_argument("--yes", action="store_true", help="don't ask")
    leaving.set_defaults(run=_logout)


def _login(service: Service, options: argparse.Namespace) -> Exit:
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


def _logout(service: Service, options: argparse.Namespace) -> Exit:
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
