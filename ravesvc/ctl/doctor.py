"""ravectl doctor: what only this machine can tell, from its clock to what the bots' sandbox holds."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ravesvc import names
from ravesvc.ctl import output
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.verdict import Level

if TYPE_CHECKING:
    from ravesvc.doctor.finding import Finding


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    what = "check what config check can't see: clock, network, memory, the bots' sandbox"
    parser = commands.add_parser("doctor", help=what)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run_alone=_run)


def level(findings: Sequence[Finding]) -> Level:
    """What to exit with: CRITICAL if no bot can run, else the worst that was found, UNKNOWN before OK."""
    from ravesvc.doctor.finding import State

    states = {finding.state for finding in findings}
    if any(finding.fatal for finding in findings):
        return Level.CRITICAL
    if State.NOT_HELD in states:
        return Level.WARNING
    return Level.UNKNOWN if State.UNKNOWN in states else Level.OK


def lines(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding, and one below it for what to do, unless that was said before."""
    width = max((len(finding.name) for finding in findings), default=0)
    found, said = [], {""}
    for finding in findings:
        found.append(f"{finding.state:<8}  {finding.name:<{width}}  {finding.why}")
        if finding.hint not in said:
            said.add(finding.hint)
            found.append(f"{'':8}  {'':{width}}  hint: {finding.hint}")
    return found


def _run(options: argparse.Namespace) -> int:
    # Imported here because no other command needs it, and it takes its time.
    from ravesvc.doctor import machine, sandbox

    findings = machine.examine(names.CONFIG_FILE) + sandbox.attack(machine.landlock())
    verdict = level(findings)
    if options.json:
        output.dump({"level": verdict.name, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for line in lines(findings):
            output.say(line)
    return verdict
