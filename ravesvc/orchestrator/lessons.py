"""What the end of a child teaches: whether its mesh is to be left alone, or can't help it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ravesvc.journal import Event, about
from ravesvc.orchestrator.blocks import Blocks
from ravesvc.orchestrator.discovery import Census
from ravesvc.orchestrator.record import Record
from ravesvc.orchestrator.unit import UnitState, why_failed
from ravesvc.store.blocklist import SERVICE, Reason

log = logging.getLogger(__name__)

# Seconds for which nothing but a server is to blame; what can't be reached for longer has to be left alone after all.
_EXCUSED = 3600.0

# The bot is in such a mesh no more, and the service has deleted its invitation, or there is no mesh.
_OUT = frozenset({Reason.KICKED, Reason.LEFT, Reason.GONE})


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learnt. `reason` is why the mesh is blocked, None if it is not; `excuse` why it is not.

    `saved` tells whether that is safe on disk.
    """

    reason: Reason | None
    excuse: str
    saved: bool


class Lessons:
    """Learns from failed units.

    Args:
        answers: tells whether Rave answers at all.
        now: seconds of a monotonic clock.
    """

    def __init__(
        self,
        records: Mapping[str, Record],
        census: Census,
        blocks: Blocks,
        answers: Callable[[], Awaitable[bool]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._census = census
        self._blocks = blocks
        self._answers = answers
        self._now = now
        self._excused: dict[str, tuple[float, float]] = {}  # by its server: since when, and until when in a row

    async def learn(self, mesh: str, unit: UnitState) -> Lesson:
        """Learn from the failed unit of a mesh, and wait until that is saved."""
        reason, detail = why_failed(unit)
        if reason is Reason.TOO_LARGE:
            detail = self._records[mesh].worker.last_error
        elif reason in (Reason.CONNECTION_FAILURES, Reason.REJECTED):
            # An earlier parent may have heard it.
            detail = self._records[mesh].worker.last_error or self._blocks.memory(mesh).last_error
        if reason is Reason.CONNECTION_FAILURES and (excuse := await self._excuse(mesh)):
            reason, detail = None, excuse
            if self._blocks.memory(mesh).failures:
                self._blocks.failed(mesh, 0, excuse)
        if reason is None:
            log.warning("Mesh %s has ended: %s", mesh, detail, extra=about(mesh, Event.ENDED))
            return Lesson(None, detail, saved=True)
        saved = self._blocks.add(mesh, reason, detail=detail)
        if reason in _OUT:
            self._census.leave(mesh)
        return Lesson(reason, "", saved=await saved)

    def kicked(self, mesh: str) -> None:
        """The child says so, as its end will: at once, because whatever it does next may fail."""
        self._census.leave(mesh)
        self._blocks.add(mesh, Reason.KICKED)

    def recall(self) -> None:
        """What an earlier process has learnt: lists may still have the meshes that it has left."""
        for mesh, block in self._blocks.in_force().items():
            if block.reason in _OUT:
                self._census.leave(mesh)

    def unlearn(self) -> None:
        """After a good round of discovery: a mesh that was gone, and is listed again, is there again.

        One that was left is joined again when the bot is invited again. (That a mesh is open is no invitation.)
        """
        listed = self._census.meshes or {}
        for mesh, block in self._blocks.in_force().items():
            if mesh not in listed or block.actor != SERVICE:
                continue
            if block.reason is Reason.GONE:
                log.info("Mesh %s is there again", mesh, extra=about(mesh))
                self._blocks.remove(mesh, SERVICE)
            elif block.reason is Reason.LEFT and listed[mesh].invited:
                log.info("Mesh %s invites the bot again", mesh, extra=about(mesh))
                self._blocks.remove(mesh, SERVICE)

    async def _excuse(self, mesh: str) -> str:
        """Why it is no fault of the mesh that it can't be reached; empty if it may be."""
        if not await self._answers():
            return "Rave does not answer"
        server = self._server(mesh)
        others = [
            record for record in self._records.values() if record.mesh != mesh and self._server(record.mesh) == server
        ]
        # Of those that are not blocked themselves, and have tried: one that waits for a place proves nothing.
        trying = [
            record for record in others if not record.block and (record.unit.running or record.worker.last_error)
        ]
        if server and trying and not any(record.worker.connected for record in trying) and self._excuses(mesh):
            return f"the server {server} lets nobody in"
        return ""

    def _excuses(self, mesh: str) -> bool:
        """Whether a mesh may blame its server once more; two that are gone must not excuse each other for ever."""
        now = self._now()
        since, last = self._excused.get(mesh, (now, now))
        if now - last > _EXCUSED:
            since = now
        elif now - since > _EXCUSED:
            del self._excused[mesh]
            return False
        self._excused[mesh] = (since, now)
        return True

    def _server(self, mesh: str) -> str | None:
        return self._records[mesh].server
