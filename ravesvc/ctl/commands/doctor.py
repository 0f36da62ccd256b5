"""ravectl doctor: checks of this machine, from its clock to the bots' sandbox."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ravesvc import names
from ravesvc.ctl.arguments import JSON
from ravesvc.ctl.command import Commands
from ravesvc.ctl.operations.verdict import Level
from ravesvc.ctl.ui import output

if TYPE_CHECKING:
    from ravesvc.doctor.finding import Finding


COMMANDS = Commands()


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


@COMMANDS.local_command("doctor", JSON)
def _doctor(options: argparse.Namespace) -> int:
    """Check what `ravectl config check` can't see: clock, network, memory, the bots' sandbox.

    It prints one line for each check: `held`, `not held` or `unknown`, why, and what to do. The last line counts them
    and names what keeps all bots from running. It checks the name of Rave's server and the way to it over IPv4 and
    IPv6 (or to the proxy, if rave.yaml(5) or the service's unit names one), the server's certificate, the clock, the
    connections that the message bus allows, the memory for max_processes, and whether the kernel enforces the limits
    of units and has Landlock and BPF. It sends one request without any secret to Rave's server, and changes nothing.

    Run by root, it also starts a hostile bot in the sandbox, as rave-mesh@doctor.service with all settings and
    drop-ins of a real one. The hostile bot tries one way out after another, and there is a line for each: whether the
    sandbox stopped it, and if not, the likely cause. It attacks only rave-mesh@doctor-sibling.service, a process that
    waits; an attempt that succeeds does no harm.

    The exit status is 2 if no bot can run, 1 if something else is not held, 3 if a check could not be made, else 0.

    Example:
        sudo ravectl doctor
    """
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
