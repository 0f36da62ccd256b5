"""Loads, changes and saves the settings of a room, which the service stores."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from ravesvc.bot.backend import Backend
from ravesvc.bot.room_settings import RoomOption, RoomSettings
from ravesvc.errors import RaveError

log = logging.getLogger(__name__)

_DOCUMENT = "settings"
# Until the service is asked again: doubled each time, up to the second.
_FIRST_RETRY_S, _MAX_RETRY_S = 2.0, 60.0


class SettingsKeeper:
    """The settings of one room. Until the service has answered they are the defaults.

    Attributes:
        settings: in force now.
    """

    def __init__(
        self,
        backend: Backend,
        apply: Callable[[RoomSettings], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare it; `apply` is called with the settings whenever they have changed."""
        self.settings = RoomSettings()
        self._backend = backend
        self._apply = apply
        self._sleep = sleep
        self._loaded = False
        # A change is read, written and applied before the next one begins.
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """`load`, and never return: the worker ends when one of its tasks returns."""
        await self.load()
        await asyncio.Event().wait()

    async def load(self) -> None:
        """Load the settings from the service and apply them; retries until it has answered."""
        retry = _FIRST_RETRY_S
        while True:
            try:
                async with self._lock:
                    await self._load()
            except RaveError as error:
                log.debug("The settings of the room can't be read yet: %s", error)
            else:
                return
            await self._sleep(retry * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
            retry = min(2 * retry, _MAX_RETRY_S)

    async def change(self, option: RoomOption, text: str) -> None:
        """Set an option, as an admin writes it; it is safe with the service before it holds.

        Raises `RaveError`: InvalidArgument for a value that makes no sense, and what the service says.
        """
        async with self._lock:
            # Without this the defaults would overwrite the stored settings.
            await self._load()
            settings = self.settings.with_value(option, text)
            if settings != self.settings:
                await self._backend.write_document(_DOCUMENT, settings.to_json())
                self._set(settings)

    async def _load(self) -> None:
        if self._loaded:
            return
        text = await self._backend.read_document(_DOCUMENT)
        self._loaded = True
        try:
            settings = RoomSettings() if text is None else RoomSettings.from_json(text)
        except RaveError as error:
            log.warning("The settings of the room can't be read: %s", error)
            settings = RoomSettings()
        self._set(settings)

    def _set(self, settings: RoomSettings) -> None:
        if settings != self.settings:
            self.settings = settings
            self._apply(settings)
