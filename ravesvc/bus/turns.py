"""Fair queueing of calls: callers take turns, so that a flood of one caller delays that caller alone.

Scenario: a user with the right to read opens 20 connections and asks on each for all objects, again and again. Served
in the order in which the bus delivers, a single call of root came after thousands of theirs, and the service did
nothing else meanwhile. So calls are read as fast as they come, and wait in a queue of their caller. One call at a
time is served, of one caller after another; each may use a quarter of the time, all together a half. A call
for which the queue has no room is refused: a few of them a second with an error, the others without, because an error
costs as much as an answer.

The bus reads from us at a limited rate, too: 2 kB of each connection by turns, which under a flood is some 100 kB a
second. An answer to root waits behind all that was written before it. So for callers that take turns one answer at a
time is written, after the bus has read the one before.

`group` says to which group of callers a connection belongs, such as its user. A connection of no group is served at
once. If `group` fails (raises `RaveError`) its calls take turns for now. Until it has returned, calls wait in
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

# The queue of one caller. The stock bus lets a connection wait for 128 replies.
_MAX_WAITING_CALLS, _MAX_WAITING_BYTES = 128, 256 * 1024
# Methods of one caller that run at once; each may make calls of its own, of which the bus allows us 128.
_MAX_RUNNING_CALLS = 12
# Connections whose group is cached.
_MAX_CACHED_GROUPS = 4096
# With this many callers, those that are idle are dropped.
_DROP_IDLE_FROM = 256
# How many seconds a caller has to wait for each second of work done for it, and all callers for each second of work
# done for any of them. The wait begins only after this much work.
_WAIT_FACTOR, _WAIT_FACTOR_OF_ALL, _AHEAD_S = 4.0, 2.0, 1.0
_REFUSAL_RATE = Rate(64, 8.0)

Group = Callable[[str], Awaitable[str | None]]
Charge = Callable[[float], None]
_Waiting = tuple[Header, bytes, list[int], Any]


class Server(Protocol):
    """The connection that serves calls."""

    def route(self, call: Header) -> Any:
        """The method that a call asks for; raises `DBusErrorReply` if there is none."""

    def begin(
        self, call: Header, frame: bytes, fds: list[int], target: Any, turn: Turn | None
    ) -> asyncio.Task[None] | None:
        """Serve a call and charge its time to `turn`; returns the task that goes on with it, if any."""

    async def flush(self) -> None:
        """Wait until the bus has read all that was sent."""

    def refuse(self, call: Header, error_name: str, text: str) -> None:
        """Answer with an error."""


class _Pace:
    """Limits work to a share of the time in the long run; `clock` is monotonic, in seconds."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = 0.0

    def charge(self, seconds: float) -> None:
        """Account for work that was done."""
        earliest = self._clock() - _AHEAD_S * self._per_second
        self._free_at = max(self._free_at, earliest) + seconds * self._per_second

    @property
    def delay(self) -> float:
        """Seconds until more work may be done; 0 or less if it may be done now."""
        return self._free_at - self._clock()

    async def wait(self) -> None:
        """Wait until more work may be done."""
        while (delay := self.delay) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(delay)

    @property
    def idle(self) -> bool:
        """Whether no work counts any more."""
        return self.delay < -_AHEAD_S * self._per_second


class _Caller:
    """The queue of one group of connections."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.waiting_bytes = 0
        self.running = asyncio.Semaphore(_MAX_RUNNING_CALLS)
        self.pace = _Pace(_WAIT_FACTOR)
        self.refusals = TokenBucket(_REFUSAL_RATE, time.monotonic())
        self.work: asyncio.Task[None] | None = None
        self.overload_logged = False

    def put(self, call: Header, frame: bytes, fds: list[int], target: Any) -> bool:
        """Queue a call; false if there is no room."""
        if len(self.waiting) >= _MAX_WAITING_CALLS or self.waiting_bytes + len(frame) > _MAX_WAITING_BYTES:
            return False
        self.waiting.append((call, frame, fds, target))
        self.waiting_bytes += len(frame)
        return True

    def pop(self) -> _Waiting:
        """Remove and return the call that has waited longest."""
        waiting = self.waiting.popleft()
        self.waiting_bytes -= len(waiting[1])
        return waiting


class Turn:
    """Ties a call to the limits of its caller: where its time is charged, and when its answer is sent."""

    def __init__(self, server: Server, paces: tuple[_Pace, ...], answering: asyncio.Lock) -> None:
        self._server = server
        self._paces = paces
        self._answering = answering

    def charge(self, seconds: float) -> None:
        """Account for time in which the call has kept the loop busy."""
        for pace in self._paces:
            pace.charge(seconds)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the method, and charge the time of each of its steps."""
        await metered(work, self.charge)

    async def answer(self, send: Callable[[], None]) -> None:
        """Call `send` once the bus has read the answers before."""
        async with self._answering:
            await self._server.flush()
            send()


class Turns:
    """The calls of all connections on their way to a `Server`.

    `group(sender)` names the group of a connection in words, and is called once for each. A connection for which it
    returns None is served at once. When it raises `RaveError`, the calls that wait for it take turns, and the next
    call has it called again.
    """

    def __init__(self, server: Server, group: Group) -> None:
        self._server = server
        self._group = group
        self._groups: OrderedDict[str, str | None] = OrderedDict()  # by connection
        self._newcomers = Newcomers(self._find, server.refuse)
        self._callers: dict[str, _Caller] = {}
        self._serving = asyncio.Lock()
        self._answering = asyncio.Lock()
        self._all = _Pace(_WAIT_FACTOR_OF_ALL)
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, call: Header, frame: bytes, fds: list[int]) -> None:
        """Serve or queue a call; owns `fds`."""
        if call.sender not in self._groups:
            self._newcomers.enter(call, frame, fds)
        elif (group := self._groups[call.sender]) is None:
            self._serve(call, frame, fds)
        else:
            self._queue(group, call, frame, fds)

    async def close(self) -> None:
        """Drop what waits, and end what runs."""
        await self._newcomers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in self._callers.values():
            for _, _, fds, _ in caller.waiting:
                close_fds(fds)
        self._callers.clear()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _find(self, sender: str) -> Enter | None:
        """The function to pass the calls of a new connection to; None if the connection is gone.

        When `group` fails they take turns, even those of root. The next call has `group` called again, so root waits
        no longer than the bus is busy.
        """
        try:
            group = await self._group(sender)
        except RaveError as e:
            if e.attributes.get("error_name") == errors.NAME_HAS_NO_OWNER:
                return None
            _log.debug("The user of %s could not be found out, so its calls wait for their turn: %s", sender, e)
            return partial(self._queue, f"connection {sender}")
        self._groups[sender] = group
        while len(self._groups) > _MAX_CACHED_GROUPS:
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
            caller.work = caller.work or self._start_task(self._work(caller))
            return
        close_fds(fds)
        if not caller.overload_logged:
            _log.warning("%s calls more often than it can be served: some of its calls are refused", group)
            caller.overload_logged = True
        self._refuse(caller, call, errors.LIMITS_EXCEEDED, "too many of your calls wait already")

    def _add(self, group: str) -> _Caller:
        """Add a caller, after dropping those that are idle: bots come back with ever new connections."""
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
        """Serve the queue of one caller."""
        try:
            while caller.waiting:
                await caller.pace.wait()
                await caller.running.acquire()
                # A lock is acquired in the order of its waiters: this makes callers take turns.
                async with self._serving:
                    await self._all.wait()
                    await self._server.flush()
                    self._begin(caller)
                    await asyncio.sleep(0)
        finally:
            caller.work = None
            caller.overload_logged = False

    def _begin(self, caller: _Caller) -> None:
        task = None
        try:
            task = self._server.begin(*caller.pop(), Turn(self._server, (caller.pace, self._all), self._answering))
        finally:
            if task is None:
                caller.running.release()
            else:
                task.add_done_callback(lambda _: caller.running.release())


@coroutine
def metered(work: Coroutine[Any, Any, None], charge: Charge) -> Generator[Any, Any, None]:
    """Run a coroutine, and call `charge` with the seconds for which each of its steps has kept the loop busy."""
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
