"""What runs the bots, as the core sees it: systemd runs each as a unit, one process runs all as tasks.

The reconciler decides which meshes have a bot; a runner starts and stops them, and says what has become of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ravesvc.common.signal import Signal
from ravesvc.core.run_state import RunEnd, RunState
from ravesvc.core.worker_events import WorkerEvent
from ravesvc.names import Announcement

# Calls that a bot may leave without an answer. It may hang for a minute, and answers most of them later.
MAX_UNANSWERED_CALLS = 16


@dataclass(frozen=True, slots=True)
class RunChange:
    """The process of a mesh is in another state.

    Attributes:
        stop_order: the order by which it stops, or was kept from being restarted, for `Runner.was_stopped_by_hand`;
            None when it has ended by itself, or goes on.
    """

    mesh: str
    old: RunState
    new: RunState
    stop_order: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The bot of a mesh, whose process is known to be that of the mesh, has said something."""

    mesh: str
    event: WorkerEvent


class Runner(Protocol):
    """Runs at most one process per mesh.

    Every method raises `RaveError`: Bus, Timeout, Unit or AccessDenied for what keeps it from being done, NotRunning
    for a question to a bot that there is not.

    Attributes:
        runs: each mesh that has a process, or had one whose end is not forgotten yet.
        changed: emitted after `runs` has changed.
        reported: emitted for what bots say.
    """

    changed: Signal[RunChange]
    reported: Signal[WorkerReport]

    @property
    def runs(self) -> Mapping[str, RunState]:
        """See above."""

    async def start(self) -> None:
        """Find the processes that run already; `changed` is emitted for each."""

    async def close(self) -> None:
        """Say nothing more. What can run on by itself does."""

    async def start_mesh(self, mesh: str) -> str | None:
        """Start a process, and wait until it runs or has ended.

        Returns the order by which another start or stop has taken its place, for `was_stopped_by_hand`, or None.
        """

    async def stop_mesh(self, mesh: str) -> None:
        """Stop a process, and wait until it is gone."""

    async def restart_mesh(self, mesh: str) -> str | None:
        """Replace a process, unless it has ended meanwhile; as `start_mesh`."""

    async def forget_end(self, mesh: str) -> None:
        """Drop every trace of how the last process has ended: what it means is saved elsewhere."""

    async def ends_while_away(self) -> Mapping[str, RunEnd]:
        """How processes have ended while no service ran, as far as `runs` does not tell."""

    async def started_at_us(self, mesh: str) -> int:
        """When a process was started, in microseconds since the epoch."""

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        """Whether an operator has given this order, to stop this mesh alone and not to start it again."""

    async def status(self, mesh: str) -> Mapping[str, Any]:
        """What a bot says of itself, under the names of `GetStatus`. It is not checked.

        Raises also what the bot answers, and BadData. The error of a question that the bot has not even got has the
        attribute `undelivered`.
        """

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """Who is in a mesh: ids and names of some, and how many there are. Raises as `status`."""

    async def reconnect(self, mesh: str) -> None:
        """Have a bot close its connection to Rave and open another."""

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """Have a bot log at the level debug, or at its usual one."""

    async def broadcast(self, announcement: Announcement) -> tuple[int, int]:
        """Have all bots read something again; returns how many have done so in two seconds, and how many have not.

        Those go on all the same.
        """

    async def forget_user(self, user: int) -> frozenset[str]:
        """Have all bots forget a user; returns the meshes of those that have done so in two seconds."""

    def is_mute(self, mesh: str) -> bool:
        """Whether a bot has left `MAX_UNANSWERED_CALLS` calls unanswered. It is asked nothing more then."""

    async def catch_up(self) -> None:
        """Wait until bots have what was sent to them, and all that they had sent by then has been emitted."""
