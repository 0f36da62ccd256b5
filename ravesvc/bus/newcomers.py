"""Calls of new connections, whose user is not known yet.

Scenario: a user with the right to read connects, calls and disconnects, again and again. Each connection is new, so
its call can't be queued for its user before the bus has said who that is. A call of root comes in the same way. So
the calls that one connection may leave here are bounded, and the latest connection is looked up first: root waits for
the lookups that are under way, not for all connections before it. When too many connections wait, those that have
waited longest are refused: most of these belong to the flood.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from ravesvc.bus import errors
from ravesvc.bus.header import Header
from ravesvc.bus.message import NO_REPLY_EXPECTED
from ravesvc.bus.transport import close_fds
from ravesvc.common.token_bucket import Rate, TokenBucket

# Connections that wait, and those of them that are looked up at once: the bus allows us 128 calls without a reply.
_MAX_WAITING, _MAX_LOOKUPS = 256, 32
# Calls of one connection, and their bytes. A bot that reconnects to the service makes six calls at once, and one may
# carry a document of 60 kB.
_MAX_HELD, _MAX_HELD_BYTES = 32, 80 * 1024
_REFUSAL_RATE = Rate(64, 8.0)

Enter = Callable[[Header, bytes, list[int]], None]
_Held = list[tuple[Header, bytes, list[int]]]


class Newcomers:
    """Holds the calls of new connections until `find(sender)` has returned the function to pass them to.

    If it returns None the calls are dropped. `find` raises nothing. `refuse(call, error_name, text)` answers a call
    with an error.
    """

    def __init__(
        self, find: Callable[[str], Awaitable[Enter | None]], refuse: Callable[[Header, str, str], None]
    ) -> None:
        self._find = find
        self._refuse = refuse
        self._waiting: OrderedDict[str, _Held] = OrderedDict()  # by connection, the latest last
        self._looking_up: dict[str, _Held] = {}
        self._refusals = TokenBucket(_REFUSAL_RATE, time.monotonic())
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, call: Header, frame: bytes, fds: list[int]) -> None:
        """Hold a call of a new connection; owns `fds`."""
        held = self._looking_up.get(call.sender) or self._waiting.get(call.sender) or []
        if len(held) >= _MAX_HELD or sum(len(each) for _, each, _ in held) + len(frame) > _MAX_HELD_BYTES:
            self._refuse_call(call, fds, "a new connection may not ask for so much before its first answer")
            return
        held.append((call, frame, fds))
        if len(held) == 1:
            self._waiting[call.sender] = held
            self._start_lookups()
            self._drop_oldest()

    async def close(self) -> None:
        """Drop what waits, and end the lookups."""
        while self._tasks:  # calls may come in meanwhile
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for held in (*self._waiting.values(), *self._looking_up.values()):
            for _, _, fds in held:
                close_fds(fds)
        self._waiting.clear()
        self._looking_up.clear()

    def _start_lookups(self) -> None:
        while self._waiting and len(self._looking_up) < _MAX_LOOKUPS:
            sender, held = self._waiting.popitem()
            self._looking_up[sender] = held
            task = asyncio.get_running_loop().create_task(self._look_up(sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look_up(self, sender: str) -> None:
        enter = await self._find(sender)
        held = self._looking_up.pop(sender)
        self._start_lookups()
        for call, frame, fds in held:
            if enter:
                enter(call, frame, fds)
            else:
                close_fds(fds)

    def _drop_oldest(self) -> None:
        while len(self._waiting) > _MAX_WAITING:
            _, held = self._waiting.popitem(last=False)
            for call, _, fds in held:
                self._refuse_call(call, fds, "too many new connections wait already")

    def _refuse_call(self, call: Header, fds: list[int], text: str) -> None:
        """Refuse a call; without an error if there are many, because an error costs as much as an answer."""
        close_fds(fds)
        if not call.flags & NO_REPLY_EXPECTED and self._refusals.take(time.monotonic()) == 0:
            self._refuse(call, errors.LIMITS_EXCEEDED, text)
