"""Meshes that the bot has left because it was alone there: it is still invited, and comes back with company.

No entry of the blocklist says so, because an operator need not lift it. It is remembered beside them, on disk, so
that a restart does not send the bots into empty rooms, which they would not leave again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ravesvc.blocklist.blocklist import Blocklist
from ravesvc.common.log_fields import LogEvent, about
from ravesvc.core.inventory import Inventory

log = logging.getLogger(__name__)


class LeftAlone:
    """Knows in which meshes there is none. `own_user` tells who we are: other devices of ours are no company."""

    def __init__(self, census: Inventory, blocks: Blocklist, own_user: Callable[[], int]) -> None:
        self._census = census
        self._blocks = blocks
        self._own_user = own_user

    def missed(self, mesh: str) -> asyncio.Future[bool]:
        """A bot has left for want of it; the future tells whether that is safe on disk."""
        log.info("Mesh %s is empty, the bot has left until there is company", mesh, extra=about(mesh, LogEvent.ENDED))
        return self._blocks.set_left_alone(mesh)

    @property
    def wanting(self) -> set[str]:
        """Those that were left, and where lists show no human yet."""
        listed, own = self._census.meshes or {}, self._own_user()
        return {
            mesh
            for mesh in self._blocks.alone
            if mesh not in listed or all(user == own for user in listed[mesh].users)
        }

    def welcome(self) -> None:
        """After a good round of discovery: forget those where there is a human, or that are listed no more."""
        gone = self._blocks.alone - self._census.known if self._census.whole else set()
        for mesh in self._blocks.alone - self.wanting | gone:
            self._blocks.clear_left_alone(mesh)
