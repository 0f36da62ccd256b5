from __future__ import annotations

from typing import Any

import pytest

from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.orchestrator.unit import UnitState, why_failed
from ravesvc.store.blocklist import Reason

EXITED, KILLED, DUMPED = 1, 2, 3


def failed(code: int, status: int, **properties: int | str) -> UnitState:
    values: dict[str, Any] = {"result": "exit-code", "n_restarts": 5, **properties}
    return UnitState(active="failed", sub="failed", exec_main_code=code, exec_main_status=status, **values)


@pytest.mark.parametrize(
    ("active", "running"),
    [
        ("active", True),
        ("activating", True),
        ("reloading", True),
        ("refreshing", True),
        ("deactivating", False),
        ("inactive", False),
        ("failed", False),
        ("maintenance", False),
    ],
)
def test_what_counts_as_running(active: str, *, running: bool) -> None:
    assert UnitState(active=active).running is running


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
    assert unit.running is (restarting or active in ("active", "activating"))


def test_a_unit_that_systemd_does_not_know_is_inactive_and_has_no_past() -> None:
    assert UnitState() == UnitState(
        active="inactive",
        sub="dead",
        result="success",
        exec_main_code=0,
        exec_main_status=0,
        main_pid=0,
        n_restarts=0,
    )
    assert not UnitState().running
    assert UnitState().final_status is None


@pytest.mark.parametrize("status", sorted(FINAL_STATUSES))
def test_a_final_status_counts_when_the_process_exited_with_it(status: ExitStatus) -> None:
    assert failed(EXITED, status).final_status is status
    assert failed(KILLED, status).final_status is None
    assert failed(0, status).final_status is None


@pytest.mark.parametrize("status", [0, 1, 2, 77, 79, 86, 243, 255])
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
        (ExitStatus.CONFIG, None, "its process could not use its settings"),
        (ExitStatus.LOGIN_NEEDED, None, "Rave wants a new login"),
    ],
)
def test_what_a_final_status_teaches(status: ExitStatus, reason: Reason | None, detail: str) -> None:
    assert why_failed(failed(EXITED, status)) == (reason, detail)


def test_every_final_status_teaches_something() -> None:
    for status in FINAL_STATUSES:
        reason, detail = why_failed(failed(EXITED, status))
        assert reason or detail


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (failed(EXITED, 1), "(result exit-code, exit status 1)"),
        (failed(KILLED, 9, result="oom-kill"), "(result oom-kill, signal 9)"),
        (failed(DUMPED, 6, result="watchdog"), "(result watchdog, signal 6)"),
        (failed(0, 0, result="resources"), "(result resources, its program was not run)"),
        (failed(EXITED, 1, result="start-limit-hit"), "(result start-limit-hit, exit status 1)"),
        # The number of a signal, not the status of a process without credentials.
        (failed(KILLED, 243), "(result exit-code, signal 243)"),
    ],
)
def test_a_crash_is_told_in_words(unit: UnitState, words: str) -> None:
    assert why_failed(unit) == (Reason.CRASHES, f"systemd gave up after 5 restarts {words}")


@pytest.mark.parametrize(
    ("unit", "detail"),
    [
        (failed(EXITED, 243), "was not given settings and session, restart rave-orchestrator"),
        (failed(EXITED, 0, result="start-limit-hit", n_restarts=0), "was started by hand too often"),
        (failed(KILLED, 15, result="start-limit-hit", n_restarts=0), "was started by hand too often"),
    ],
)
def test_some_failures_are_no_fault_of_the_mesh(unit: UnitState, detail: str) -> None:
    reason, words = why_failed(unit)
    assert reason is None
    assert detail in words
