"""The interface by which the core starts and stops bots: as units of systemd, or as tasks of one process.

The reconciler decides which meshes have a bot; a runner starts and stops the bots, and reports how they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ravesvc.common.signal import Signal
from ravesvc.core.run_state import RunEnd, RunState
from ravesvc.core.worker_events import WorkerEvent
from ravesvc.core.worker_status import SettingInfo, WorkerStatus
from ravesvc.names import Announcement

# The calls that a bot may leave unanswered. One that hangs for a minute answers them later.
MAX_UNANSWERED_CALLS = 16


@dataclass(frozen=True, slots=True)
class RunChange:
    """The state of a mesh's process has changed.

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
    """An event that the bot of a mesh has reported; its sender is verified."""

    mesh: str
    event: WorkerEvent


class Runner(Protocol):
    """Runs at most one process per mesh.

    Every method raises `RaveError`: Bus, Timeout, Unit or AccessDenied if the runner can't do it, NotRunning for a
    call of a bot that does not run.

    Attributes:
        runs: by mesh, its process, or the end of its last one until `forget_end`.
        changed: emitted after `runs` has changed.
        reported: emitted for each event that a bot reports.
    """

    changed: Signal[RunChange]
    reported: Signal[WorkerReport]

    @property
    def runs(self) -> Mapping[str, RunState]:
        """See above."""

    async def start(self) -> None:
        """Find the processes that run already; `changed` is emitted for each."""

    async def close(self) -> None:
        """Emit nothing more. Bots that can run without the service go on."""

    async def start_mesh(self, mesh: str) -> str | None:
        """Start a process, and wait until it runs or has ended.

        Returns the order of this start if it was cancelled, because an operator has put another start or stop in its
        place (`was_stopped_by_hand` tells which), or None.
        """

    async def stop_mesh(self, mesh: str) -> None:
        """Stop a process, and wait until it is gone."""

    async def restart_mesh(self, mesh: str) -> str | None:
        """Replace a process, unless it has ended meanwhile; as `start_mesh`."""

    async def forget_end(self, mesh: str) -> None:
        """Drop all traces of how the last process has ended. What follows from it must be saved before."""

    async def ends_while_away(self) -> Mapping[str, RunEnd]:
        """How processes have ended while no service ran, but for ends that `RunState.outdates`."""

    async def started_at_us(self, mesh: str) -> int:
        """When a process was started, in microseconds since the epoch."""

    async def was_stopped_by_hand(self, mesh: str, order: str) -> bool:
        """Whether an operator has given this order, to stop this mesh alone and not to start it again."""

    async def status(self, mesh: str) -> WorkerStatus:
        """The status of a bot.

        Raises also what the bot answers, and BadData. If the call never reached the bot, the error has the attribute
        `undelivered`.
        """

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """The users in a mesh: ids and names of some, and how many there are. Raises as `status`."""

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """The settings of a mesh: some, with long values cut, and how many there are. Raises as `status`."""

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """A setting of a mesh. Raises as `status`, and InvalidArgument."""

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """Change a setting of a mesh, as an admin of the room writes it, and return it. Raises as `setting`."""

    async def reconnect(self, mesh: str) -> None:
        """Have a bot close its connection to Rave and open another."""

    async def set_debug(self, mesh: str, debug: bool) -> None:  # noqa: FBT001 - as on the bus
        """Have a bot log at the level debug, or at its usual one."""

    async def broadcast(self, announcement: Announcement) -> tuple[int, int]:
        """Announce a change to all bots; returns how many have read it again in two seconds, and how many have not.

        A bot that is late reads it all the same.
        """

    async def announce(self, mesh: str, announcement: Announcement) -> None:
        """Announce a change to one bot, and wait until it has read it again. Raises what the bot answers as well."""

    async def forget_user(self, user: int) -> frozenset[str]:
        """Have all bots forget a user; returns the meshes of those that have done so in two seconds."""

    def is_mute(self, mesh: str) -> bool:
        """Whether a bot has left `MAX_UNANSWERED_CALLS` calls unanswered. It is not called any more then."""

    async def catch_up(self) -> None:
        """Wait until bots have received all that was sent to them, and all that they had sent was emitted."""
