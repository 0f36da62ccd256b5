"""Feed mutated inputs to everything that reads what others wrote: `python -m tests.fuzz --help`, docs/tests.md."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import runner


def main() -> int:
    """Run what the command line asks for; the exit status is 1 if an input has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the borders of ravesvc.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(runner.names())}; all if none")
    parser.add_argument("--seconds", type=float, default=60, help="how long each target runs (default: 60)")
    parser.add_argument("--seed", type=int, help="makes the same inputs again in the same order")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check this one input of the one target")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(runner.names()):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    # What is tested warns of what it can't use, thousands of times.
    logging.disable()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    if options.replay:
        if len(options.targets) != 1:
            parser.error("--replay takes one target")
        return _print(runner.replay(options.targets[0], options.replay))
    if len(options.targets) == 1:
        return _print(runner.fuzz(options.targets[0], options.seconds, seed))
    return _run_all(options.targets or runner.names(), options.seconds, seed)


def _print(report: runner.Report) -> int:
    print(report.text, flush=True)
    return 1 if report.failed else 0


def _run_all(names: list[str], seconds: float, seed: int) -> int:
    """Run each target in a process of its own: the bound of memory is one of a whole process."""

    def run(name: str) -> int:
        words = ["-m", "tests.fuzz", name, "--seconds", str(seconds), "--seed", str(seed)]
        return subprocess.run([sys.executable, *words], check=False).returncode

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return max(map(abs, pool.map(run, names)))


sys.exit(main())
