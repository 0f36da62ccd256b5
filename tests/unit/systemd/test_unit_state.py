from __future__ import annotations

from typing import Any

import pytest

from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.systemd.unit_state import NO_JOB, UnitState, how_ended

EXITED, KILLED, DUMPED = 1, 2, 3


def failed(code: int, status: int, **properties: int | str) -> UnitState:
    values: dict[str, Any] = {"result": "exit-code", "n_restarts": 5, **properties}
    return UnitState(active="failed", sub="failed", exec_main_code=code, exec_main_status=status, **values)


@pytest.mark.parametrize(
    ("active", "started", "running", "present"),
    [
        ("active", True, True, True),
        ("activating", False, True, True),
        ("reloading", True, True, True),
        ("refreshing", True, True, True),
        ("deactivating", False, False, True),
        ("inactive", False, False, False),
        ("failed", False, False, False),
        ("maintenance", False, False, False),
    ],
)
def test_what_counts_as_running_and_what_takes_a_place(
    active: str, *, started: bool, running: bool, present: bool
) -> None:
    unit = UnitState(active=active)
    assert (unit.started, unit.running, unit.present) == (started, running, present)


@pytest.mark.parametrize(
    ("active", "sub", "restarting", "gone_for_good"),
    [
        ("activating", "auto-restart", True, False),
        ("activating", "auto-restart-queued", True, False),
        ("failed", "failed-before-auto-restart", True, False),
        ("inactive", "dead-before-auto-restart", True, False),
        ("failed", "failed", False, True),
        ("inactive", "dead", False, False),
        ("activating", "start", False, False),
        ("active", "running", False, False),
    ],
)
def test_on_its_way_to_a_restart_a_unit_has_not_failed(
    active: str, sub: str, *, restarting: bool, gone_for_good: bool
) -> None:
    unit = UnitState(active=active, sub=sub)
    assert unit.restarting is restarting
    assert unit.failed is gone_for_good
    assert unit.running is unit.present is (restarting or active in ("active", "activating"))


def test_a_unit_that_systemd_does_not_know_is_inactive_and_has_no_past() -> None:
    assert UnitState() == UnitState(
        active="inactive",
        sub="dead",
        result="success",
        exec_main_code=0,
        exec_main_status=0,
        main_pid=0,
        n_restarts=0,
        job=NO_JOB,
    )
    assert NO_JOB == "/", "that is systemd's"
    assert not UnitState().running
    assert not UnitState().present
    assert UnitState().final_status is None


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_a_final_status_counts_when_the_process_exited_with_it(status: ExitStatus) -> None:
    assert failed(EXITED, status).final_status is status
    assert failed(KILLED, status).final_status is None
    assert failed(0, status).final_status is None


@pytest.mark.parametrize("status", [0, 1, 2, 77, 79, 99, 243, 255])
def test_any_other_status_is_a_crash(status: int) -> None:
    assert failed(EXITED, status).final_status is None


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (UnitState(), ""),
        (UnitState(active="active", main_pid=7, exec_main_code=0), ""),
        (UnitState(exec_main_code=EXITED, exec_main_status=0), "exit status 0 (stopped)"),
        (failed(EXITED, ExitStatus.LOGIN_NEEDED), "exit status 85 (login needed)"),
        (failed(EXITED, 243), "exit status 243"),
        (failed(KILLED, 15), "signal SIGTERM"),
        (failed(DUMPED, 11), "signal SIGSEGV"),
        # A number that is an exit status of ours, and no signal.
        (failed(KILLED, 80), "signal 80"),
        (failed(0, 80), ""),
    ],
)
def test_how_a_process_has_ended_is_told_in_words(unit: UnitState, words: str) -> None:
    assert how_ended(unit) == words
