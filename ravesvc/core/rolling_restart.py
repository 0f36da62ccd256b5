"""Replaces outdated bots one after another, each only when the one before is connected again.

If a new program can't connect, only the first bot is lost: the roll stops there, and the others run on.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ravesvc.common.log_fields import about
from ravesvc.common.signal import Signal
from ravesvc.config.worker_settings import Edition
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.reconciler import Reconciler
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# Seconds that a new process has to get back into its mesh.
_RECONNECT_TIMEOUT_S = 60.0
# The states of a mesh whose bot will not connect by itself.
_LOST = frozenset({"blocked", "held", "stopped", "failed"})


@dataclass(frozen=True, slots=True)
class RollProgress:
    """`done` of `total` meshes are done, and `mesh` is next; it is empty at the end."""

    done: int
    total: int
    mesh: str


class RollingRestart:
    """One roll at a time.

    Args:
        edition: the edition of a bot that is up to date.
        reconnect_timeout_s: seconds that a new process has to connect.

    Attributes:
        edition: as the argument; it changes with the options in force.
        progress: emitted before the turn of each mesh, and at the end of all.
        ended: emitted at the end, with the error that has stopped the roll, or None.
    """

    def __init__(
        self, reconciler: Reconciler, edition: Edition, *, reconnect_timeout_s: float = _RECONNECT_TIMEOUT_S
    ) -> None:
        self.progress: Signal[RollProgress] = Signal("progress of a roll")
        self.ended: Signal[RaveError | None] = Signal("ends of a roll")
        self._reconciler = reconciler
        self.edition = edition
        self._reconnect_timeout_s = reconnect_timeout_s
        self._task: asyncio.Task[None] | None = None
        self._current = ""
        self._decided = asyncio.Event()

    def outdated(self) -> list[str]:
        """The ids of the meshes whose bots run another program or other settings; connected ones first."""
        found = [record for record in self._reconciler.records.values() if self.is_outdated(record)]
        return [record.mesh for record in sorted(found, key=lambda record: not record.worker.connected)]

    def is_outdated(self, record: MeshState) -> bool:
        """Whether the bot of a mesh runs another program or other settings."""
        return record.run.runs and record.worker.edition not in (None, self.edition)

    def start(self) -> int:
        """Begin a roll; returns how many bots are outdated. Raises `RaveError` (Busy).

        `progress` and `ended` are emitted only in a later turn of the event loop, so the caller can answer before.
        """
        if self._task and not self._task.done():
            raise RaveError(Code.BUSY, "a roll is under way", hint="wait for its end, or cancel it")
        meshes = self.outdated()
        self._task = asyncio.create_task(self._run(meshes))
        self._task.add_done_callback(self._finish)
        return len(meshes)

    def cancel(self) -> None:
        """Replace no more bots. A restart that is under way is completed."""
        if self._task:
            self._task.cancel()

    async def close(self) -> None:
        """Cancel the roll, and wait until it has ended."""
        self.cancel()
        if self._task:
            await asyncio.wait([self._task])

    def mesh_changed(self, record: MeshState) -> None:
        """Note a changed record: it may be that of the bot for which the roll waits."""
        if record.mesh == self._current and (record.worker.connected or record.state in _LOST):
            self._decided.set()

    async def _run(self, meshes: list[str]) -> None:
        for number, mesh in enumerate(meshes):
            record = self._reconciler.records.get(mesh)
            if record is None or record.block or not self.is_outdated(record):
                continue
            self.progress.emit(RollProgress(number, len(meshes), mesh))
            log.info("Replacing the process of mesh %s, %d of %d", mesh, number + 1, len(meshes), extra=about(mesh))
            was_connected = record.worker.connected
            await self._reconciler.restart_mesh(mesh)
            record = self._reconciler.records.get(mesh)
            if record is None or self.is_outdated(record):
                why = (record and record.worker.last_error) or "it has the one that it had"
                text = f"mesh {mesh} has no other process: {why}"
                raise RaveError(Code.NOT_RUNNING, text, hint=f"ravectl explain {mesh}, then roll again", mesh=mesh)
            # A bot that was not connected before says nothing about the new program, so do not wait for it.
            if was_connected:
                await self._wait(record)
        self.progress.emit(RollProgress(len(meshes), len(meshes), ""))

    async def _wait(self, record: MeshState) -> None:
        mesh = self._current = record.mesh
        self._decided.clear()
        self.mesh_changed(record)
        try:
            await asyncio.wait_for(self._decided.wait(), self._reconnect_timeout_s)
        except TimeoutError:
            pass
        finally:
            self._current = ""
        if not record.worker.connected:
            why = record.reason or f"it is {record.state}"
            text = f"mesh {mesh} is not connected again: {why}"
            raise RaveError(Code.NOT_RUNNING, text, hint=f"ravectl explain {mesh}, then roll again", mesh=mesh)

    def _finish(self, task: asyncio.Task[None]) -> None:
        error: RaveError | None = None
        if task.cancelled():
            error = RaveError(Code.CANCELLED, "the roll was cancelled")
        elif isinstance(task.exception(), RaveError):
            error = task.exception()  # type: ignore[assignment]
        elif failure := task.exception():
            log.error("A roll has failed", exc_info=failure)
            error = RaveError(
                Code.INTERNAL, "the roll failed by a fault of the service", hint="the journal says more"
            )
        if error:
            log.warning("The roll has stopped: %s", error)
        else:
            log.info("The roll is done")
        self.ended.emit(error)
