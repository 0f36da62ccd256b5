"""In which form the servers of a mesh want chat, remembered over connections."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ravesvc.config.worker_options import AUTO
from ravesvc.errors import RaveError
from ravesvc.room.chat_form import ChatForm, ChatForms

_log = logging.getLogger(__name__)

_MAX_SERVERS = 16
_ADVICE_TIMEOUT_S = 2.0


class ChatFormMemory:
    """Keeps a `ChatForms` for each of the last servers that the mesh has been on."""

    def __init__(
        self, setting: str, ask_parent: Callable[[], Awaitable[str]], on_unshown: Callable[[], None]
    ) -> None:
        """Remember none so far.

        Args:
            setting: the option `chat_form`.
            ask_parent: returns the form that other bots have learned, or ""; raises `RaveError`.
            on_unshown: called when `unshown` has grown.
        """
        self._fixed = None if setting == AUTO else ChatForm(setting)
        self._ask_parent = ask_parent
        self._on_unshown = on_unshown
        self._by_host: dict[str, ChatForms] = {}  # the server used last is the last
        self._unshown_on_dropped = 0

    def of(self, host: str) -> ChatForms:
        """What is known of a server. A new one most likely wants the form of the server before it."""
        forms = self._by_host.pop(host, None)
        if forms is None:
            before = next(reversed(self._by_host.values()), None)
            first = before.form if before else ChatForm.REQUEST
            forms = ChatForms(self._fixed, time.monotonic, first=first, on_unshown=self._on_unshown)
        self._by_host[host] = forms
        while len(self._by_host) > _MAX_SERVERS:
            dropped = self._by_host.pop(next(iter(self._by_host)))
            self._unshown_on_dropped += dropped.unshown
        return forms

    async def ask(self, forms: ChatForms) -> None:
        """Begin with the form that other bots have learned, which saves us the wait for an echo."""
        try:
            async with asyncio.timeout(_ADVICE_TIMEOUT_S):
                form = await self._ask_parent()
        except (TimeoutError, RaveError) as e:
            _log.debug("The orchestrator did not say how other bots send chat: %s", e)
            return
        if form in tuple(ChatForm):
            forms.suggest(ChatForm(form))

    @property
    def unshown(self) -> int:
        """How many of our messages have had no echo."""
        return self._unshown_on_dropped + sum(forms.unshown for forms in self._by_host.values())

    def learned(self, host: str) -> str:
        """The form in which a server is known to show chat; empty while that is not known."""
        forms = self._by_host.get(host)
        return forms.form.value if forms and forms.known else ""
