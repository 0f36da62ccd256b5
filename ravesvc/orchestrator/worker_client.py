"""The children on the bus: their signals, believed only after their sender is verified, and calls to them.

Owning a worker's name, or sending from its path, proves nothing. A signal counts when its sender's process belongs to
the unit that it speaks for: the bus tells the process of a connection, systemd the unit of a process. That is asked
once for a connection and remembered, because after a child's exit there is nobody left to ask about. A caller is
verified in the same way: it may be any process that the bus policy lets through.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ravesvc import names
from ravesvc.bus import Bus, SignalMessage, errors
from ravesvc.bus.header import Header
from ravesvc.common.log_fields import about
from ravesvc.common.text import printable
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.core.runner import MAX_UNANSWERED_CALLS
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement

log = logging.getLogger(__name__)

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")

# A child says a handful of things before it is verified; a forger may say anything.
_MAX_WAITING = 8
_MAX_REJECTED_SENDERS = 256
# Senders of large messages: so many are asked about at once, and so many that are no bots are remembered.
_MAX_SUSPECTS, _MAX_CLEARED = 16, 256

# The signals of a worker. Anything else that it sends is dropped by its header.
_SIGNATURES = {
    "Ready": "",
    "Connected": "",
    "Disconnected": "s",
    "Kicked": "",
    "ConnectionFailed": "us",
    "RateLimited": "su",
    "Error": "s",
    "Left": "s",
    "CommandErrors": "as",
}
# Bytes of a signal: 16 errors of own commands, of 300 characters each; and of one whose sender is not verified yet.
_MAX_SIGNAL_BYTES, _MAX_UNVERIFIED_BYTES = 24 * 1024, 1024
# A larger signal counts for several: it takes longer to decode.
_BYTES_PER_TOKEN = 2048

# What a child may say at once, and from then on: one that was taken over could keep us busy, and fill the journal.
_ALLOWED = Rate(32, 1.0)
# Characters of a user's name, of which a child says less.
_MAX_NAME = 100
# Bytes of what a child may answer: the longest title many times over.
_MAX_REPLY_BYTES = 64 * 1024

_CALL_TIMEOUT_S = 10.0
# Seconds that a change waits for children that hang.
_BROADCAST_TIMEOUT_S = 2.0
# The bus lets us have 128 calls under way, of which callers and polkit need some.
_TOLD_AT_ONCE = 48
_VERIFIED_AT_ONCE = 16


class _WorkerBudget(TokenBucket):
    """How much more a child may say."""

    def __init__(self, now: float) -> None:
        super().__init__(_ALLOWED, now)
        self.lost = 0

    def has(self, now: float, size: int) -> bool:
        """Whether it may say so many bytes more, at `now` seconds of a monotonic clock."""
        enough = all(self.take(now) == 0 for _ in range(1 + size // _BYTES_PER_TOKEN))
        self.lost = 0 if enough else self.lost + 1
        return enough

    def first_lost(self) -> bool:
        """Whether what was lost is the first in a row."""
        return self.lost == 1


class Workers:
    """Passes on the signals of verified children: `heard(mesh, member, arguments)`.

    `too_large(mesh)` is called when a process of a mesh's unit has sent a message of more than 64 kB: none of ours
    does, and the bus, which keeps them for us until we have read them, refuses the messages of others meanwhile.
    """

    def __init__(
        self, bus: Bus, heard: Callable[[str, str, Sequence[Any]], None], too_large: Callable[[str], None]
    ) -> None:
        self._bus = bus
        self._heard = heard
        self._too_large = too_large
        self._senders: dict[str, str] = {}  # mesh -> unique name of its verified child
        self._patience: dict[str, _WorkerBudget] = {}  # with that child, by mesh
        self._rejected_senders: OrderedDict[str, None] = OrderedDict()
        self._suspects: set[str] = set()  # have sent a large message; whether they are bots is being asked
        self._cleared: OrderedDict[str, None] = OrderedDict()  # have done so, and are none
        self._waiting: dict[str, list[tuple[str, SignalMessage]]] = {}  # mesh and signal, by sender
        self._tasks: set[asyncio.Task[Any]] = set()
        self._telling = asyncio.Semaphore(_TOLD_AT_ONCE)
        self._to_tell: dict[tuple[str, Announcement], asyncio.Task[bool]] = {}  # by sender; not begun yet
        self._verifying = asyncio.Semaphore(_VERIFIED_AT_ONCE)

    async def start(self) -> None:
        """Begin to listen; raises `RaveError` (Bus, Timeout)."""
        rule = f"type='signal',interface='{names.WORKER_INTERFACE}',path_namespace='{names.MANAGER_PATH}/worker'"
        await self._bus.match(rule, self._signalled, self._accepts)
        self._bus.on_large_message(self._suspect)

    async def status(self, mesh: str) -> dict[str, Any]:
        """What a child says of itself (GetStatus). Raises as `call` does, and BadData for an answer that is none."""
        match await self.call(mesh, "GetStatus"):
            case [dict() as status]:
                return status
        raise RaveError(Code.BAD_DATA, f"the child of mesh {mesh} says something else than its status", mesh=mesh)

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """Who is in a mesh as its child says (ListUsers): ids and names of some, and how many there are.

        Raises as `status` does.
        """
        match await self.call(mesh, "ListUsers"):
            case [list(users), int(total)]:
                return [_user(mesh, each) for each in users], total
        raise _senseless_users(mesh)

    async def call(self, mesh: str, member: str, signature: str = "", *args: Any) -> list[Any]:
        """Call a method of the mesh's child; raises `RaveError` (NotRunning, Bus, Timeout or the child's)."""
        sender = self._senders.get(mesh) or await self._find(mesh)
        return await self._ask(_CALL_TIMEOUT_S, sender, mesh, member, signature, *args)

    def is_mute(self, mesh: str) -> bool:
        """Whether a child has left so many calls unanswered that it is asked no more."""
        return self._is_mute(self._senders.get(mesh, ""))

    async def catch_up(self) -> None:
        """Wait for an answer of the bus itself; raises `RaveError` (Bus, Timeout).

        The bus keeps the order: by then all that we sent before is delivered, and all that was sent to us before has
        been read.
        """
        await self._bus.call(*_BUS, "GetId")

    async def mesh_of(self, sender: str) -> str:
        """The mesh whose verified child has this unique name; raises `RaveError` (AccessDenied) for anybody else.

        Whoever has asked something is told when it changes.
        """
        if sender not in self._rejected_senders:
            for mesh, known in self._senders.items():
                if known == sender:
                    return mesh
            try:
                unit = await self._unit_of(sender)
            except RaveError as e:
                # Most likely it is gone. A bot could fill the log with connections that it closes at once.
                log.debug("A call of %s is refused, because it could not be verified: %s", sender, e)
                raise RaveError(Code.ACCESS_DENIED, "the caller could not be verified") from e
            if asking := names.mesh_of_unit(unit):
                if await self._bind(sender, asking):
                    return asking
            else:
                log.warning("Calls of %s are refused: it belongs to unit %s, which is no bot's", sender, unit)
                self._distrust(sender)
        raise RaveError(Code.ACCESS_DENIED, "this is for the bots of meshes alone")

    async def tell(self, announcement: Announcement) -> tuple[int, int]:
        """Have all verified children ask again; returns how many have done so, and how many have failed to.

        What takes longer than two seconds counts as failed, and goes on all the same.
        """
        tasks = [self._soon_tell(announcement, *child) for child in self._senders.items()]
        if tasks:
            await asyncio.wait(tasks, timeout=_BROADCAST_TIMEOUT_S)
        told = sum(map(_succeeded, tasks))
        return told, len(tasks) - told

    async def forget_user(self, user: int) -> frozenset[str]:
        """Have all verified children forget a user; returns the meshes of those that have done so in two seconds."""
        tasks = {
            mesh: asyncio.create_task(self._tell_forget(mesh, sender, user)) for mesh, sender in self._senders.items()
        }
        for task in tasks.values():
            self._keep(task)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=_BROADCAST_TIMEOUT_S)
        return frozenset(mesh for mesh, task in tasks.items() if _succeeded(task))

    def forget(self, mesh: str) -> None:
        """The child is gone."""
        self._senders.pop(mesh, None)
        self._patience.pop(mesh, None)

    async def close(self) -> None:
        """Stop verifying and telling."""
        self._senders.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _suspect(self, sender: str) -> None:
        """Find out whether the sender of a large message is a bot; not now if many are asked about, for more come."""
        known = sender in self._suspects or sender in self._cleared
        if not known and len(self._suspects) < _MAX_SUSPECTS:
            self._suspects.add(sender)
            self._keep(asyncio.create_task(self._judge(sender)))

    async def _judge(self, sender: str) -> None:
        """Tell whose bot a suspect is, if it is one."""
        try:
            mesh = names.mesh_of_unit(await self._unit_of(sender))
        except RaveError as e:
            log.debug("Who has sent a large message, %s, could not be told: %s", sender, e)
            return
        finally:
            self._suspects.discard(sender)
        if mesh:
            self._too_large(mesh)
        else:
            _remember(self._cleared, sender, _MAX_CLEARED)

    async def _find(self, mesh: str) -> str:
        """The verified child that owns the name of the mesh's worker."""
        try:
            (sender,) = await self._bus.call(*_BUS, "GetNameOwner", "s", names.worker_name(mesh))
        except RaveError as e:
            raise RaveError(
                Code.NOT_RUNNING, f"the bot of mesh {mesh} does not run, or is not on the bus", mesh=mesh
            ) from e
        try:
            verified = self._believe(sender, mesh, await self._unit_of(sender)) and await self._bind(sender, mesh)
        except RaveError as e:
            raise RaveError(
                Code.NOT_RUNNING, f"the child of mesh {mesh} could not be verified: {e.message}", mesh=mesh
            ) from e
        if not verified:
            raise RaveError(Code.NOT_RUNNING, f"what passes for the child of mesh {mesh} is not it", mesh=mesh)
        return str(sender)

    def _accepts(self, signal: Header, size: int) -> bool:
        """Whether a signal is one of a worker, and its sender may say more. Nothing of its body is decoded before."""
        if size > _MAX_SIGNAL_BYTES or _SIGNATURES.get(signal.member) != signal.signature:
            return False
        mesh = _mesh_of(signal.path)
        if mesh is None or signal.sender in self._rejected_senders:
            return False
        if self._senders.get(mesh) == signal.sender:
            return self._may_say(mesh, size)
        return size <= _MAX_UNVERIFIED_BYTES and len(self._waiting.get(signal.sender, ())) < _MAX_WAITING

    def _may_say(self, mesh: str, size: int) -> bool:
        """What a child says that talks too much is lost; it is asked regularly how it is."""
        now = asyncio.get_running_loop().time()
        patience = self._patience.setdefault(mesh, _WorkerBudget(now))
        enough = patience.has(now, size)
        if patience.first_lost():
            log.warning("The child of mesh %s says too much: part of it is ignored", mesh, extra=about(mesh))
        return enough

    def _signalled(self, signal: SignalMessage) -> None:
        """A signal that has been accepted."""
        mesh = _mesh_of(signal.path) or ""
        sender = signal.sender
        if self._senders.get(mesh) == sender:
            self._heard(mesh, signal.member, signal.body)
        elif sender in self._waiting:
            self._waiting[sender].append((mesh, signal))
        else:
            self._waiting[sender] = [(mesh, signal)]
            self._keep(asyncio.create_task(self._admit(sender)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _soon_tell(self, announcement: Announcement, mesh: str, sender: str) -> asyncio.Task[bool]:
        """Tell a child; if that waits for its turn since an earlier change, it will do for this one as well."""
        key = (sender, announcement)
        if key not in self._to_tell:
            self._to_tell[key] = asyncio.create_task(self._tell(announcement, mesh, sender))
            self._keep(self._to_tell[key])
        return self._to_tell[key]

    async def _tell(self, announcement: Announcement, mesh: str, sender: str) -> bool:
        try:
            async with self._telling:
                del self._to_tell[sender, announcement]
                # One that misses it asks again by itself.
                return await self._follow(mesh, sender, announcement)
        except asyncio.CancelledError:
            self._to_tell.pop((sender, announcement), None)
            raise

    async def _tell_forget(self, mesh: str, sender: str, user: int) -> bool:
        async with self._telling:
            return await self._follow(mesh, sender, "ForgetUser", "t", user)

    async def _follow(self, mesh: str, sender: str, member: str, signature: str = "", *args: Any) -> bool:
        """Whether a child has done soon what it is told; one that hangs finds the call when it goes on."""
        try:
            await self._ask(_BROADCAST_TIMEOUT_S, sender, mesh, member, signature, *args)
        except RaveError as e:
            log.debug("The child of mesh %s has not followed: %s", mesh, e)
            return False
        return True

    async def _ask(
        self, timeout_s: float, sender: str, mesh: str, member: str, signature: str, *args: Any
    ) -> list[Any]:
        """Call a method of a child, unless it has left too many calls unanswered."""
        if self._is_mute(sender):
            raise RaveError(
                Code.TIMEOUT, f"the child of mesh {mesh} has left {MAX_UNANSWERED_CALLS} calls unanswered"
            )
        path = names.worker_path(mesh)
        try:
            return await self._bus.call(
                sender,
                path,
                names.WORKER_INTERFACE,
                member,
                signature,
                *args,
                timeout=timeout_s,
                max_reply_bytes=_MAX_REPLY_BYTES,
            )
        except RaveError as e:
            if _was_refused_by_bus(e):
                raise RaveError(e.code, e.message, hint=e.hint, **e.attributes, undelivered=True) from e
            raise

    def _is_mute(self, sender: str) -> bool:
        return self._bus.unanswered(sender) >= MAX_UNANSWERED_CALLS

    async def _admit(self, sender: str) -> None:
        """Verify a sender, then pass on what it has said so far."""
        try:
            unit = await self._unit_of(sender)
            own = names.mesh_of_unit(unit)
            bound = own is None or await self._bind(sender, own)
        except RaveError as e:
            # Gone already, most likely: its exit status will tell.
            log.debug("The sender %s of a worker's signal could not be verified: %s", sender, e)
            return
        finally:
            waiting = self._waiting.pop(sender)
        if not bound:
            return
        for mesh, signal in waiting:
            if not self._believe(sender, mesh, unit):
                return
            if self._may_say(mesh, 0):
                self._heard(mesh, signal.member, signal.body)

    def _believe(self, sender: str, mesh: str, unit: str) -> bool:
        """Whether a sender, of this unit, may speak for the mesh; one that may not is remembered."""
        if names.mesh_of_unit(unit) == mesh:
            return True
        extra = about(names.mesh_of_unit(unit) or mesh)
        log.warning("What passes for the child of mesh %s came from unit %s: ignored", mesh, unit, extra=extra)
        self._distrust(sender)
        return False

    async def _bind(self, sender: str, mesh: str) -> bool:
        """Take a connection of a mesh's unit for its child, unless another one is, and still there.

        A child that comes back to the bus has another connection, and the one before is gone by then. One that an own
        command opens beside it answers no question: bound to that, the bot would seem to hang, and be restarted.
        """
        known = self._senders.get(mesh)
        if known not in (None, sender) and await self._on_bus(known):
            log.warning("A second connection of the bot of mesh %s is ignored", mesh, extra=about(mesh))
            self._distrust(sender)
            return False
        self._senders[mesh] = sender
        return True

    async def _on_bus(self, sender: str) -> bool:
        try:
            (there,) = await self._bus.call(*_BUS, "NameHasOwner", "s", sender)
        except RaveError:
            return True
        return bool(there)

    def _distrust(self, sender: str) -> None:
        _remember(self._rejected_senders, sender, _MAX_REJECTED_SENDERS)

    async def _unit_of(self, sender: str) -> str:
        """The unit of a connection's process, by process file descriptor: a process id could be used again."""
        async with self._verifying:
            (credentials,) = await self._bus.call(*_BUS, "GetConnectionCredentials", "s", sender)
            descriptor = credentials.get("ProcessFD")
            if descriptor is None:
                raise RaveError(Code.BUS, "the message bus does not tell the process of a connection")
            try:
                _, unit, _ = await self._bus.call(*_SYSTEMD, "GetUnitByPIDFD", "h", descriptor)
            finally:
                os.close(descriptor)
        return str(unit)


def _remember(senders: OrderedDict[str, None], sender: str, most: int) -> None:
    senders[sender] = None
    while len(senders) > most:
        senders.popitem(last=False)


# A bot may send ten thousand signals in a second, all from its path.
@lru_cache(maxsize=256)
def _mesh_of(path: str) -> str | None:
    return names.mesh_of_worker_path(path)


def _was_refused_by_bus(error: RaveError) -> bool:
    """Whether the bus has not even delivered a call, because too many are without an answer."""
    return error.attributes.get("error_name") == errors.LIMITS_EXCEEDED and not error.attributes.get("said")


def _succeeded(task: asyncio.Task[bool]) -> bool:
    return task.done() and not task.cancelled() and task.result()


def _user(mesh: str, answer: object) -> tuple[int, str]:
    match answer:
        case [int(user), str(name)]:
            return user, printable(name, _MAX_NAME)
    raise _senseless_users(mesh)


def _senseless_users(mesh: str) -> RaveError:
    return RaveError(Code.BAD_DATA, f"the child of mesh {mesh} says something else than its users", mesh=mesh)
