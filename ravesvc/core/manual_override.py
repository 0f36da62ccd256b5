"""What somebody does with the units behind our back: an operator's will, which we respect."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import Reason
from ravesvc.errors import RaveError
from ravesvc.systemd.unit_monitor import UnitMonitor
from ravesvc.systemd.unit_state import NO_JOB

log = logging.getLogger(__name__)

_ACTOR = "systemctl"
# A stop for good, told from a restart or a start; one that is over already can't be asked.
_STOPS = ("stop", "")


class ManualOverrides:
    """Holds the meshes whose units somebody stops, until somebody starts them."""

    def __init__(self, watch: UnitMonitor, blocks: Blocklist) -> None:
        self._watch = watch
        self._blocks = blocks

    async def adopt(self, running: Iterable[str]) -> None:
        """Before anything is done: what was started since it was held, while nobody listened, is meant to run."""
        for mesh in running:
            block = self._blocks.get(mesh)
            if block is None or block.reason is not Reason.HELD:
                continue
            try:
                since = await self._watch.active_since(mesh)
            except RaveError as e:
                log.warning("Whether an operator has started mesh %s could not be found out: %s", mesh, e)
                continue
            if since > self._blocks.to_wall_us(block.since):
                self.starting(mesh)

    async def stopping(self, mesh: str, job: str) -> None:
        """A unit stops by a job that is not ours: it was meant, unless all are stopped, or it is to run on."""
        try:
            # With the answer we have heard all that systemd has said before it, of the target too.
            if await self._watch.draining() or self._watch.drained_lately:
                return
            # A restart whose start systemd refused may be over before we look. It has failed; a stop is done.
            if self._watch.result(job) == "failed":
                return
            unit = self._watch.state(mesh)
            if unit.running or (unit.job != NO_JOB and await self._watch.job_type(unit.job) not in _STOPS):
                return
        except RaveError as e:
            log.warning("Whether an operator has stopped mesh %s could not be found out: %s", mesh, e)
            return
        self._blocks.add(mesh, Reason.HELD, actor=_ACTOR)

    def starting(self, mesh: str) -> bool:
        """A unit is being started by somebody else, which lifts a hold; tells whether something else blocks it."""
        block = self._blocks.get(mesh)
        if block and block.reason is Reason.HELD:
            self._blocks.remove(mesh, _ACTOR)
            return False
        return block is not None
