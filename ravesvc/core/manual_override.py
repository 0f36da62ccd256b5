"""What an operator does with the processes of meshes without the service, by systemctl: it is respected."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.blocklist.model import Reason
from ravesvc.core.runner import Runner
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

_ACTOR = "systemctl"


class ManualOverrides:
    """Holds a mesh whose process an operator stops by hand, until an operator starts it."""

    def __init__(self, runner: Runner, blocklist: Blocklist) -> None:
        self._runner = runner
        self._blocklist = blocklist

    async def adopt(self, running: Iterable[str]) -> None:
        """Lift the holds of meshes that were started by hand while no service ran.

        To be called before anything is started or stopped.
        """
        for mesh in running:
            block = self._blocklist.get(mesh)
            if block is None or block.reason is not Reason.HELD:
                continue
            try:
                started_at_us = await self._runner.started_at_us(mesh)
            except RaveError as e:
                log.warning("Whether an operator has started mesh %s could not be found out: %s", mesh, e)
                continue
            if started_at_us > self._blocklist.to_wall_us(block.since):
                self.starting(mesh)

    async def stopping(self, mesh: str, order: str) -> None:
        """A process stops by an order that the service has not given: hold its mesh, if an operator meant that."""
        try:
            by_hand = await self._runner.was_stopped_by_hand(mesh, order)
        except RaveError as e:
            log.warning("Whether an operator has stopped mesh %s could not be found out: %s", mesh, e)
            return
        if by_hand:
            self._blocklist.add(mesh, Reason.HELD, actor=_ACTOR)

    def starting(self, mesh: str) -> bool:
        """An operator starts a process by hand, which lifts a hold; returns whether another block remains."""
        block = self._blocklist.get(mesh)
        if block and block.reason is Reason.HELD:
            self._blocklist.remove(mesh, _ACTOR)
            return False
        return block is not None
