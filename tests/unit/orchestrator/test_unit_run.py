from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ravesvc.core.exit_policy import why_ended
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.orchestrator.unit_run import run_state
from ravesvc.systemd.unit_state import UnitState

EXITED, KILLED, DUMPED = 1, 2, 3


def failed(code: int, status: int, **properties: int | str) -> UnitState:
    values: dict[str, Any] = {"result": "exit-code", "n_restarts": 5, **properties}
    return UnitState(active="failed", sub="failed", exec_main_code=code, exec_main_status=status, **values)


def end_of(unit: UnitState) -> RunEnd:
    end = run_state(unit).end
    assert end
    return end


@pytest.mark.parametrize(
    ("active", "sub", "phase"),
    [
        ("active", "running", RunPhase.RUNNING),
        # A bot can say so for ever.
        ("reloading", "reload-notify", RunPhase.RUNNING),
        ("refreshing", "refresh", RunPhase.RUNNING),
        ("activating", "start", RunPhase.STARTING),
        ("activating", "auto-restart", RunPhase.WAITING),
        ("activating", "auto-restart-queued", RunPhase.WAITING),
        ("failed", "failed-before-auto-restart", RunPhase.WAITING),
        ("inactive", "dead-before-auto-restart", RunPhase.WAITING),
        ("deactivating", "stop-sigterm", RunPhase.STOPPING),
        ("failed", "failed", RunPhase.ENDED),
        ("inactive", "dead", RunPhase.ABSENT),
    ],
)
def test_a_unit_is_in_one_phase(active: str, sub: str, phase: RunPhase) -> None:
    unit = UnitState(active=active, sub=sub)
    run = run_state(unit)
    assert run.phase is phase
    assert (run.runs, run.present) == (unit.running, unit.present)
    assert (run.active_state, run.sub_state) == (active, sub)


def test_no_unit_is_no_process() -> None:
    assert run_state(UnitState()) == RunState()


def test_a_process_is_told_from_others_by_its_id() -> None:
    run = run_state(UnitState(active="active", sub="running", main_pid=7, n_restarts=2, exec_main_code=KILLED))
    assert (run.process, run.restarts, run.last_exit) == (7, 2, "signal 0")


def test_a_unit_that_is_being_reset_has_no_end() -> None:
    run = run_state(failed(EXITED, ExitStatus.KICKED, result="success"))
    assert (run.phase, run.end) == (RunPhase.ENDED, None)


@pytest.mark.parametrize("sub", ["failed-before-auto-restart", "auto-restart"])
def test_what_systemd_starts_again_has_no_end(sub: str) -> None:
    unit = dataclasses.replace(failed(EXITED, 1), sub=sub)
    assert run_state(unit).end is None


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_the_status_is_that_of_a_process_that_has_exited(status: ExitStatus) -> None:
    assert end_of(failed(EXITED, status)).status is status
    assert end_of(failed(KILLED, status)).status is None


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_every_final_status_means_something(status: ExitStatus) -> None:
    assert any(why_ended(end_of(failed(EXITED, status))))


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (failed(EXITED, 1), "(result exit-code, exit status 1 (crashed))"),
        (failed(KILLED, 9, result="oom-kill"), "(result oom-kill, signal SIGKILL)"),
        (failed(DUMPED, 6, result="watchdog"), "(result watchdog, signal SIGABRT)"),
        (failed(0, 0, result="resources"), "(result resources, its program was not run)"),
        (failed(EXITED, 1, result="start-limit-hit"), "(result start-limit-hit, exit status 1 (crashed))"),
        (failed(EXITED, 2), "(result exit-code, exit status 2)"),
        # The number of a signal, not a status of ours.
        (failed(KILLED, 243), "(result exit-code, signal 243)"),
    ],
)
def test_a_crash_is_told_in_words(unit: UnitState, words: str) -> None:
    end = end_of(unit)
    assert (end.gave_up, end.detail) == (True, f"systemd gave up after 4 restarts {words}")


def test_the_restart_that_systemd_refused_is_none() -> None:
    assert "after 1 restart (" in end_of(failed(EXITED, 1, n_restarts=2)).detail


def test_a_unit_that_was_not_restarted_has_not_crashed_again_and_again() -> None:
    # As after `systemctl stop` of a process that hangs: systemd kills it after TimeoutStopSec=.
    assert end_of(failed(KILLED, 9, result="timeout", n_restarts=0)) == RunEnd(timed_out=True)


@pytest.mark.parametrize("unit", [failed(KILLED, 9, result="signal"), failed(EXITED, 1), failed(DUMPED, 6)])
def test_a_bot_that_once_crashed_and_fails_while_it_is_stopped_has_not_crashed_again(unit: UnitState) -> None:
    """As systemd 257 has told of both: killed by the parent at the end of its time, and given up in a crash loop."""
    stopped = dataclasses.replace(
        unit,
        n_restarts=1,
        exec_main_exit_timestamp_monotonic=65788329147,
        inactive_exit_timestamp_monotonic=65780860637,
    )
    assert end_of(stopped) == RunEnd()
    given_up = dataclasses.replace(
        unit,
        n_restarts=6,
        exec_main_exit_timestamp_monotonic=65793526182,
        inactive_exit_timestamp_monotonic=65793527608,
    )
    assert end_of(given_up).gave_up


@pytest.mark.parametrize(("code", "status"), [(EXITED, 0), (KILLED, 15)])
def test_a_start_that_is_refused_is_told_from_a_crash(code: int, status: int) -> None:
    assert end_of(failed(code, status, result="start-limit-hit", n_restarts=0)) == RunEnd(refused=True)
