"""The commands of the test bed."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from testbed.build import build
from testbed.host import BedError, require_root, say
from testbed.machine import installed, installed_root
from testbed.root import SUITE, SUITE_VARIABLE, build_root, run_root

_CHECKOUT = Path(__file__).resolve().parents[3]


def main(arguments: list[str]) -> int:
    """Run one command; the exit status is the command's in the machine, 2 if the test bed itself fails."""
    options = _parser().parse_args(arguments)
    if options.suite:
        os.environ[SUITE_VARIABLE] = options.suite
    # Like Ctrl-C: leave through the `with` blocks.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        require_root()
        return int(options.action(options))
    except (BedError, subprocess.SubprocessError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testbed", description="A throw-away Debian 13 to build and try packages in."
    )
    parser.add_argument("--suite", help=f"Debian release of the machines: forky, for one ({SUITE})")
    parser.add_argument("--source", type=Path, default=_CHECKOUT, help="source tree of the packages (this checkout)")
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action, text in (
        ("root", _root, "make the cached root file systems"),
        ("build", _build, "build the packages into build/, with lintian's report"),
        ("installed", _installed, "make the root file system in which these packages are installed"),
        ("shell", _shell, "boot, install the packages, give a root shell; all is gone when it ends"),
        ("run", _run, "boot, install the packages, run a command"),
    ):
        actions.add_parser(name, help=text).set_defaults(action=action)
    actions.choices["run"].add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _root(options: argparse.Namespace) -> int:
    print(run_root().ensure(), build_root(options.source).ensure(), sep="\n")
    return 0


def _build(options: argparse.Namespace) -> int:
    print(*build(options.source), sep="\n")
    return 0


def _installed(options: argparse.Namespace) -> int:
    print(installed_root(build(options.source)).ensure())
    return 0


def _shell(options: argparse.Namespace) -> int:
    _attach(options, ["bash", "--login"])
    return 0  # a shell ends with the status of whatever was typed last


def _run(options: argparse.Namespace) -> int:
    return _attach(options, options.command or ["true"])


def _attach(options: argparse.Namespace, command: list[str]) -> int:
    packages = build(options.source)
    run_root().ensure()
    started = time.monotonic()
    say("booting, and installing " + ", ".join(path.name for path in packages))
    with installed(packages, options.source / "build" / "logs") as machine:
        say(f"ready after {time.monotonic() - started:.1f} s")
        return machine.attach(command)
