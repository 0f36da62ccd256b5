"""What the end of a child teaches: whether its mesh is to be left alone, or can't help it."""

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

# Seconds for which nothing but a server is to blame; what can't be reached for longer has to be left alone after all.
# Where no mesh at all is spared there is less doubt.
_EXCUSED_S = 3600.0
_EXCUSED_TOTAL_S = 24 * 3600.0

# Seconds that the failure of one mesh waits for those of the others, and after which it has been its own.
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

# Nothing that a mesh could be blocked for.
_NO_FAULT: dict[ExitStatus | None, str] = {
    ExitStatus.LOGIN_NEEDED: "Rave wants a new login",
    ExitStatus.ELSEWHERE: "the same account is connected to it elsewhere",
    ExitStatus.CONFIG: "its process could not use its settings",
    ExitStatus.NO_SETTINGS: f"its process was not handed its settings: {NOT_HANDED_OVER}",
}

# What may be no fault of the mesh, and what has failed then.
_KINDS = {
    Reason.CONNECTION_FAILURES: FailureKind.CONNECTION,
    Reason.REJECTED: FailureKind.CONNECTION,
    Reason.GONE: FailureKind.CONNECTION,
    Reason.CRASHES: FailureKind.PROCESS,
}
# What is said of them when nothing else is.
_SAID: dict[Reason | None, str] = {
    Reason.GONE: "Rave says that there is no such mesh",
    Reason.REJECTED: "the server turned the bot away",
    Reason.CONNECTION_FAILURES: "it could not be reached",
}

# The bot is in such a mesh no more, and the service has deleted its invitation, or there is no mesh.
_OUT = frozenset({Reason.KICKED, Reason.LEFT, Reason.GONE})


@dataclass(frozen=True, slots=True)
class ExitVerdict:
    """What was learnt. `reason` is why the mesh is blocked, None if it is not; `excuse` why it is not.

    `saved` tells whether that is safe on disk.
    """

    reason: Reason | None
    excuse: str
    saved: bool


class ExitPolicy:
    """Learns from processes that have ended.

    Args:
        answers: tells whether Rave answers at all.
        outages: notes what is no mesh's own fault.
        now: seconds of a monotonic clock.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        records: Mapping[str, MeshState],
        census: Inventory,
        blocks: Blocklist,
        answers: Callable[[], Awaitable[bool]],
        outages: Outages,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._census = census
        self._blocks = blocks
        self._answers = answers
        self._outages = outages
        self._now = now
        self._sleep = sleep
        self._excused: dict[str, tuple[float, float]] = {}  # by mesh: since when, and until when in a row

    async def learn(self, mesh: str, end: RunEnd) -> ExitVerdict:
        """Learn from the end of a mesh's process, and wait until that is saved."""
        reason, detail = why_ended(end)
        if reason is Reason.TOO_LARGE:
            detail = self._records[mesh].worker.last_error
        elif reason in (Reason.CONNECTION_FAILURES, Reason.REJECTED):
            # An earlier parent may have heard it.
            detail = self._records[mesh].worker.last_error or self._blocks.memory(mesh).last_error
        kind = _KINDS.get(reason) if reason else _kind_without_fault(end)
        if end.status is ExitStatus.LOGIN_NEEDED and await self._answers():
            # Discovery's session is good, so it is something else that wants another one.
            kind = FailureKind.CONNECTION
        return await self._conclude(mesh, reason, detail, kind)

    async def _conclude(self, mesh: str, reason: Reason | None, detail: str, kind: FailureKind | None) -> ExitVerdict:
        """Block a mesh for this reason, if there is one, unless it is no fault of the mesh."""
        if kind:
            self._outages.failed(mesh, kind, self._server(mesh), detail or _SAID.get(reason, ""))
            excuse = await self._excuse(mesh, reason, kind)
            if reason and excuse:
                reason, detail = None, excuse
                if self._blocks.memory(mesh).failures:
                    self._blocks.record_failure(mesh, 0, excuse)
        if reason is None:
            log.warning("Mesh %s has ended: %s", mesh, detail, extra=about(mesh, LogEvent.ENDED))
            return ExitVerdict(None, detail, saved=True)
        saved = self._blocks.add(mesh, reason, detail=detail)
        if reason in _OUT:
            self._census.leave(mesh)
        return ExitVerdict(reason, "", saved=await saved)

    def failed(self, mesh: str, words: str) -> None:
        """An attempt to connect to a mesh has failed; its bot goes on trying."""
        self._outages.failed(mesh, FailureKind.CONNECTION, self._server(mesh), words)

    def crashed(self, mesh: str, words: str) -> None:
        """The process of a mesh has ended by itself, and is started again."""
        self._outages.failed(mesh, FailureKind.PROCESS, self._server(mesh), words)

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

    async def _excuse(self, mesh: str, reason: Reason | None, kind: FailureKind) -> str:
        """Why it is no fault of the mesh that it has failed; empty if it may be."""
        if reason is Reason.GONE and await self._answers() and not self._census.lists(mesh):
            # Two answers of Rave say the same, whatever happens to others.
            return ""
        if common := await self._common_cause(mesh, kind):
            return common
        if kind is FailureKind.PROCESS or reason is None:
            return ""
        if not await self._answers():
            return "Rave does not answer"
        # The others may have followed meanwhile.
        if common := self._judge(mesh, kind):
            return common
        return self._servers_fault(mesh) if reason is Reason.CONNECTION_FAILURES else ""

    async def _common_cause(self, mesh: str, kind: FailureKind) -> str:
        """The cause that a mesh's failure shares with those of most others, in words; empty if there is none."""
        if common := self._judge(mesh, kind):
            return common
        if sum(not record.block for record in self._records.values()) < LEAST_MESHES:
            # There are no others that could follow.
            return ""
        await self._sleep(_OTHERS_FOLLOW_S)
        return self._judge(mesh, kind)

    def _judge(self, mesh: str, kind: FailureKind) -> str:
        verdict = self._outages.judge(mesh, kind, self._fine(kind))
        if not verdict or not self._excuses(mesh, _EXCUSED_TOTAL_S if verdict.total else _EXCUSED_S):
            return ""
        self._take_back(verdict)
        return verdict.describe()

    def _fine(self, kind: FailureKind) -> dict[str, str]:
        """The meshes that show no such failure, with their servers."""
        return {
            record.mesh: record.server or ""
            for record in self._records.values()
            if not record.block
            and (record.worker.connected if kind is FailureKind.CONNECTION else record.run.phase is RunPhase.RUNNING)
        }

    def _take_back(self, verdict: CommonCause) -> None:
        """Lift the blocks of those that were judged before the others had failed, too."""
        for mesh in verdict.meshes:
            block = self._blocks.get(mesh)
            ours = block and block.actor == SERVICE and _KINDS.get(block.reason) is verdict.kind
            if ours and self._blocks.blocked_for(mesh) < _TAKEN_BACK_S:
                log.info("The block of mesh %s is taken back: %s", mesh, verdict.describe(), extra=about(mesh))
                self._blocks.remove(mesh, SERVICE)

    def _servers_fault(self, mesh: str) -> str:
        """Whether the server of a mesh lets none of the others in either, of which there may be few; empty if not."""
        server = self._server(mesh)
        others = [
            record for record in self._records.values() if record.mesh != mesh and self._server(record.mesh) == server
        ]
        # Of those that are not blocked themselves, and have tried: one that waits for a place proves nothing.
        trying = [record for record in others if not record.block and (record.run.runs or record.worker.last_error)]
        if server and trying and not any(record.worker.connected for record in trying) and self._excuses(mesh):
            return f"the server {server} lets no bot in"
        return ""

    def _excuses(self, mesh: str, most: float = _EXCUSED_S) -> bool:
        """Whether a mesh may blame others once more; those that are gone must not excuse each other for ever.

        `most` is for how many seconds in a row it may.
        """
        now = self._now()
        since, last = self._excused.get(mesh, (now, now))
        if now - last > _EXCUSED_S:
            since = now
        elif now - since > most:
            # Asked again at once it says the same; the block then takes longer than that.
            return False
        self._excused[mesh] = (since, now)
        return True

    def _server(self, mesh: str) -> str | None:
        return self._records[mesh].server


def _kind_without_fault(end: RunEnd) -> FailureKind | None:
    """What has failed in a mesh that is not at fault in any case, and may be only one of many."""
    if end.status is ExitStatus.ELSEWHERE:
        return FailureKind.CONNECTION
    return FailureKind.PROCESS if end.misconfigured or end.timed_out else None


def why_ended(end: RunEnd) -> tuple[Reason | None, str]:
    """Why the mesh is to be blocked whose process has ended so, and the detail in words.

    No reason means that the mesh is not at fault. It is then started again after the next good round of discovery.
    """
    if end.status in _REASONS:
        return _REASONS[end.status], ""
    if end.status in _NO_FAULT:
        return None, _NO_FAULT[end.status]
    if end.timed_out:
        # A machine that is too busy to start it in time, or a stop that it did not follow.
        return None, "its process took too long to start or to stop, and was killed"
    if end.gave_up:
        return Reason.CRASHES, end.detail
    return (
        None,
        "it was started by hand too often" if end.refused else "its process failed while it was being stopped",
    )
