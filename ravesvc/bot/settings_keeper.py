"""Loads, changes and saves the settings of a room, of the bot and of its plugins, which the service stores."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ravesvc.bot.backend import MAX_DOCUMENT_BYTES
from ravesvc.bot.room_settings import OPTIONS, RoomOption, RoomSettings
from ravesvc.bot.text import plain
from ravesvc.common.spelling import fold
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

if TYPE_CHECKING:
    from ravesvc.bot.backend import Backend
    from ravesvc.bot.command import Registry
    from ravesvc.bot.plugin_settings import Setting

RoomSetting: TypeAlias = "RoomOption | Setting[Any]"
# A setting in words: its name, its value, what it is, and what may be written. No class: each bot would have it.
Described: TypeAlias = tuple[str, str, str, str]

log = logging.getLogger(__name__)

_DOCUMENT = "settings"
# Until the service is asked again: doubled each time, up to the second.
_FIRST_RETRY_S, _MAX_RETRY_S = 2.0, 60.0
# Of a word that may be the name of a setting. No name is longer.
_MAX_NAME_CHARS = 65
# Of a value in a list, and bytes of a list: half of what the service takes from a bot.
_MAX_LISTED_CHARS, _MAX_LIST_BYTES = 60, 32 * 1024


class SettingsKeeper:
    """The settings of one room. Until the service has answered they are the defaults.

    Attributes:
        settings: in force now.
    """

    def __init__(
        self,
        backend: Backend,
        apply: Callable[[RoomSettings], None],
        registry: Registry,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare it; `apply` is called with the settings whenever they have changed, `registry` has the plugins."""
        self.settings = RoomSettings()
        self._backend = backend
        self._apply = apply
        self._registry = registry
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

    async def change(self, name: str, text: str) -> Described:
        """Change a setting, as an admin writes it, and return it; it is safe with the service before it holds.

        Raises `RaveError`: InvalidArgument for a name or value that makes no sense, TooLarge, and what the service
        says.
        """
        setting = self.find(name)
        async with self._lock:
            # Without this the defaults would overwrite the stored settings.
            await self._load()
            settings = setting.set_in(self.settings, text)
            if settings != self.settings:
                document = settings.to_json()
                if len(document.encode()) > MAX_DOCUMENT_BYTES:
                    what = _("the settings of a room have at most {n} KiB", n=MAX_DOCUMENT_BYTES >> 10)
                    raise RaveError(Code.TOO_LARGE, what, hint=_("reset one of them first"))
                await self._backend.write_document(_DOCUMENT, document)
                self._set(settings)
        return self.described(setting)

    def of_plugins(self) -> dict[str, list[Setting[Any]]]:
        """The settings that the plugins in force declare, by the word for the plugin."""
        found: dict[str, list[Setting[Any]]] = {}
        for part in self._registry.parts:
            for setting in part.settings:
                found.setdefault(setting.plugin, []).append(setting)
        return dict(sorted(found.items()))

    def find(self, word: str) -> RoomSetting:
        """The setting of that name; raises `RaveError` (InvalidArgument), in words for the chat, if there is none."""
        name, plugins = fold(word[:_MAX_NAME_CHARS]), self.of_plugins()
        of_plugin = plugins.get(name.partition(".")[0], [])
        known: list[RoomSetting] = [*OPTIONS, *of_plugin]
        for setting in known:
            if setting.name == name:
                return setting
        names = [each.name for each in of_plugin] or [*(each.name for each in OPTIONS), *plugins]
        what = _("there is no setting {name}", name=plain(word, _MAX_NAME_CHARS))
        raise RaveError(Code.INVALID_ARGUMENT, what, hint=_("there are: {names}", names=", ".join(names)))

    def described(self, setting: RoomSetting) -> Described:
        """A setting with its value."""
        return setting.name, setting.shown_in(self.settings), setting.sentence, setting.values

    def listed(self) -> tuple[list[Described], int]:
        """All settings, with long values cut, as far as they fit into one message; and how many there are."""
        known: list[RoomSetting] = [*OPTIONS, *(each for found in self.of_plugins().values() for each in found)]
        listed: list[Described] = []
        left = _MAX_LIST_BYTES
        for name, value, sentence, values in map(self.described, known):
            line = name, plain(value, _MAX_LISTED_CHARS), sentence, values
            # Each text has its length and an end, and may have to be aligned.
            left -= sum(len(text.encode()) + 8 for text in line)
            if left < 0:
                break
            listed.append(line)
        return listed, len(known)

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
