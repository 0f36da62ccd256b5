from __future__ import annotations

import pytest

from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.names import FINAL_STATUSES, ExitStatus


@pytest.mark.parametrize(
    ("phase", "runs", "present"),
    [
        (RunPhase.ABSENT, False, False),
        (RunPhase.STARTING, True, True),
        (RunPhase.RUNNING, True, True),
        (RunPhase.WAITING, True, True),
        (RunPhase.STOPPING, False, True),
        (RunPhase.ENDED, False, False),
    ],
)
def test_what_counts_as_running_and_what_takes_a_place(phase: RunPhase, *, runs: bool, present: bool) -> None:
    run = RunState(phase=phase)
    assert (run.runs, run.present) == (runs, present)


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_what_an_operator_has_to_mend(status: ExitStatus) -> None:
    end = RunEnd(status=status)
    assert end.misconfigured == (status in (ExitStatus.CONFIG, ExitStatus.NO_SETTINGS))
    assert end.needs_person == (end.misconfigured or status is ExitStatus.ELSEWHERE)
    assert not RunEnd().needs_person
