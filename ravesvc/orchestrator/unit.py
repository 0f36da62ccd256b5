"""The state of a `rave-mesh@` unit as systemd tells it, and what its end means (org.freedesktop.systemd1(5))."""

from __future__ import annotations

from dataclasses import dataclass

from ravesvc.names import FINAL_STATUSES, ExitStatus
from ravesvc.store.blocklist import Reason

# ExecMainCode: CLD_EXITED of sigaction(2), or 0 if none ran; any other means that a signal ended the process.
_CLD_EXITED = 1
# systemd.exec(5): a file of LoadCredential= was missing.
_EXIT_CREDENTIALS = 243

_REASONS: dict[ExitStatus | None, Reason] = {
    ExitStatus.KICKED: Reason.KICKED,
    ExitStatus.LEFT: Reason.LEFT,
    ExitStatus.GONE: Reason.GONE,
    ExitStatus.UNREACHABLE: Reason.CONNECTION_FAILURES,
    ExitStatus.REJECTED: Reason.REJECTED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitState:
    """The properties that we look at, under systemd's names in snake case; the defaults are those of no unit."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    exec_main_code: int = 0
    exec_main_status: int = 0
    main_pid: int = 0
    n_restarts: int = 0

    @property
    def running(self) -> bool:
        """It runs, or systemd is about to run it.

        On its way to an automatic restart a unit passes through failed or inactive, which then means neither.
        """
        return self.active in ("active", "activating", "reloading", "refreshing") or self.restarting

    @property
    def restarting(self) -> bool:
        """It has ended, and systemd will start it again (RestartSec=)."""
        return self.sub.startswith("auto-restart") or self.sub.endswith("-before-auto-restart")

    @property
    def failed(self) -> bool:
        """It has failed for good: systemd won't start it again."""
        return self.active == "failed" and not self.restarting

    @property
    def final_status(self) -> ExitStatus | None:
        """The final exit status with which a failed unit ended, or None if it crashed."""
        if self.exec_main_code == _CLD_EXITED and self.exec_main_status in FINAL_STATUSES:
            return ExitStatus(self.exec_main_status)
        return None


def why_failed(unit: UnitState) -> tuple[Reason | None, str]:
    """What a failed unit teaches: the reason to block its mesh, and the detail in words.

    No reason means that the mesh is not at fault. It is then started again after the next good round of discovery.
    """
    status = unit.final_status
    if status in _REASONS:
        return _REASONS[status], ""
    if status is ExitStatus.LOGIN_NEEDED:
        return None, "Rave wants a new login"
    if status is ExitStatus.CONFIG:
        return None, "its process could not use its settings"
    if unit.exec_main_code == _CLD_EXITED and unit.exec_main_status == _EXIT_CREDENTIALS:
        return None, "its process was not given settings and session, restart rave-orchestrator"
    if unit.result == "start-limit-hit" and unit.n_restarts == 0:
        return None, "it was started by hand too often"
    return Reason.CRASHES, _crash(unit)


def _crash(unit: UnitState) -> str:
    if unit.exec_main_code == _CLD_EXITED:
        how = f"exit status {unit.exec_main_status}"
    elif unit.exec_main_code == 0:
        how = "its program was not run"
    else:
        how = f"signal {unit.exec_main_status}"
    return f"systemd gave up after {unit.n_restarts} restarts (result {unit.result}, {how})"
