"""Meshes that the bot has left because no other user was there. It joins them again when a list shows one.

They are no entries of the blocklist, since no operator has to unblock them. But they are saved in its file. Otherwise
a restart of the service would send the bots back into empty rooms, and they would stay there.
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
    """Keeps account of the meshes that were left as empty.

    Args:
        own_user: returns the user id of the bot's account, whose other devices are no company; 0 if it is not known.
    """

    def __init__(self, inventory: Inventory, blocklist: Blocklist, own_user: Callable[[], int]) -> None:
        self._inventory = inventory
        self._blocklist = blocklist
        self._own_user = own_user

    def add(self, mesh: str) -> asyncio.Future[bool]:
        """Record that a bot has left an empty mesh; the future's result is whether that was saved."""
        log.info("Mesh %s is empty, the bot has left until there is company", mesh, extra=about(mesh, LogEvent.ENDED))
        return self._blocklist.set_left_alone(mesh)

    @property
    def still_empty(self) -> set[str]:
        """The ids of meshes that were left as empty, and in which lists still show no other user."""
        listed, own = self._inventory.meshes or {}, self._own_user()
        return {
            mesh
            for mesh in self._blocklist.alone
            if mesh not in listed or all(user == own for user in listed[mesh].users)
        }

    def round_finished(self) -> None:
        """After a good round of discovery, forget meshes that have another user now, or are no longer listed."""
        gone = self._blocklist.alone - self._inventory.known if self._inventory.whole else set()
        for mesh in self._blocklist.alone - self.still_empty | gone:
            self._blocklist.clear_left_alone(mesh)
