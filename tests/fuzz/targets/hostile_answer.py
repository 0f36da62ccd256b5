"""What the bot writes that ravectl doctor has attack the sandbox, and the configuration files of the bus."""

from __future__ import annotations

from ravesvc.doctor import checks, sandbox
from ravesvc.hostile.probes import PROBES


def check(data: bytes) -> None:
    """There is a finding for each probe, and what is no refusal does not count as held."""
    assert checks.bus_limit([data.decode(errors="replace")]) >= 0
    answer, gaps = sandbox.parse_result(data)
    findings = sandbox.evaluate(answer, sandbox.Surroundings(gaps=gaps))
    assert [finding.name for finding in findings] == list(PROBES)
    for finding in findings:
        assert len(finding.why) < 2000
        assert (finding.state == "held") == (finding.name in answer and answer[finding.name] is None)
