"""The state of a `rave-mesh@` unit in systemd (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from ravesvc.names import FINAL_STATUSES, ExitStatus

# ExecMainCode: CLD_EXITED of sigaction(2), or 0 if none ran; any other means that a signal ended the process.
_CLD_EXITED = 1

# The object path that means: no job.
NO_JOB = "/"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitState:
    """The properties that we use, under systemd's names in snake case; the defaults are those of no unit.

    The status text is not kept, only whether a bot of ours could have sent it (`suspect`): `systemctl status` writes
    it to the terminal as it is.
    """

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    exec_main_code: int = 0
    exec_main_status: int = 0
    main_pid: int = 0
    n_restarts: int = 0
    job: str = NO_JOB
    # Microseconds of the monotonic clock: when its last process ended, and when it last left inactive or failed.
    exec_main_exit_timestamp_monotonic: int = 0
    inactive_exit_timestamp_monotonic: int = 0
    # In words, what its process sends systemd that no bot of ours sends; empty if nothing.
    suspect: str = ""

    @property
    def running(self) -> bool:
        """It runs, or systemd is about to run it.

        On its way to an automatic restart a unit passes through failed or inactive, which then means neither.
        """
        return self.started or self.active == "activating" or self.restarting

    @property
    def started(self) -> bool:
        """Its process has said that it is ready, and is not being stopped; it may say that it reloads, for ever."""
        return self.active in ("active", "reloading", "refreshing")

    @property
    def present(self) -> bool:
        """It has a process, or is about to have one: it runs or is stopping."""
        return self.running or self.active == "deactivating"

    @property
    def restarting(self) -> bool:
        """It has ended, and systemd will start it again (RestartSec=)."""
        return self.sub.startswith("auto-restart") or self.sub.endswith("-before-auto-restart")

    @property
    def failed(self) -> bool:
        """It has failed for good: systemd won't start it again."""
        return self.active == "failed" and not self.restarting

    @property
    def given_up(self) -> bool:
        """Whether systemd has given up a unit that has failed: it restarted it, and was about to do so again.

        A bot that crashes, or has to be killed, while it is stopped has failed as well, and its unit stays failed. A
        unit that systemd restarts leaves that state to wait (RestartSec=), and fails again when the next start is
        refused: it has left the state after its process ended. The times are systemd's, so they are right after the
        parent was away. The number of restarts alone is not enough: they may be long ago.
        """
        return self.n_restarts > 0 and (
            self.inactive_exit_timestamp_monotonic >= self.exec_main_exit_timestamp_monotonic
        )

    @property
    def final_status(self) -> ExitStatus | None:
        """The final exit status with which a failed unit ended, or None if it crashed."""
        if self.exec_main_code == _CLD_EXITED and self.exec_main_status in FINAL_STATUSES:
            return ExitStatus(self.exec_main_status)
        return None


def how_ended(unit: UnitState) -> str:
    """How the last process of a unit has ended, in words; empty if none has."""
    if unit.exec_main_code == 0:
        return ""
    if unit.exec_main_code == _CLD_EXITED:
        known = [status.name.lower().replace("_", " ") for status in ExitStatus if status == unit.exec_main_status]
        meaning = f" ({known[0]})" if known else ""
        return f"exit status {unit.exec_main_status}{meaning}"
    try:
        return f"signal {signal.Signals(unit.exec_main_status).name}"
    except ValueError:
        return f"signal {unit.exec_main_status}"
