"""Translates the state of a `rave-mesh@` unit into the `RunState` of its process."""

from __future__ import annotations

from ravesvc.common.text import count
from ravesvc.core.run_state import RunEnd, RunPhase, RunState
from ravesvc.systemd.unit_state import UnitState, how_ended


def run_state(unit: UnitState) -> RunState:
    """The `RunState` of a unit."""
    return RunState(
        phase=_phase(unit),
        process=unit.main_pid,
        restarts=unit.n_restarts,
        end=_end(unit),
        last_exit=how_ended(unit),
        active_state=unit.active,
        sub_state=unit.sub,
    )


def _phase(unit: UnitState) -> RunPhase:
    if unit.started:
        return RunPhase.RUNNING
    if unit.restarting:
        # Before an automatic restart a unit is failed or inactive for a moment, which is no end.
        return RunPhase.WAITING
    if unit.active == "activating":
        return RunPhase.STARTING
    if unit.active == "failed":
        return RunPhase.ENDED
    return RunPhase.ABSENT if unit.active == "inactive" else RunPhase.STOPPING


def _end(unit: UnitState) -> RunEnd | None:
    # A failed unit with the result "success" is being reset, and a signal that it is inactive follows.
    if not unit.failed or unit.result == "success":
        return None
    return RunEnd(
        status=unit.final_status,
        gave_up=unit.given_up,
        timed_out=unit.result == "timeout",
        refused=unit.result == "start-limit-hit",
        detail=_crash(unit) if unit.given_up else "",
    )


def _crash(unit: UnitState) -> str:
    how = how_ended(unit) or "its program was not run"
    # systemd has counted the restart that it refused.
    return f"systemd gave up after {count(unit.n_restarts - 1, 'restart')} (result {unit.result}, {how})"
