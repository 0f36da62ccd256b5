"""Run the booted tests of another revision against the packages of this tree: `make test-old`, CONTRIBUTING.md.

Exits with 0 if all of them pass but those that `intended_changes.yaml` lists, and each of these fails; with 1 if not,
and with 2 if they could not be run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "packaging" / "testbed"))

from testbed.build import build, export  # noqa: E402
from testbed.host import BedError  # noqa: E402

TREE = CHECKOUT / "build" / "earlier"
# As `make integration`, but for the long fault runs.
CHOSEN = ("tests/integration", "-m", "not faults", "--dist", "loadfile", "-n", "3", "--all-listed")


def last_release() -> str:
    """The tag of the last release. Raises BedError."""
    command = ["git", "describe", "--tags", "--abbrev=0", "--match=v*"]
    found = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    if found.returncode:
        raise BedError("there is no tag of a release yet: name a revision, such as REV=main")
    return found.stdout.strip()


def run(revision: str, chosen: Sequence[str]) -> int:
    """Run tests of a revision; returns the exit status of pytest. Raises BedError."""
    export(CHECKOUT, revision, TREE)
    build(CHECKOUT)
    # What the tests import is the other tree's, but for the plug-in.
    path = os.pathsep.join([str(TREE), str(Path(__file__).parent)])
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "adapted", "-p", "no:cacheprovider", *chosen]
    return subprocess.run(command, cwd=TREE, env=os.environ | {"PYTHONPATH": path}, check=False).returncode


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.earlier",
        description="Run the booted tests of another revision against the packages of this tree.",
    )
    parser.add_argument("revision", nargs="?", help="one that git knows (default: the last release)")
    parser.add_argument(
        "pytest", nargs=argparse.REMAINDER, help="arguments for pytest, such as a file (default: all such tests)"
    )
    options = parser.parse_args()
    try:
        revision = options.revision or last_release()
        print(f"the tests of {revision}, with packages of this tree", flush=True)
        status = run(revision, options.pytest or CHOSEN)
    except BedError as e:
        print(e, file=sys.stderr)
        return 2
    if status:
        print(f"look into {TREE}/build/logs, and at {Path(__file__).parent}/intended_changes.yaml", file=sys.stderr)
    return min(status, 2)


sys.exit(main())
