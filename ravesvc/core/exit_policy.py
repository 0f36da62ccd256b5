"""Decides from a bot's exit whether to block its mesh.

A mesh is not blocked for a failure that it shares with most others: then the cause is Rave, the network or this host.
But the failures of one cause do not come at the same moment. Scenario: Rave's server stops, and bot A gives up first.
Judged alone, A would be blocked although nothing is wrong with its mesh. So the verdict on A waits a few seconds for
the failures of the others (`_OTHERS_FOLLOW_S`). If B and C fail later still, the verdict on C finds the common cause,
and removes the blocks of A and B if they are younger than a minute (`_TAKEN_BACK_S`).

On the other hand, meshes that no longer exist could excuse each other for ever. So a mesh may be excused only for a
bounded time in a row, see `_may_blame_others`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import SERVICE, Reason
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.config.worker_settings import NOT_HANDED_OVER
from ravesvc.core.inventory import Inventory
from ravesvc.core.mesh_state import MeshState
from ravesvc.core.outages import LEAST_MESHES, CommonCause, FailureKind, Outages
from ravesvc.core.run_state import RunEnd, RunPhase
from ravesvc.names import ExitStatus

log = logging.getLogger(__name__)

# Seconds in a row for which a mesh may be excused by a common cause; after that it is blocked all the same. When all
# meshes fail, a common cause is more certain, and the time is longer.
_MAX_BLAMING_S = 3600.0
_MAX_BLAMING_TOTAL_S = 24 * 3600.0

# Seconds for which the verdict on one mesh waits for failures of others, and the age in seconds up to which its block
# is removed when a common cause shows later.
_OTHERS_FOLLOW_S = 3.0
_TAKEN_BACK_S = 60.0

_REASONS: dict[ExitStatus | None, Reason] = {
    ExitStatus.KICKED: Reason.KICKED,
    ExitStatus.LEFT: Reason.LEFT,
    ExitStatus.GONE: Reason.GONE,
    ExitStatus.UNREACHABLE: Reason.CONNECTION_FAILURES,
    ExitStatus.REJECTED: Reason.REJECTED,
    ExitStatus.TOO_LARGE: Reason.TOO_LARGE,
}

# Exits for which a mesh is not blocked, each with the reason in words.
_NO_FAULT: dict[ExitStatus | None, str] = {
    ExitStatus.LOGIN_NEEDED: "Rave wants a new login",
    ExitStatus.ELSEWHERE: "the same account is connected to it elsewhere",
    ExitStatus.CONFIG: "its process could not use its settings",
    ExitStatus.NO_SETTINGS: f"its process was not handed its settings: {NOT_HANDED_OVER}",
}

# Reasons that may have a common cause, and the kind of failure to compare with those of other meshes.
_KINDS = {
    Reason.CONNECTION_FAILURES: FailureKind.CONNECTION,
    Reason.REJECTED: FailureKind.CONNECTION,
    Reason.GONE: FailureKind.CONNECTION,
    Reason.CRASHES: FailureKind.PROCESS,
}
# Descriptions for an exit that has no other.
_SAID: dict[Reason | None, str] = {
    Reason.GONE: "Rave says that there is no such mesh",
    Reason.REJECTED: "the server turned the bot away",
    Reason.CONNECTION_FAILURES: "it could not be reached",
}

# After these the bot is no longer in the mesh: the service has deleted the invitation, or the mesh does not exist.
_OUT = frozenset({Reason.KICKED, Reason.LEFT, Reason.GONE})


@dataclass(frozen=True, slots=True)
class ExitVerdict:
    """What was decided from an exit.

    Attributes:
        reason: why the mesh is blocked; None if it is not.
        outage_reason: in words, why the mesh is not blocked; empty if it is.
        saved: whether the block is on disk; true if there is none.
    """

    reason: Reason | None
    outage_reason: str
    saved: bool


class ExitPolicy:
    """Decides from the exits of bots which meshes are blocked, and removes blocks that were a mistake.

    Args:
        answers: returns whether Rave answers at all.
        outages: records failures, and finds those that have a common cause.
        now: seconds of a monotonic clock.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        records: Mapping[str, MeshState],
        inventory: Inventory,
        blocklist: Blocklist,
        answers: Callable[[], Awaitable[bool]],
        outages: Outages,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._inventory = inventory
        self._blocklist = blocklist
        self._answers = answers
        self._outages = outages
        self._now = now
        self._sleep = sleep
        self._blaming: dict[str, tuple[float, float]] = {}  # by mesh: since when, and until when in a row

    async def apply(self, mesh: str, end: RunEnd) -> ExitVerdict:
        """Decide from the end of a mesh's process whether to block the mesh, and wait until the block is saved."""
        reason, detail = why_ended(end)
        if reason is Reason.TOO_LARGE:
            detail = self._records[mesh].worker.last_error
        elif reason in (Reason.CONNECTION_FAILURES, Reason.REJECTED):
            # If the service was restarted since, only the blocklist file has the error that the bot reported.
            detail = self._records[mesh].worker.last_error or self._blocklist.memory(mesh).last_error
        kind = _KINDS.get(reason) if reason else _kind_without_fault(end)
        if end.status is ExitStatus.LOGIN_NEEDED and await self._answers():
            # Rave accepts the session from discovery, so it is the mesh's server that refuses it.
            kind = FailureKind.CONNECTION
        return await self._conclude(mesh, reason, detail, kind)

    async def _conclude(self, mesh: str, reason: Reason | None, detail: str, kind: FailureKind | None) -> ExitVerdict:
        """Block a mesh for `reason`, unless that is None or the failure of `kind` has a common cause."""
        block = self._blocklist.get(mesh)
        if kind and not (block and block.reason is reason):
            # Else it was judged before, and the block could not be saved, or not be forgotten. To ask Rave again ends
            # in a round of discovery, after which the end is looked at again, and so on.
            self._outages.failed(mesh, kind, self._server(mesh), detail or _SAID.get(reason, ""))
            outage_reason = await self._outage_reason(mesh, reason, kind)
            if reason and outage_reason:
                reason, detail = None, outage_reason
                if self._blocklist.memory(mesh).failures:
                    self._blocklist.record_failure(mesh, 0, outage_reason)
        if reason is None:
            log.warning("Mesh %s has ended: %s", mesh, detail, extra=about(mesh, LogEvent.ENDED))
            return ExitVerdict(None, detail, saved=True)
        saved = self._blocklist.add(mesh, reason, detail=detail)
        if reason in _OUT:
            self._inventory.leave(mesh)
        return ExitVerdict(reason, "", saved=await saved)

    def failed(self, mesh: str, words: str) -> None:
        """Record that a bot could not connect; it goes on trying."""
        self._outages.failed(mesh, FailureKind.CONNECTION, self._server(mesh), words)

    def crashed(self, mesh: str, words: str) -> None:
        """Record that the process of a mesh has crashed; it is restarted."""
        self._outages.failed(mesh, FailureKind.PROCESS, self._server(mesh), words)

    def kicked(self, mesh: str) -> None:
        """Block a mesh as soon as its bot reports a kick.

        The bot's exit will say the same, unless it crashes first; then the kick would be lost, and the bot would be
        sent back.
        """
        self._inventory.leave(mesh)
        self._blocklist.add(mesh, Reason.KICKED)

    def restore(self) -> None:
        """Restore from the blocklist which meshes the bot has left, since late lists may still have them."""
        for mesh, block in self._blocklist.in_force().items():
            if block.reason in _OUT:
                self._inventory.leave(mesh)

    def lift_gone(self) -> None:
        """Remove blocks that a good round of discovery shows to be over.

        A mesh that was gone is unblocked when it is listed again. A mesh from which the bot was sent away is
        unblocked only when the bot is invited again; that the mesh is open to all is no invitation.
        """
        listed = self._inventory.meshes or {}
        for mesh, block in self._blocklist.in_force().items():
            if mesh not in listed or block.actor != SERVICE:
                continue
            if block.reason is Reason.GONE:
                log.info("Mesh %s is there again", mesh, extra=about(mesh))
                self._blocklist.remove(mesh, SERVICE)
            elif block.reason is Reason.LEFT and listed[mesh].invited:
                log.info("Mesh %s invites the bot again", mesh, extra=about(mesh))
                self._blocklist.remove(mesh, SERVICE)

    async def _outage_reason(self, mesh: str, reason: Reason | None, kind: FailureKind) -> str:
        """In words, why a mesh is not blocked for a failure; empty if it is to be blocked."""
        if reason is Reason.GONE and await self._answers() and not self._inventory.lists(mesh):
            # Rave has said so to the bot and to discovery: no need to look at other meshes.
            return ""
        if common := await self._common_cause(mesh, kind):
            return common
        if kind is FailureKind.PROCESS or reason is None:
            return ""
        if not await self._answers():
            return "Rave does not answer"
        # Others may have failed while Rave was asked.
        if common := self._judge(mesh, kind):
            return common
        return self._servers_fault(mesh) if reason is Reason.CONNECTION_FAILURES else ""

    async def _common_cause(self, mesh: str, kind: FailureKind) -> str:
        """The common cause of a mesh's failure, in words; empty if there is none.

        If there is none yet, it waits a while for the failures of other meshes.
        """
        if common := self._judge(mesh, kind):
            return common
        if sum(not record.block for record in self._records.values()) < LEAST_MESHES:
            # Too few other meshes could still fail.
            return ""
        await self._sleep(_OTHERS_FOLLOW_S)
        return self._judge(mesh, kind)

    def _judge(self, mesh: str, kind: FailureKind) -> str:
        verdict = self._outages.judge(mesh, kind, self._fine(kind))
        if not verdict or not self._may_blame_others(mesh, _MAX_BLAMING_TOTAL_S if verdict.total else _MAX_BLAMING_S):
            return ""
        self._take_back(verdict)
        return verdict.describe()

    def _fine(self, kind: FailureKind) -> dict[str, str]:
        """The meshes that have no failure of this kind now, by id with their servers."""
        return {
            record.mesh: record.server or ""
            for record in self._records.values()
            if not record.block
            and (record.worker.connected if kind is FailureKind.CONNECTION else record.run.phase is RunPhase.RUNNING)
        }

    def _take_back(self, verdict: CommonCause) -> None:
        """Remove the recent blocks of meshes that failed for the same cause before it could be seen."""
        for mesh in sorted(verdict.meshes):
            block = self._blocklist.get(mesh)
            ours = block and block.actor == SERVICE and _KINDS.get(block.reason) is verdict.kind
            if ours and self._blocklist.blocked_for(mesh) < _TAKEN_BACK_S:
                log.info("Unblocking mesh %s, for a common cause: %s", mesh, verdict.describe(), extra=about(mesh))
                self._blocklist.remove(mesh, SERVICE)

    def _servers_fault(self, mesh: str) -> str:
        """In words, that no bot can connect to the server of a mesh; empty if one can, or if no other has tried.

        Unlike a common cause this needs only one other mesh.
        """
        server = self._server(mesh)
        others = [
            record for record in self._records.values() if record.mesh != mesh and self._server(record.mesh) == server
        ]
        # Only meshes that have tried count: one that is blocked or waits for a place says nothing of the server.
        trying = [record for record in others if not record.block and (record.run.runs or record.worker.last_error)]
        if (
            server
            and trying
            and not any(record.worker.connected for record in trying)
            and self._may_blame_others(mesh)
        ):
            return f"the server {server} lets no bot in"
        return ""

    def _may_blame_others(self, mesh: str, most: float = _MAX_BLAMING_S) -> bool:
        """Whether a mesh may be excused once more: for at most `most` seconds in a row.

        Without that bound, meshes that no longer exist would excuse each other for ever.
        """
        now = self._now()
        since, last = self._blaming.get(mesh, (now, now))
        if now - last > _MAX_BLAMING_S:
            since = now
        elif now - since > most:
            # The entry stays, so that a second question about the same failure gets the same answer. The count begins
            # anew when the mesh was not excused for longer than `_MAX_BLAMING_S`.
            return False
        self._blaming[mesh] = (since, now)
        return True

    def _server(self, mesh: str) -> str | None:
        return self._records[mesh].server


def _kind_without_fault(end: RunEnd) -> FailureKind | None:
    """The kind of a failure that blocks no mesh but may be part of an outage; None if it can't be."""
    if end.status is ExitStatus.ELSEWHERE:
        return FailureKind.CONNECTION
    return FailureKind.PROCESS if end.misconfigured or end.timed_out else None


def why_ended(end: RunEnd) -> tuple[Reason | None, str]:
    """Why to block a mesh whose process has ended like this, and the detail in words.

    The reason is None if the mesh is not at fault; a later good round of discovery starts it again.
    """
    if end.status in _REASONS:
        return _REASONS[end.status], ""
    if end.status in _NO_FAULT:
        return None, _NO_FAULT[end.status]
    if end.timed_out:
        # The machine was too busy to start it in time, or the process did not react to a stop.
        return None, "its process took too long to start or to stop, and was killed"
    if end.gave_up:
        return Reason.CRASHES, end.detail
    return (
        None,
        "it was started by hand too often" if end.refused else "its process failed while it was being stopped",
    )
