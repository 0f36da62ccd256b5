from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ravesvc.blocklist.model import Reason
from ravesvc.common.text import printable
from ravesvc.config.worker_settings import NOT_HANDED_OVER
from ravesvc.core.exit_policy import why_failed
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
    ("status", "reason", "detail"),
    [
        (ExitStatus.KICKED, Reason.KICKED, ""),
        (ExitStatus.LEFT, Reason.LEFT, ""),
        (ExitStatus.GONE, Reason.GONE, ""),
        (ExitStatus.UNREACHABLE, Reason.CONNECTION_FAILURES, ""),
        (ExitStatus.REJECTED, Reason.REJECTED, ""),
        (ExitStatus.TOO_LARGE, Reason.TOO_LARGE, ""),
        (ExitStatus.CONFIG, None, "its process could not use its settings"),
        (ExitStatus.LOGIN_NEEDED, None, "Rave wants a new login"),
        (ExitStatus.NO_SETTINGS, None, f"its process was not handed its settings: {NOT_HANDED_OVER}"),
    ],
)
def test_what_a_final_status_teaches(status: ExitStatus, reason: Reason | None, detail: str) -> None:
    assert why_failed(failed(EXITED, status)) == (reason, detail)


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_what_lacks_its_settings_is_misconfigured(status: ExitStatus) -> None:
    assert failed(EXITED, status).misconfigured == (status in (ExitStatus.CONFIG, ExitStatus.NO_SETTINGS))
    assert not failed(KILLED, status).misconfigured


def test_what_helps_against_missing_settings_fits_where_it_is_shown() -> None:
    _, detail = why_failed(failed(EXITED, ExitStatus.NO_SETTINGS))
    assert printable(detail, 300) == detail


def test_every_final_status_teaches_something() -> None:
    for status in FINAL_STATUSES:
        reason, detail = why_failed(failed(EXITED, status))
        assert reason or detail


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
    assert why_failed(unit) == (Reason.CRASHES, f"systemd gave up after 4 restarts {words}")


def test_the_restart_that_systemd_refused_is_none() -> None:
    assert "after 1 restart (" in why_failed(failed(EXITED, 1, n_restarts=2))[1]


def test_a_unit_that_was_not_restarted_has_not_crashed_again_and_again() -> None:
    # As after `systemctl stop` of a process that hangs: systemd kills it after TimeoutStopSec=.
    reason, words = why_failed(failed(KILLED, 9, result="timeout", n_restarts=0))
    assert reason is None
    assert "-1" not in words


@pytest.mark.parametrize("unit", [failed(KILLED, 9, result="signal"), failed(EXITED, 1), failed(DUMPED, 6)])
def test_a_bot_that_once_crashed_and_fails_while_it_is_stopped_has_not_crashed_again(unit: UnitState) -> None:
    """As systemd 257 has told of both: killed by the parent at the end of its time, and given up in a crash loop."""
    stopped = dataclasses.replace(
        unit,
        n_restarts=1,
        exec_main_exit_timestamp_monotonic=65788329147,
        inactive_exit_timestamp_monotonic=65780860637,
    )
    assert why_failed(stopped) == (None, "its process failed while it was being stopped")
    given_up = dataclasses.replace(
        unit,
        n_restarts=6,
        exec_main_exit_timestamp_monotonic=65793526182,
        inactive_exit_timestamp_monotonic=65793527608,
    )
    assert why_failed(given_up)[0] is Reason.CRASHES


@pytest.mark.parametrize(
    ("unit", "detail"),
    [
        (failed(EXITED, 0, result="start-limit-hit", n_restarts=0), "was started by hand too often"),
        (failed(KILLED, 15, result="start-limit-hit", n_restarts=0), "was started by hand too often"),
    ],
)
def test_some_failures_are_no_fault_of_the_mesh(unit: UnitState, detail: str) -> None:
    reason, words = why_failed(unit)
    assert reason is None
    assert detail in words


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
