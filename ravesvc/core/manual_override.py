"""Respects what an operator does to a bot's process by systemctl, past the service.

A process that an operator stops by hand must not be started again by the next plan. So its mesh is held until an
operator starts it.
"""

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
    """Sets a hold when an operator stops a process by hand, and lifts it when an operator starts one."""

    def __init__(self, runner: Runner, blocklist: Blocklist) -> None:
        self._runner = runner
        self._blocklist = blocklist
        # By mesh, of those whose answer is awaited.
        self._latest_orders: dict[str, str] = {}

    async def adopt(self, running: Iterable[str]) -> None:
        """Lift the holds of meshes that were started by hand while no service ran.

        Call it before the first start or stop, since those would change when a process was started.
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
                self.lift_hold(mesh)

    async def hold_if_stopped_by_hand(self, mesh: str, order: str) -> None:
        """Hold a mesh whose process is stopped by an order that is not the service's, if an operator has given it.

        Scenario: an operator restarts a mesh again and again, until systemd refuses the last start. The question
        about an earlier restart is answered only then, when the process is gone. So what counts is the latest order.
        """
        self._latest_orders[mesh] = order
        try:
            by_hand = await self._runner.was_stopped_by_hand(mesh, order)
        except RaveError as e:
            log.warning("Whether an operator has stopped mesh %s could not be found out: %s", mesh, e)
            by_hand = False
        if self._latest_orders.get(mesh) == order:
            del self._latest_orders[mesh]
            if by_hand:
                self._blocklist.add(mesh, Reason.HELD, actor=_ACTOR)

    def lift_hold(self, mesh: str) -> None:
        """Lift the hold of a mesh that an operator has started by hand. Another block stays in force."""
        block = self._blocklist.get(mesh)
        if block and block.reason is Reason.HELD:
            self._blocklist.remove(mesh, _ACTOR)
