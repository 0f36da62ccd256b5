"""The workers on the bus: receives their signals once the senders are verified, and calls their methods.

That a connection owns a worker's name, or sends from its path, proves nothing. A signal is accepted only if the
process of its sender belongs to the unit of the mesh: the bus says which process a connection has, and systemd which
unit a process has. A caller is verified in the same way, as the bus policy lets other processes call the service.

Scenario: a worker sends its last signals and exits. If it were verified only then, its process would be gone, and the
signals would be dropped. So each connection is verified once, at its first signal or call, and is then bound to its
mesh. Signals that come while that is under way wait in `_waiting`, and are passed on in order.

Scenario: a plugin opens a second connection from the worker's own process. It passes as the same unit. If it replaced
the first, which answers the service's calls, the bot would seem to hang, and be restarted. So a mesh keeps its
connection as long as that is on the bus, see `_bind`.
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
from ravesvc.core.worker_status import SettingInfo, WorkerStatus, read_status, setting_info, setting_infos
from ravesvc.errors import Code, RaveError
from ravesvc.names import Announcement

log = logging.getLogger(__name__)

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")

# A worker sends a handful of signals before it is verified. A forger may send any number.
_MAX_WAITING = 8
_MAX_REJECTED_SENDERS = 256
# Senders of large messages: how many are looked up at a time, and how many that are no bots are remembered.
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
# Bytes of a signal: room for 16 errors of plugins, of 300 characters each; and less before its sender is verified.
_MAX_SIGNAL_BYTES, _MAX_UNVERIFIED_BYTES = 24 * 1024, 1024
# A larger signal counts for several: it takes longer to decode.
_BYTES_PER_TOKEN = 2048

# How many signals of a worker are accepted: one that was taken over could keep the service busy and fill the journal.
_ALLOWED = Rate(32, 1.0)
# Characters of a user's name; a worker that was not taken over sends fewer.
_MAX_NAME = 100
# Bytes of a worker's answer, many times what the longest one needs.
_MAX_REPLY_BYTES = 64 * 1024

_CALL_TIMEOUT_S = 10.0
# Seconds that a broadcast waits for workers that hang.
_BROADCAST_TIMEOUT_S = 2.0
# The bus lets the service have 128 calls under way, and some are needed for replies to callers and for polkit.
_TOLD_AT_ONCE = 48
_VERIFIED_AT_ONCE = 16


class _WorkerBudget(TokenBucket):
    """How many more signals of a worker are accepted."""

    def __init__(self, now: float) -> None:
        super().__init__(_ALLOWED, now)
        self.lost = 0

    def has(self, now: float, size: int) -> bool:
        """Whether a signal of `size` bytes is accepted at `now`, in seconds of a monotonic clock."""
        enough = all(self.take(now) == 0 for _ in range(1 + size // _BYTES_PER_TOKEN))
        self.lost = 0 if enough else self.lost + 1
        return enough

    def first_lost(self) -> bool:
        """Whether the last signal was dropped, and the one before it was not."""
        return self.lost == 1


class Workers:
    """Receives the signals of verified workers, and calls them.

    Args:
        heard: called with mesh, member and arguments of each signal of a verified worker.
        too_large: called with a mesh when a process of its unit has sent a message of more than 64 kB. No worker does
            that unless it was taken over, and while such messages wait to be read the bus refuses those of others.
    """

    def __init__(
        self, bus: Bus, heard: Callable[[str, str, Sequence[Any]], None], too_large: Callable[[str], None]
    ) -> None:
        self._bus = bus
        self._heard = heard
        self._too_large = too_large
        self._senders: dict[str, str] = {}  # by mesh, the unique name of its verified worker
        self._budgets: dict[str, _WorkerBudget] = {}  # by mesh
        self._rejected_senders: OrderedDict[str, None] = OrderedDict()
        self._suspects: set[str] = set()  # senders of a large message that are being looked up
        self._cleared: OrderedDict[str, None] = OrderedDict()  # senders of a large message that are no bots
        self._waiting: dict[str, list[tuple[str, SignalMessage]]] = {}  # mesh and signal, by sender
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broadcasting = asyncio.Semaphore(_TOLD_AT_ONCE)
        self._to_broadcast: dict[tuple[str, Announcement], asyncio.Task[bool]] = {}  # by sender; not begun yet
        self._verifying = asyncio.Semaphore(_VERIFIED_AT_ONCE)

    async def start(self) -> None:
        """Subscribe to the signals of workers. Raises `RaveError` (Bus, Timeout)."""
        rule = f"type='signal',interface='{names.WORKER_INTERFACE}',path_namespace='{names.MANAGER_PATH}/worker'"
        await self._bus.match(rule, self._signalled, self._accepts)
        self._bus.on_large_message(self._suspect)

    async def status(self, mesh: str) -> WorkerStatus:
        """The status of a worker (GetStatus). Raises as `call` does, and BadData if the answer is no status."""
        match await self.call(mesh, "GetStatus"):
            case [dict() as answer]:
                return read_status(answer)
        raise RaveError(Code.BAD_DATA, f"the bot of mesh {mesh} has not answered with its status", mesh=mesh)

    async def users(self, mesh: str) -> tuple[list[tuple[int, str]], int]:
        """The users in a mesh as its worker lists them (ListUsers): ids and names of some, and how many there are.

        Raises as `status` does.
        """
        match await self.call(mesh, "ListUsers"):
            case [list(users), int(total)]:
                return [_user(mesh, each) for each in users], total
        raise _senseless_users(mesh)

    async def settings(self, mesh: str) -> tuple[list[SettingInfo], int]:
        """The settings of a mesh as its worker lists them (ListSettings), and how many there are.

        Raises as `status` does.
        """
        match await self.call(mesh, "ListSettings"):
            case [list(settings), int(total)]:
                return setting_infos(settings), total
        raise _senseless_settings(mesh)

    async def setting(self, mesh: str, name: str) -> SettingInfo:
        """A setting of a mesh (GetSetting). Raises as `status` does, and InvalidArgument."""
        return _setting(mesh, await self._call_for_setting(mesh, "GetSetting", "s", name))

    async def change_setting(self, mesh: str, name: str, value: str) -> SettingInfo:
        """Change a setting of a mesh (ChangeSetting), and return it. Raises as `setting` does, and TooLarge."""
        return _setting(mesh, await self._call_for_setting(mesh, "ChangeSetting", "ss", name, value))

    async def _call_for_setting(self, mesh: str, member: str, signature: str, *args: str) -> list[Any]:
        """Call a method whose errors are words of the worker, for an operator: without what the call is named."""
        try:
            return await self.call(mesh, member, signature, *args)
        except RaveError as e:
            said = printable(e.attributes.get("said"), names.MAX_REPORT_CHARS)
            if not said or e.attributes.get("error_name") == errors.UNKNOWN_METHOD:
                raise
            raise RaveError(e.code, said, incident=e.incident, mesh=mesh) from e

    async def call(self, mesh: str, member: str, signature: str = "", *args: Any) -> list[Any]:
        """Call a method of a mesh's worker. Raises `RaveError`: NotRunning, Bus, Timeout, or what it answers."""
        sender = self._senders.get(mesh) or await self._find(mesh)
        return await self._ask(_CALL_TIMEOUT_S, sender, mesh, member, signature, *args)

    def is_mute(self, mesh: str) -> bool:
        """Whether a worker has left so many calls unanswered that it is called no more."""
        return self._is_mute(self._senders.get(mesh, ""))

    async def catch_up(self) -> None:
        """Wait for an answer of the bus itself; raises `RaveError` (Bus, Timeout).

        The bus keeps the order of messages. So when its answer is here, all that the service sent before is
        delivered, and all that was sent to the service before has been read.
        """
        await self._bus.call(*_BUS, "GetId")

    async def mesh_of(self, sender: str) -> str:
        """The mesh whose verified worker has this unique name; raises `RaveError` (AccessDenied) for other senders.

        A worker that has called once is bound to its mesh, so it also receives announcements.
        """
        if sender not in self._rejected_senders:
            for mesh, known in self._senders.items():
                if known == sender:
                    return mesh
            try:
                unit = await self._unit_of(sender)
            except RaveError as e:
                # Most likely the connection is closed. Debug, because a bot could fill the log with such connections.
                log.debug("A call of %s is refused, because it could not be verified: %s", sender, e)
                raise RaveError(Code.ACCESS_DENIED, "the caller could not be verified") from e
            if asking := names.mesh_of_unit(unit):
                if await self._bind(sender, asking):
                    return asking
            else:
                log.warning("Calls of %s are refused: it belongs to unit %s, which is no bot's", sender, unit)
                self._reject(sender)
        raise RaveError(Code.ACCESS_DENIED, "this is for the bots of meshes alone")

    async def tell(self, announcement: Announcement) -> tuple[int, int]:
        """Broadcast an announcement to all verified workers; returns how many have followed it and how many not.

        A worker that needs more than two seconds counts as one that has not, but goes on all the same.
        """
        tasks = [self._schedule_broadcast(announcement, *child) for child in self._senders.items()]
        if tasks:
            await asyncio.wait(tasks, timeout=_BROADCAST_TIMEOUT_S)
        told = sum(map(_succeeded, tasks))
        return told, len(tasks) - told

    async def forget_user(self, user: int) -> frozenset[str]:
        """Have all verified workers forget a user; returns the meshes of those that have done so in two seconds."""
        tasks = {
            mesh: asyncio.create_task(self._tell_forget(mesh, sender, user)) for mesh, sender in self._senders.items()
        }
        for task in tasks.values():
            self._keep(task)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=_BROADCAST_TIMEOUT_S)
        return frozenset(mesh for mesh, task in tasks.items() if _succeeded(task))

    def forget(self, mesh: str) -> None:
        """Unbind the worker of a mesh, because its process has ended."""
        self._senders.pop(mesh, None)
        self._budgets.pop(mesh, None)

    async def close(self) -> None:
        """Cancel all verifications and announcements."""
        self._senders.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _suspect(self, sender: str) -> None:
        """Find out whether the sender of a large message is a bot.

        If too many are being looked up this one is left out: it will send another.
        """
        known = sender in self._suspects or sender in self._cleared
        if not known and len(self._suspects) < _MAX_SUSPECTS:
            self._suspects.add(sender)
            self._keep(asyncio.create_task(self._judge(sender)))

    async def _judge(self, sender: str) -> None:
        """Report the mesh of a suspect, if it is a bot."""
        try:
            mesh = names.mesh_of_unit(await self._unit_of(sender))
        except RaveError as e:
            log.debug("The unit of %s, which has sent a large message, is not known: %s", sender, e)
            return
        finally:
            self._suspects.discard(sender)
        if mesh:
            self._too_large(mesh)
        else:
            _remember(self._cleared, sender, _MAX_CLEARED)

    async def _find(self, mesh: str) -> str:
        """Verify and bind the connection that owns the name of the mesh's worker; returns its unique name."""
        try:
            (sender,) = await self._bus.call(*_BUS, "GetNameOwner", "s", names.worker_name(mesh))
        except RaveError as e:
            text, hint = f"the bot of mesh {mesh} can't be reached now", "try again in some seconds"
            raise RaveError(Code.NOT_RUNNING, text, hint=hint, mesh=mesh) from e
        try:
            verified = self._may_speak_for(sender, mesh, await self._unit_of(sender)) and await self._bind(
                sender, mesh
            )
        except RaveError as e:
            raise RaveError(
                Code.NOT_RUNNING, f"the bot of mesh {mesh} could not be verified: {e.message}", mesh=mesh
            ) from e
        if not verified:
            raise RaveError(Code.NOT_RUNNING, f"another process has the name of the bot of mesh {mesh}", mesh=mesh)
        return str(sender)

    def _accepts(self, signal: Header, size: int) -> bool:
        """Whether to decode a signal, decided from header and size alone, as its sender may be any process."""
        if size > _MAX_SIGNAL_BYTES or _SIGNATURES.get(signal.member) != signal.signature:
            return False
        mesh = _mesh_of(signal.path)
        if mesh is None or signal.sender in self._rejected_senders:
            return False
        if self._senders.get(mesh) == signal.sender:
            return self._may_say(mesh, size)
        return size <= _MAX_UNVERIFIED_BYTES and len(self._waiting.get(signal.sender, ())) < _MAX_WAITING

    def _may_say(self, mesh: str, size: int) -> bool:
        """Whether one more signal of a worker is within its rate. What a lost one said, health checks find out."""
        now = asyncio.get_running_loop().time()
        patience = self._budgets.setdefault(mesh, _WorkerBudget(now))
        enough = patience.has(now, size)
        if patience.first_lost():
            log.warning("The bot of mesh %s sends too many signals: some are ignored", mesh, extra=about(mesh))
        return enough

    def _signalled(self, signal: SignalMessage) -> None:
        """Pass on a signal of a verified worker; for any other sender, begin to verify it."""
        mesh = _mesh_of(signal.path) or ""
        sender = signal.sender
        if self._senders.get(mesh) == sender:
            self._heard(mesh, signal.member, signal.body)
        elif sender in self._waiting:
            self._waiting[sender].append((mesh, signal))
        else:
            self._waiting[sender] = [(mesh, signal)]
            self._keep(asyncio.create_task(self._verify_sender(sender)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _schedule_broadcast(self, announcement: Announcement, mesh: str, sender: str) -> asyncio.Task[bool]:
        """Announce a change to a worker. If the same announcement still waits for its turn, that one is enough."""
        key = (sender, announcement)
        if key not in self._to_broadcast:
            self._to_broadcast[key] = asyncio.create_task(self._tell(announcement, mesh, sender))
            self._keep(self._to_broadcast[key])
        return self._to_broadcast[key]

    async def _tell(self, announcement: Announcement, mesh: str, sender: str) -> bool:
        try:
            async with self._broadcasting:
                del self._to_broadcast[sender, announcement]
                # A worker that misses the announcement asks again by itself.
                return await self._follow(mesh, sender, announcement)
        except asyncio.CancelledError:
            self._to_broadcast.pop((sender, announcement), None)
            raise

    async def _tell_forget(self, mesh: str, sender: str, user: int) -> bool:
        async with self._broadcasting:
            return await self._follow(mesh, sender, "ForgetUser", "t", user)

    async def _follow(self, mesh: str, sender: str, member: str, signature: str = "", *args: Any) -> bool:
        """Call a worker; returns whether it has answered in time. One that hangs reads the call when it goes on."""
        try:
            await self._ask(_BROADCAST_TIMEOUT_S, sender, mesh, member, signature, *args)
        except RaveError as e:
            log.debug("The bot of mesh %s has not followed: %s", mesh, e)
            return False
        return True

    async def _ask(
        self, timeout_s: float, sender: str, mesh: str, member: str, signature: str, *args: Any
    ) -> list[Any]:
        """Call a method of a worker, unless it has left too many calls unanswered."""
        if self._is_mute(sender):
            raise RaveError(Code.TIMEOUT, f"the bot of mesh {mesh} has left {MAX_UNANSWERED_CALLS} calls unanswered")
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

    async def _verify_sender(self, sender: str) -> None:
        """Verify a sender, then pass on the signals that have waited for it."""
        try:
            unit = await self._unit_of(sender)
            own = names.mesh_of_unit(unit)
            bound = own is None or await self._bind(sender, own)
        except RaveError as e:
            # Most likely the worker has exited, and its exit status says why.
            log.debug("The sender %s of a worker's signal could not be verified: %s", sender, e)
            return
        finally:
            waiting = self._waiting.pop(sender)
        if not bound:
            return
        for mesh, signal in waiting:
            if not self._may_speak_for(sender, mesh, unit):
                return
            if self._may_say(mesh, 0):
                self._heard(mesh, signal.member, signal.body)

    def _may_speak_for(self, sender: str, mesh: str, unit: str) -> bool:
        """Whether a sender from this unit may speak for the mesh. One that may not is rejected from now on."""
        if names.mesh_of_unit(unit) == mesh:
            return True
        extra = about(names.mesh_of_unit(unit) or mesh)
        log.warning("A signal for mesh %s is ignored: it came from unit %s", mesh, unit, extra=extra)
        self._reject(sender)
        return False

    async def _bind(self, sender: str, mesh: str) -> bool:
        """Bind a connection of a mesh's unit to the mesh, unless another one is bound and still on the bus.

        A worker that reconnects to the bus has a new connection, and its old one is gone by then. A plugin may open
        another connection beside the worker's, which answers no calls: it must not be bound.
        """
        known = self._senders.get(mesh)
        if known not in (None, sender) and await self._on_bus(known):
            log.warning("A second connection of the bot of mesh %s is ignored", mesh, extra=about(mesh))
            self._reject(sender)
            return False
        self._senders[mesh] = sender
        return True

    async def _on_bus(self, sender: str) -> bool:
        try:
            (there,) = await self._bus.call(*_BUS, "NameHasOwner", "s", sender)
        except RaveError:
            return True
        return bool(there)

    def _reject(self, sender: str) -> None:
        _remember(self._rejected_senders, sender, _MAX_REJECTED_SENDERS)

    async def _unit_of(self, sender: str) -> str:
        """The unit of a connection's process, looked up by a process file descriptor, as process ids are reused."""
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
    """Whether the bus has refused to deliver a call, because too many are without an answer."""
    return error.attributes.get("error_name") == errors.LIMITS_EXCEEDED and not error.attributes.get("said")


def _succeeded(task: asyncio.Task[bool]) -> bool:
    return task.done() and not task.cancelled() and task.result()


def _user(mesh: str, answer: object) -> tuple[int, str]:
    match answer:
        case [int(user), str(name)]:
            return user, printable(name, _MAX_NAME)
    raise _senseless_users(mesh)


def _senseless_users(mesh: str) -> RaveError:
    return RaveError(Code.BAD_DATA, f"the bot of mesh {mesh} has not answered with its users", mesh=mesh)


def _setting(mesh: str, answer: list[Any]) -> SettingInfo:
    if len(answer) == 1 and (info := setting_info(answer[0])):
        return info
    raise _senseless_settings(mesh)


def _senseless_settings(mesh: str) -> RaveError:
    return RaveError(Code.BAD_DATA, f"the bot of mesh {mesh} has not answered with its settings", mesh=mesh)
