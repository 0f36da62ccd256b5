"""Display names of users: looked up in batches, remembered for a while, fit to be shown."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from ravesvc.bot.mentions import Member
from ravesvc.bot.text import plain
from ravesvc.common.text import count
from ravesvc.common.translation import gettext as _
from ravesvc.errors import Code, RaveError

log = logging.getLogger(__name__)

# From user ids to the display names of those that exist; raises RaveError.
Lookup: TypeAlias = Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]

_MAX_NAMES = 512
_KEEP_S = 3600.0
_KEEP_FAILURE_S = 60.0
# After this time a greeting is sent without the name.
_LOOKUP_TIMEOUT_S = 5.0
_MAX_NAME_CHARS = 40


class _Entry(NamedTuple):
    name: str | None
    expires_at: float


class DisplayNames:
    """The display names of users in one mesh."""

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        # A caller that waits for the lock finds the names that the look-up before it has stored.
        self._lookup_lock = asyncio.Lock()

    async def name(self, user_id: int | None) -> str:
        """The user's display name, or a stand-in if Rave gives none. Never a peer id: that holds a device id."""
        if user_id is None:
            return "a user"
        await self.prefetch([user_id])
        entry = self._entries.get(user_id)
        return (entry and entry.name) or f"User {user_id}"

    async def member(self, user_id: int | None) -> Member:
        """The user as one to be mentioned. Raises `RaveError` (InvalidArgument) for one without a user id."""
        if user_id is None:
            raise RaveError(Code.INVALID_ARGUMENT, _("Rave does not say who that is"))
        return Member(user_id, await self.name(user_id))

    async def name_and_id(self, user_id: int) -> str:
        """The user's name, and the id, which no other user can have."""
        name, stand_in = await self.name(user_id), f"User {user_id}"
        return name if name == stand_in else f"{name} ({user_id})"

    async def prefetch(self, user_ids: Iterable[int]) -> None:
        """Look up, in one request, all names that are not stored or have expired. Does not fail."""
        # If thousands of users join at once, look up no more than fit into the store.
        wanted = [user_id for user_id in user_ids if not self._is_fresh(user_id)][:_MAX_NAMES]
        if not wanted:
            return
        async with self._lookup_lock:
            missing = [user_id for user_id in wanted if not self._is_fresh(user_id)]
            if missing:
                self._remember(missing, await self._look_up(missing))

    def forget(self, user_id: int) -> None:
        """Delete the stored name of a user."""
        self._entries.pop(user_id, None)

    def _is_fresh(self, user_id: int) -> bool:
        entry = self._entries.get(user_id)
        if entry is None or entry.expires_at <= self._clock():
            return False
        self._entries.move_to_end(user_id)
        return True

    async def _look_up(self, user_ids: list[int]) -> Mapping[int, str]:
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                return await self._lookup(user_ids)
        except (RaveError, TimeoutError) as error:
            users = count(len(user_ids), "user")
            log.warning("cannot look up the names of %s: %s", users, str(error) or "no answer in time")
            return {}

    def _remember(self, asked: list[int], found: Mapping[int, str]) -> None:
        now = self._clock()
        for user_id in asked:
            name = _shown(found.get(user_id, ""))
            lifetime_s = _KEEP_S if name else _KEEP_FAILURE_S
            self._entries[user_id] = _Entry(name or None, now + lifetime_s)
            self._entries.move_to_end(user_id)
        while len(self._entries) > _MAX_NAMES:
            self._entries.popitem(last=False)


def _shown(name: str) -> str:
    """A name for chat texts, which may begin with it: another bot must not take it for a command, such as ?leave."""
    name = plain(name, _MAX_NAME_CHARS)
    return name[next((at for at, char in enumerate(name) if char.isalnum()), len(name)) :]
