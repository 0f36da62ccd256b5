"""ravectl doctor: checks of this machine, from its clock to the bots' sandbox."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ravesvc import names
from ravesvc.ctl.arguments import Commands
from ravesvc.ctl.operations.verdict import Level
from ravesvc.ctl.ui import output

if TYPE_CHECKING:
    from ravesvc.doctor.finding import Finding


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    what = "check what config check can't see: clock, network, memory, the bots' sandbox"
    parser = commands.add_parser("doctor", help=what)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run_alone=_run)


def level(findings: Sequence[Finding]) -> Level:
    """The exit status: CRITICAL if no bot can run, else the worst finding, UNKNOWN before OK."""
    from ravesvc.doctor.finding import FindingState

    states = {finding.state for finding in findings}
    if any(finding.fatal for finding in findings):
        return Level.CRITICAL
    if FindingState.NOT_HELD in states:
        return Level.WARNING
    return Level.UNKNOWN if FindingState.UNKNOWN in states else Level.OK


def lines(sections: Mapping[str, Sequence[Finding]]) -> list[str]:
    """A line for each finding under the title of its section, one below it for the hint, and a summary.

    A hint that several findings have stands below the first of them.
    """
    findings = [finding for section in sections.values() for finding in section]
    width = max((len(finding.name) for finding in findings), default=0)
    found, said = [], {""}
    for title, section in sections.items():
        found.append(title)
        for finding in section:
            found.append(f"  {finding.state:<8}  {finding.name:<{width}}  {finding.why}")
            if finding.hint not in said:
                said.add(finding.hint)
                found.append(f"  {'':8}  {'':{width}}  hint: {finding.hint}")
        found.append("")
    return [*found, summary(findings)]


def summary(findings: Sequence[Finding]) -> str:
    """How many findings there are of each state, and what keeps all bots from running."""
    from ravesvc.doctor.finding import FindingState

    states = Counter(finding.state for finding in findings)
    counts = ", ".join(f"{states[state]} {state}" for state in FindingState if states[state])
    fatal = [finding.name for finding in findings if finding.fatal]
    return f"{counts}." + (f" No bot can run until this holds: {', '.join(fatal)}." if fatal else "")


def _run(options: argparse.Namespace) -> int:
    # Imported here because no other command needs it, and it takes its time.
    from ravesvc.doctor import machine, sandbox

    sections = {
        "This machine": machine.examine(names.CONFIG_FILE),
        "The bots' sandbox, as a hostile bot finds it": sandbox.attack(),
    }
    findings = [finding for section in sections.values() for finding in section]
    verdict = level(findings)
    if options.json:
        output.print_json({"level": verdict.name, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for line in lines(sections):
            output.print_line(line)
    return verdict
