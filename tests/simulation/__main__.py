"""Simulate a fleet: `python -m tests.simulation --help`, docs/tests.md."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.simulation.run import simulate


def main() -> int:
    """Run what the command line asks for; the exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate a fleet of bots.")
    parser.add_argument("--seed", type=int, help="gives the same run again; else one is drawn")
    parser.add_argument("--hours", type=float, default=8766.0, help="of the fleet, for each seed (default: a year)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="with N seeds, one after the other")
    options = parser.parse_args()
    hours = seconds = 0.0
    first = secrets.randbits(32) if options.seed is None else options.seed
    for seed in range(first, first + options.runs):
        begun = time.process_time()
        report = simulate(seed, options.hours)
        took = time.process_time() - begun
        hours, seconds = hours + report.hours, seconds + took
        if report.failure:
            print(f"{report.text}\n", flush=True)
            return 1
        print(
            f"seed {seed}: {report.hours:g} hours, {report.events} events, digest {report.digest}, {took:.1f} CPU s",
            flush=True,
        )
    print(f"{60 * hours / seconds:.0f} hours of the fleet in a minute of the processor")
    return 0


sys.exit(main())
