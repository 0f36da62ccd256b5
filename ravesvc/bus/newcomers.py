"""Calls of connections whose user is not known yet.

Scenario: a user who may look connects, calls and disconnects, again and again. Each connection is a new one, so its
call can't be put into the queue of its user before the bus was asked for that, and root's call comes in the same way.
So each connection may leave little here, whatever the others do, and the latest is asked for first: a question of
root waits for what is on its way, not for all that came before. When more come than can be asked for, those that have
waited longest are refused, which are those that a flood has left behind.
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

# Connections that wait, and those of them that are asked for: the bus lets us have 128 calls on their way.
_MAX_WAITING, _MAX_ASKED = 256, 32
# What one connection may leave. A bot that finds the service back asks for six things at once, and may have to write
# a document of 60 kB.
_MAX_HELD, _MAX_HELD_BYTES = 32, 80 * 1024
_REFUSALS = Rate(64, 8.0)

Enter = Callable[[Header, bytes, list[int]], None]
_Held = list[tuple[Header, bytes, list[int]]]


class Newcomers:
    """Holds the calls of new connections until `find(sender)` tells how they come in; None: not at all.

    `find` raises nothing. `refuse(call, error_name, text)` answers a call with an error.
    """

    def __init__(
        self, find: Callable[[str], Awaitable[Enter | None]], refuse: Callable[[Header, str, str], None]
    ) -> None:
        self._find = find
        self._refuse = refuse
        self._waiting: OrderedDict[str, _Held] = OrderedDict()  # by connection, the latest last
        self._asked: dict[str, _Held] = {}
        self._refusals = TokenBucket(_REFUSALS, time.monotonic())
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, call: Header, frame: bytes, fds: list[int]) -> None:
        """Take a call of a new connection; owns `fds`."""
        held = self._asked.get(call.sender) or self._waiting.get(call.sender) or []
        if len(held) >= _MAX_HELD or sum(len(each) for _, each, _ in held) + len(frame) > _MAX_HELD_BYTES:
            self._turn_away(call, fds, "a new connection may not ask for so much before its first answer")
            return
        held.append((call, frame, fds))
        if len(held) == 1:
            self._waiting[call.sender] = held
            self._ask()
            self._drop_oldest()

    async def close(self) -> None:
        """Serve nothing more."""
        while self._tasks:  # calls may come in meanwhile
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for held in (*self._waiting.values(), *self._asked.values()):
            for _, _, fds in held:
                close_fds(fds)
        self._waiting.clear()
        self._asked.clear()

    def _ask(self) -> None:
        while self._waiting and len(self._asked) < _MAX_ASKED:
            sender, held = self._waiting.popitem()
            self._asked[sender] = held
            task = asyncio.get_running_loop().create_task(self._let_in(sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _let_in(self, sender: str) -> None:
        enter = await self._find(sender)
        held = self._asked.pop(sender)
        self._ask()
        for call, frame, fds in held:
            if enter:
                enter(call, frame, fds)
            else:
                close_fds(fds)

    def _drop_oldest(self) -> None:
        while len(self._waiting) > _MAX_WAITING:
            _, held = self._waiting.popitem(last=False)
            for call, _, fds in held:
                self._turn_away(call, fds, "too many new connections wait already")

    def _turn_away(self, call: Header, fds: list[int], text: str) -> None:
        """Refuse a call, and in silence if there are many: an error costs as much as an answer."""
        close_fds(fds)
        if not call.flags & NO_REPLY_EXPECTED and self._refusals.take(time.monotonic()) == 0:
            self._refuse(call, errors.LIMITS_EXCEEDED, text)
