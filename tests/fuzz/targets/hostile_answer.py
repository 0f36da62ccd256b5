"""What the bot writes that ravectl doctor has attack the sandbox, and the configuration files of the bus."""

from __future__ import annotations

from ravesvc import fields
from ravesvc.doctor import checks, sandbox
from ravesvc.hostile.probes import PROBES


def check(data: bytes) -> None:
    """There is a finding for each probe, and what is no refusal does not count as held."""
    assert checks.bus_limit([data.decode(errors="replace")]) >= 0
    answer = fields.parse_object(data, "the hostile bot's answer")
    findings = sandbox.judge(answer, sandbox.Surroundings())
    assert [finding.name for finding in findings] == list(PROBES)
    for finding in findings:
        assert len(finding.why) < 400
        assert (finding.state == "held") == (finding.name in answer and answer[finding.name] is None)
