"""`ravesvc`, or `python3 -m ravesvc.single`: all bots in one process, from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from ravesvc.common import log_limit
from ravesvc.common.log_limit import LogLimit
from ravesvc.core.admin_claims import VALID_S
from ravesvc.errors import Code, RaveError
from ravesvc.names import ExitStatus
from ravesvc.single.manager import BotManager, default_config, example_config, state_directory
from ravesvc.systemd import logging as log
from ravesvc.version import __version__

_log = logging.getLogger(__name__)

# Failures that only an operator can fix; another start would fail again.
_FOR_A_PERSON = (Code.CONFIG, Code.LOGIN_NEEDED)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Exit status: 0 after Ctrl-C or SIGTERM, 78 for a bad configuration or no account, else 1.

    A wrong command line ends the process with 2.
    """
    options = _parser().parse_args(arguments)
    if options.example_config:
        sys.stdout.write(example_config())
        return int(ExitStatus.STOPPED)
    log.set_up(logging.INFO, "ravesvc", limit=LogLimit(log_limit.by_place, log_limit.PER_PLACE))
    try:
        manager = BotManager.from_config(options.config)
        if manager.settings.debug:
            logging.getLogger().setLevel(logging.DEBUG)
        asyncio.run(_run(manager, options))
    except RaveError as e:
        _log.critical("%s", e)
        return int(ExitStatus.CONFIG if e.code in _FOR_A_PERSON else ExitStatus.CRASHED)
    except KeyboardInterrupt:
        # Ctrl-C came before the bots were started.
        return int(ExitStatus.CRASHED)
    return int(ExitStatus.STOPPED)


async def _run(manager: BotManager, options: argparse.Namespace) -> None:
    if options.login:
        await manager.login(options.login)
    for user in options.admin:
        if await manager.add_admin(user):
            _log.info("User %d is an admin now", user)
    _log.info("The state is in %s; Ctrl-C has all bots leave", manager.settings.state_path.parent)
    await manager.run(lambda: _show_claim(manager))


def _show_claim(manager: BotManager) -> None:
    """Print how to become the first admin; only to a terminal, because the code must not get into a log."""
    code = manager.first_claim() if sys.stdout.isatty() else ""
    if code:
        command = f"{manager.settings.command_prefix[0]}claim {code}"
        sys.stdout.write(f"There is no admin yet: write {command} in a room within {VALID_S // 60} minutes\n")
        sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ravesvc",
        description="Run Rave chat bots for all meshes in this process, without systemd and D-Bus.",
        epilog=f"The state is kept in {state_directory()}, unless rave.yaml says otherwise.",
    )
    parser.add_argument("--config", metavar="FILE", help=f"rave.yaml ({default_config()})")
    parser.add_argument("--login", metavar="EMAIL", help="log in first, by a link in a mail to this address")
    parser.add_argument(
        "--admin", metavar="USER", type=int, action="append", default=[], help="make a user an admin, by id"
    )
    parser.add_argument("--example-config", action="store_true", help="print a rave.yaml to begin with, and end")
    parser.add_argument("--version", action="version", version=f"ravesvc {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
