"""The command `rave-simulator`: it sets a simulator up, serves it, and controls a running one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ravesvc.common import extras
from ravesvc.errors import Code, RaveError
from ravesvc.simulator import cli_commands
from ravesvc.simulator.client import SERVICE_SOCKET, Control

# That of rave-simulator.service.
STATE_DIRECTORY = Path("/var/lib/rave-simulator")
LISTEN = "127.0.0.1:8443"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure in words, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        with extras.explain_missing():
            return options.run(options) or 0
    except RaveError as e:
        sys.stderr.write(f"rave-simulator: {e}\n")
        return 1
    except (BrokenPipeError, KeyboardInterrupt):
        return 1


# Setting up and serving. These import inside the functions, because the other verbs must start fast.


def _serve(options: argparse.Namespace) -> int:
    import asyncio
    import logging

    from ravesvc.simulator.server import serve
    from ravesvc.simulator.state_dir import StateDir

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    host, port = _address(options.listen)
    asyncio.run(serve(StateDir(options.state_dir), host=host, port=port, control=options.control))
    return 0


def _init(options: argparse.Namespace) -> int:
    from ravesvc.simulator.state_dir import StateDir

    state_dir = StateDir(options.state_dir)
    state_dir.become_owner()
    state_dir.init()
    return 0


def _config(options: argparse.Namespace) -> int:
    from ravesvc.simulator.state_dir import StateDir

    state_dir = StateDir(options.state_dir)
    server = f"localhost:{_address(options.listen)[1]}"
    interval = options.discovery_interval
    sys.stdout.write(
        state_dir.account().config(server=server, ca_file=str(state_dir.ca_file), discovery_interval=interval)
    )
    return 0


def _credentials(options: argparse.Namespace) -> int:
    from ravesvc.simulator.state_dir import StateDir

    sys.stdout.write(StateDir(options.state_dir).account().credentials())
    return 0


def _youtube_key(_: argparse.Namespace) -> int:
    from ravesvc.simulator.account import YOUTUBE_KEY

    sys.stdout.write(f"{YOUTUBE_KEY}\n")
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise RaveError(Code.INVALID_ARGUMENT, f"{text!r} is no address", hint=f"ADDRESS:PORT, such as {LISTEN}")
    return host.strip("[]"), int(port)


# The command line.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rave-simulator", description="A Rave that runs on this machine.")
    state, control = _default_paths()
    parser.add_argument("--control", type=Path, default=control, help="the control socket (%(default)s)")
    parser.add_argument("--state-dir", type=Path, default=state, help="the state directory (%(default)s)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_setup(commands)
    cli_commands.Parsers(commands, lambda options: Control(options.control)).add_all()
    return parser


def _default_paths() -> tuple[Path, Path]:
    """The paths of state directory and control socket: the service's for root or while it runs, else the user's."""
    if os.geteuid() == 0 or _belongs_to_service(SERVICE_SOCKET.parent):
        return STATE_DIRECTORY, SERVICE_SOCKET
    # The XDG base directory specification has relative paths ignored.
    named = os.environ.get("XDG_STATE_HOME", "")
    state = (Path(named) if named.startswith("/") else Path.home() / ".local/state") / "rave-simulator"
    return state, state / "control.sock"


def _belongs_to_service(directory: Path) -> bool:
    """Whether systemd has made the directory for the user of the service. One that root has made belongs to root."""
    try:
        return directory.stat().st_uid != 0
    except OSError:
        return False


def _add_setup(commands: cli_commands.Commands) -> None:
    serve = commands.add_parser("serve", help="run the simulator until SIGTERM")
    serve.add_argument("--listen", default=LISTEN, metavar="ADDRESS:PORT", help="port 0: any (%(default)s)")
    serve.set_defaults(run=_serve)

    init = commands.add_parser("init", help="make certificates and the bot's account, if missing")
    init.set_defaults(run=_init)

    config = commands.add_parser("config", help="print a rave.yaml that points to this simulator")
    config.add_argument("--listen", default=LISTEN, metavar="ADDRESS:PORT", help="where it listens (%(default)s)")
    config.add_argument("--discovery-interval", default="5s", metavar="DURATION", help="(%(default)s)")
    config.set_defaults(run=_config)

    credentials = commands.add_parser("credentials", help="print the bot's credentials.json")
    credentials.set_defaults(run=_credentials)

    key = commands.add_parser("youtube-key", help="print the key of the simulated YouTube")
    key.set_defaults(run=_youtube_key)
