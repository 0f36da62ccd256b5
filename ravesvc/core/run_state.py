"""What the process of a mesh does, whether systemd runs it or this process does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ravesvc.names import ExitStatus


class RunPhase(StrEnum):
    """How far a process has come; the value is for logs and tests."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    WAITING = "waiting to be restarted"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnd:
    """How the last process has ended, when nothing restarts it by itself.

    Attributes:
        status: one of `names.FINAL_STATUSES`; None if it crashed or was killed.
        gave_up: it was restarted as often as it may be, and has crashed again.
        timed_out: it was killed because it took too long to start or to stop.
        refused: it was started by hand too often.
        detail: how it ended, and after how many restarts, in words.
    """

    status: ExitStatus | None = None
    gave_up: bool = False
    timed_out: bool = False
    refused: bool = False
    detail: str = ""

    @property
    def misconfigured(self) -> bool:
        """The process could not begin, and another one could not either, until an operator has changed something."""
        return self.status in (ExitStatus.CONFIG, ExitStatus.NO_SETTINGS)

    @property
    def needs_person(self) -> bool:
        """Another process would fare no better until an operator has changed something."""
        return self.misconfigured or self.status is ExitStatus.ELSEWHERE


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """The process of a mesh; the defaults are those of none.

    Attributes:
        process: a number that no other process of the machine has now; 0 for none.
        restarts: how often it was restarted since it was started.
        end: how the last one has ended, in the phase ENDED; None there while that is being forgotten.
        last_exit: how the last one has ended, in words; empty if none has.
        active_state, sub_state: what systemctl(1) shows of it.
    """

    phase: RunPhase = RunPhase.ABSENT
    process: int = 0
    restarts: int = 0
    end: RunEnd | None = None
    last_exit: str = ""
    active_state: str = "inactive"
    sub_state: str = "dead"

    @property
    def runs(self) -> bool:
        """There is a process, or there will be one unless it is stopped."""
        return self.phase in (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.WAITING)

    @property
    def present(self) -> bool:
        """There is a process, or there will be one; it may be stopping."""
        return self.runs or self.phase is RunPhase.STOPPING

    def outdates(self, noted: ExitStatus) -> bool:
        """Whether an earlier process has ended with `noted`, and that counts no more.

        After a final exit status only an operator starts a process again. That is the newer word, and so is how the
        newer process has ended. A kick alone counts until an operator unblocks the mesh.
        """
        has_newer = self.present or (self.end is not None and self.end.status is not noted)
        return has_newer and noted is not ExitStatus.KICKED
