"""A worker's place on the bus: it joins with its object and its name, and joins again when the bus has gone away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, SignalMessage
from ravesvc.bus.matching import name_changes
from ravesvc.common.text import printable
from ravesvc.errors import RaveError
from ravesvc.mesh.worker_object import WorkerObject

_log = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_MAX_DELAY_S = 15.0


class BusMembership:
    """Keeps the worker on the bus. When the bus goes away, the worker joins again; the bot works on meanwhile.

    A new bus or a new parent knows nothing of this worker: `on_new_peer` is called for each.

    Attributes:
        bus: the connection; None while there is none.
    """

    def __init__(self, mesh: str, make_object: Callable[[], WorkerObject], on_new_peer: Callable[[], None]) -> None:
        self._mesh = mesh
        self._make_object = make_object
        self._on_new_peer = on_new_peer
        self.bus: Bus | None = None
        self._object: WorkerObject | None = None

    def emit(self, signal: str, *args: Any) -> None:
        """Send a signal. Without a bus it is lost; after `on_new_peer` the worker announces its state anew.

        Texts among the arguments are cut to what the parent keeps of them.
        """
        if self._object:
            self._object.emit(signal, *map(_cut, args))

    async def join(self) -> None:
        """Join the bus. Raises `RaveError` (Bus)."""
        bus = await Bus.connect()
        try:
            worker_object = self._make_object()
            bus.export(names.worker_path(self._mesh), worker_object)
            await bus.match(name_changes(names.BUS_NAME), self._owner_changed)
            try:
                # All workers are one user of the system, so a hostile one may have taken our name. We do without it:
                # the parent identifies us by the unit of our process, not by the name, and the bus lets it call
                # every connection that waits in the queue for such a name.
                if not await bus.queue_for_name(names.worker_name(self._mesh)):
                    _log.warning("Another process has this bot's name on the message bus")
            except RaveError as e:
                _log.warning("%s", e)
        except BaseException:
            await bus.close()
            raise
        self.bus, self._object = bus, worker_object
        self._on_new_peer()

    async def keep(self) -> None:
        """Stay on the bus, for ever."""
        delay = _FIRST_DELAY_S
        while True:
            if self.bus:
                await asyncio.shield(self.bus.lost)
                _log.warning("The bot has lost the message bus; it works on in its mesh")
                await self.leave()
                delay = _FIRST_DELAY_S
            # Hundreds of workers come back to the bus at the same time.
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            delay = min(2 * delay, _MAX_DELAY_S)
            try:
                await self.join()
            except RaveError as e:
                _log.debug("The bot could not join the message bus: %s", e)
            else:
                _log.info("The bot is on the message bus again")

    async def leave(self) -> None:
        """Leave the bus, after all signals have been sent."""
        bus, self.bus, self._object = self.bus, None, None
        if bus:
            await bus.close()

    def _owner_changed(self, signal: SignalMessage) -> None:
        _, _, owner = signal.body
        if owner:
            self._on_new_peer()


def _cut(value: object) -> object:
    return printable(value, names.MAX_REPORT_CHARS) if isinstance(value, str) else value
