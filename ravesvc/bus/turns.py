"""Whose call is served next: callers take turns, so that one that asks without end keeps only itself waiting.

Scenario: a user who may look opens 20 connections and asks on each for all objects, again and again. Served in the
order in which the bus delivers, the one question of root came after thousands of theirs, and nothing else was done
meanwhile. So calls are read as fast as they come, and wait in a queue of their caller. One call at a time is served,
of one caller after another; each may use a quarter of the time, all together a half. What finds no room in the queue
is refused, some times a second with an error, and else in silence: an error costs as much as an answer.

The bus, too, takes from us what it can: 2 kB of each connection by turns, which under a flood is some 100 kB a
second. An answer to root stands behind all that was written before. So one answer at a time is written for those who
take turns, when the bus has taken the one before.

Callers are told apart by what `group` says of a connection, such as its user. Those of no group are served at once.
Those of which it can't be told (`group` raises `RaveError`) take turns for now. Until it is told, calls wait in
`newcomers`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import coroutine
from typing import Any, Protocol

from ravesvc.bus import errors
from ravesvc.bus.errors import DBusErrorReply
from ravesvc.bus.header import Header
from ravesvc.bus.message import NO_REPLY_EXPECTED
from ravesvc.bus.newcomers import Enter, Newcomers
from ravesvc.bus.transport import close_fds
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.errors import RaveError

_log = logging.getLogger(__name__)

# What waits for one caller. The stock bus lets a connection wait for 128 replies.
_MAX_WAITING, _MAX_WAITING_BYTES = 128, 256 * 1024
# Methods of one caller that run at once; each may need calls of ours, of which the bus lets us have 128.
_MAX_RUNNING = 12
# Connections whose group is remembered.
_MAX_REMEMBERED = 4096
# So many callers are remembered; from then on those that have nothing to wait for are forgotten.
_DROP_IDLE_FROM = 256
# Seconds to wait for a second of work, and how many seconds of work are ahead of that: for one caller, and for all.
_PACE, _PACE_OF_ALL, _AHEAD_S = 4.0, 2.0, 1.0
_REFUSALS = Rate(64, 8.0)

Group = Callable[[str], Awaitable[str | None]]
Charge = Callable[[float], None]
_Waiting = tuple[Header, bytes, list[int], Any]


class Server(Protocol):
    """What serves calls."""

    def route(self, call: Header) -> Any:
        """What is to be done for a call; raises `DBusErrorReply` when there is no such thing."""

    def begin(
        self, call: Header, frame: bytes, fds: list[int], target: Any, turn: Turn | None
    ) -> asyncio.Task[None] | None:
        """Do it, which the turn is told the time of; returns what goes on with it."""

    async def flush(self) -> None:
        """Wait until all is written."""

    def refuse(self, call: Header, error_name: str, text: str) -> None:
        """Answer with an error."""


class _Pace:
    """So much work now, and a share of the time in the long run; `clock` is a monotonic one, in seconds."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = 0.0

    def charge(self, seconds: float) -> None:
        """So much work has been done."""
        earliest = self._clock() - _AHEAD_S * self._per_second
        self._free_at = max(self._free_at, earliest) + seconds * self._per_second

    @property
    def delay(self) -> float:
        """In how many seconds more may be done; not above 0 when it may be now."""
        return self._free_at - self._clock()

    async def wait(self) -> None:
        """Wait until more may be done."""
        while (delay := self.delay) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(delay)

    @property
    def idle(self) -> bool:
        """Whether nothing of it is used."""
        return self.delay < -_AHEAD_S * self._per_second


class _Caller:
    """The queue of one group of connections."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.waiting_bytes = 0
        self.running = asyncio.Semaphore(_MAX_RUNNING)
        self.pace = _Pace(_PACE)
        self.refusals = TokenBucket(_REFUSALS, time.monotonic())
        self.work: asyncio.Task[None] | None = None
        self.told = False  # in the log that it is refused

    def put(self, call: Header, frame: bytes, fds: list[int], target: Any) -> bool:
        """Let a call wait; false when there is no room."""
        if len(self.waiting) >= _MAX_WAITING or self.waiting_bytes + len(frame) > _MAX_WAITING_BYTES:
            return False
        self.waiting.append((call, frame, fds, target))
        self.waiting_bytes += len(frame)
        return True

    def take(self) -> _Waiting:
        """The call that waits for longest."""
        waiting = self.waiting.popleft()
        self.waiting_bytes -= len(waiting[1])
        return waiting


class Turn:
    """What a call that is served is bound to."""

    def __init__(self, server: Server, paces: tuple[_Pace, ...], answering: asyncio.Lock) -> None:
        self._server = server
        self._paces = paces
        self._answering = answering

    def charge(self, seconds: float) -> None:
        """So long the call has kept the loop busy."""
        for pace in self._paces:
            pace.charge(seconds)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what the call asks for, and charge it for each step."""
        await metered(work, self.charge)

    async def answer(self, send: Callable[[], None]) -> None:
        """Send an answer when its turn has come."""
        async with self._answering:
            await self._server.flush()
            send()


class Turns:
    """The calls of all connections on their way to a `Server`.

    `group(sender)` tells in words to which group a connection belongs, and is asked once for each; a connection for
    which it says None is served at once. When it raises `RaveError`, what has come of that connection takes turns,
    and the next call asks again.
    """

    def __init__(self, server: Server, group: Group) -> None:
        self._server = server
        self._group = group
        self._groups: OrderedDict[str, str | None] = OrderedDict()  # by connection
        self._newcomers = Newcomers(self._find, server.refuse)
        self._callers: dict[str, _Caller] = {}
        self._serving = asyncio.Lock()
        self._answering = asyncio.Lock()
        self._all = _Pace(_PACE_OF_ALL)
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, call: Header, frame: bytes, fds: list[int]) -> None:
        """Take a call; owns `fds`."""
        if call.sender not in self._groups:
            self._newcomers.enter(call, frame, fds)
        elif (group := self._groups[call.sender]) is None:
            self._serve(call, frame, fds)
        else:
            self._queue(group, call, frame, fds)

    async def close(self) -> None:
        """Serve nothing more."""
        await self._newcomers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in self._callers.values():
            for _, _, fds, _ in caller.waiting:
                close_fds(fds)
        self._callers.clear()

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _find(self, sender: str) -> Enter | None:
        """How the calls of a new connection come in, of whatever group it is; not at all when it is gone.

        When the group can't be told they wait their turn, whoever it is. The next call asks again: root has to wait
        no longer than the bus is busy.
        """
        try:
            group = await self._group(sender)
        except RaveError as e:
            if e.attributes.get("error_name") == errors.NAME_HAS_NO_OWNER:
                return None
            _log.debug("The caller %s takes its turn, because it is not known: %s", sender, e)
            return partial(self._queue, f"connection {sender}")
        self._groups[sender] = group
        while len(self._groups) > _MAX_REMEMBERED:
            self._groups.popitem(last=False)
        return self.enter

    def _serve(self, call: Header, frame: bytes, fds: list[int]) -> None:
        try:
            target = self._server.route(call)
        except DBusErrorReply as e:
            close_fds(fds)
            self._server.refuse(call, e.error_name, str(e))
        else:
            self._server.begin(call, frame, fds, target, None)

    def _queue(self, group: str, call: Header, frame: bytes, fds: list[int]) -> None:
        caller = self._callers.get(group) or self._add(group)
        try:
            target = self._server.route(call)
        except DBusErrorReply as e:
            close_fds(fds)
            self._refuse(caller, call, e.error_name, str(e))
            return
        if caller.put(call, frame, fds, target):
            caller.work = caller.work or self._keep(self._work(caller))
            return
        close_fds(fds)
        if not caller.told:
            _log.warning("%s asks for more than there is time for: part of it is refused", group)
            caller.told = True
        self._refuse(caller, call, errors.LIMITS_EXCEEDED, "too many of your calls wait already")

    def _add(self, group: str) -> _Caller:
        """A new caller. Those who have nothing to wait for are forgotten first: of bots come ever new connections."""
        if len(self._callers) >= _DROP_IDLE_FROM:
            self._drop_idle()
        return self._callers.setdefault(group, _Caller())

    def _drop_idle(self) -> None:
        for group, caller in list(self._callers.items()):
            if caller.work is None and caller.pace.idle:
                del self._callers[group]

    def _refuse(self, caller: _Caller, call: Header, error_name: str, text: str) -> None:
        if not call.flags & NO_REPLY_EXPECTED and caller.refusals.take(time.monotonic()) == 0:
            self._server.refuse(call, error_name, text)

    async def _work(self, caller: _Caller) -> None:
        """Serve what waits of one caller."""
        try:
            while caller.waiting:
                await caller.pace.wait()
                await caller.running.acquire()
                # Locks are had in the order of who asks for them: this is what makes callers take turns.
                async with self._serving:
                    await self._all.wait()
                    await self._server.flush()
                    self._begin(caller)
                    await asyncio.sleep(0)
        finally:
            caller.work = None
            caller.told = False

    def _begin(self, caller: _Caller) -> None:
        task = None
        try:
            task = self._server.begin(*caller.take(), Turn(self._server, (caller.pace, self._all), self._answering))
        finally:
            if task is None:
                caller.running.release()
            else:
                task.add_done_callback(lambda _: caller.running.release())


@coroutine
def metered(work: Coroutine[Any, Any, None], charge: Charge) -> Generator[Any, Any, None]:
    """Run a coroutine, and tell `charge` for how many seconds each of its steps has kept the loop busy."""
    resume: Callable[[Any], Any] = work.send
    value: BaseException | None = None
    while True:
        begun = time.perf_counter()
        try:
            waits_for = resume(value)
        except StopIteration:
            return
        finally:
            charge(time.perf_counter() - begun)
        try:
            yield waits_for
            resume, value = work.send, None
        except BaseException as e:  # noqa: BLE001 - it is for the coroutine
            resume, value = work.throw, e
