"""A connection to a message bus: calls, names, signals, exported objects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ravesvc.bus import errors
from ravesvc.bus.errors import DBusErrorReply
from ravesvc.bus.header import Header, MessageKind, read_header
from ravesvc.bus.interface import Call, Interface, Method
from ravesvc.bus.matching import DAEMON, DAEMON_PATH, Accept, Handler, Matches, accept_all
from ravesvc.bus.message import (
    ALLOW_INTERACTIVE_AUTHORIZATION,
    MAX_FRAME_BYTES,
    NO_REPLY_EXPECTED,
    Message,
    decode,
    encode,
)
from ravesvc.bus.objects import ObjectTree, Standard, Target
from ravesvc.bus.transport import MAX_SENT_BYTES, FrameTransport, close_fds, open_socket, system_address
from ravesvc.common.error_text import Audience, present
from ravesvc.common.token_bucket import Rate, TokenBucket
from ravesvc.errors import Code, RaveError, new_incident, with_incident

if TYPE_CHECKING:
    # For the service: a bot, which has one caller, does without.
    from ravesvc.bus.turns import Turn, Turns

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_FLUSH_TIMEOUT_S = 2.0
# The stock system bus refuses a call when 128 of one connection wait for their replies.
_MAX_CALLS = 100
# How many methods of ours one caller may keep running.
_MAX_METHODS_PER_CALLER = 64
# How often a caller is told that its call is too large.
_LARGE_REFUSAL_RATE = Rate(64, 8.0)
_MAX_ERROR_CHARS = 2000
# Tracebacks in the log, of frames on which our code failed.
_FAILURE_LOG_RATE = Rate(10, 0.1)
_DO_NOT_QUEUE = 4
_PRIMARY_OWNER, _IN_QUEUE, _ALREADY_OWNER = 1, 2, 4


class _TooLargeError(Exception):
    """A message is larger than its receiver accepts; the text is the number of bytes."""


class _Pending(NamedTuple):
    """A call that waits for its reply."""

    destination: str
    max_reply_bytes: int
    future: asyncio.Future[Message | None]


@dataclass(slots=True)
class _IncomingCall:
    """A call that is being served: its frame, its descriptors until `close`, and the turn to charge its time to."""

    header: Header
    frame: bytes
    fds: list[int]
    turn: Turn | None

    def decode(self) -> Message:
        """The call, which owns its descriptors; raises `DBusErrorReply` if it can't be read or is too large."""
        message = decode(self.frame, self.fds)
        if message is None:
            raise DBusErrorReply(errors.INVALID_ARGS, "the arguments can't be read, or have more than 64 kB")
        return message

    def close(self) -> None:
        """Close the descriptors of a call that was not decoded."""
        close_fds(self.fds)


class Bus:
    """A connection to a message bus; made by `connect`, ended by `close` or by the loss of the bus."""

    def __init__(self) -> None:
        self.unique_name = ""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended, for any reason; never has an exception. Wait for it with shield."""
        self._transport: FrameTransport
        self._serial = 0
        self._pending: dict[int, _Pending] = {}
        self._slots = asyncio.Semaphore(_MAX_CALLS)
        self._matches = Matches(self._call_daemon)
        self._objects = ObjectTree(self._emit)
        self._serving: set[asyncio.Task[None]] = set()
        self._served = Counter[str]()
        self._turns: Turns | None = None
        self._large_handler: Callable[[str], None] | None = None
        self._large_refusals = TokenBucket(_LARGE_REFUSAL_RATE, time.monotonic())
        self._failures = TokenBucket(_FAILURE_LOG_RATE, time.monotonic())

    @classmethod
    async def connect(cls, address: str | None = None) -> Bus:
        """Connect to the bus at `address`, or to the system bus, within 10 s; raises `RaveError` (Bus)."""
        address = address or system_address()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                sock = await open_socket(address)
                bus = cls()
                bus._transport = FrameTransport(sock, bus._on_frame, bus._on_large, bus._on_lost)
                try:
                    (bus.unique_name,) = await bus._call_daemon("Hello")
                except BaseException:
                    bus._end()
                    raise
        except TimeoutError as e:
            raise RaveError(Code.BUS, f"the bus at {address} does not answer") from e
        return bus

    async def close(self) -> None:
        """Cancel what our methods are doing, send what is queued, disconnect. Pending calls fail."""
        if self._turns:
            await self._turns.close()
        serving = self._serving - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                await self._transport.flush()
        except TimeoutError:
            _log.warning("the bus did not take our last messages")
        self._end()

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *args: Any,
        timeout: float = 25.0,  # noqa: ASYNC109 - the caller knows how long the method may take
        flags: int = 0,
        max_reply_bytes: int = MAX_FRAME_BYTES,
    ) -> list[Any]:
        """Call a method and return the values of its reply.

        `args` are plain values that fit `signature`, with a `Variant` for each `v`; descriptors for an `h` remain
        the caller's. In the result variants are unpacked, and descriptors are the caller's to close.
        `flags` are those of the header, such as `ALLOW_INTERACTIVE_AUTHORIZATION`. A call that has more than 64 KiB,
        once the bus has added the sender, is not sent, because no program of ours reads it. A reply of more than
        `max_reply_bytes` is not read: to decode a MB from a callee that is not trusted blocks the loop for 0.6 s.
        Raises `RaveError`: BadData for such a reply, Timeout after `timeout` seconds, Bus when the connection is
        lost or the call can't be sent; for an error reply the code of our own errors, else AccessDenied, Timeout or
        Bus. Its attribute `error_name` is the D-Bus error name, `said` the callee's own text, empty if the bus
        answers in its place.
        """
        what = f"{member} of {destination}"
        try:
            async with asyncio.timeout(timeout), self._slots:
                reply = await self._exchange(
                    Message(
                        kind=MessageKind.CALL,
                        serial=self._next_serial(),
                        flags=flags,
                        destination=destination,
                        path=path,
                        interface=interface,
                        member=member,
                        signature=signature,
                        body=args,
                    ),
                    max_reply_bytes,
                )
        except TimeoutError as e:
            raise RaveError(Code.TIMEOUT, f"{what} gave no answer in {timeout:g} s") from e
        except ValueError as e:
            raise RaveError(Code.BUS, str(e)) from e
        except _TooLargeError as e:
            raise RaveError(Code.BAD_DATA, f"{what} gave an answer of {e} bytes, which is too much") from e
        if reply is None:
            raise RaveError(Code.BUS, f"{what} failed: the connection to the bus is lost")
        if reply.kind is MessageKind.ERROR:
            reply.close_fds()
            text = str(reply.body[0]) if reply.body else ""
            raise errors.failure(reply.error_name, text, what, said="" if reply.sender == DAEMON else text)
        return list(reply.body)

    async def request_name(self, name: str) -> None:
        """Own `name`; raises `RaveError` (Bus, AccessDenied) if another process owns it or the policy forbids it."""
        arguments = (name, _DO_NOT_QUEUE)
        (result,) = await self.call(DAEMON, DAEMON_PATH, DAEMON, "RequestName", "su", *arguments)
        if result not in (_PRIMARY_OWNER, _ALREADY_OWNER):
            raise RaveError(Code.BUS, f"the bus name {name} belongs to another process")

    async def queue_for_name(self, name: str) -> bool:
        """Own `name` now, or as soon as its present owner releases it; returns whether it is ours already.

        The bus's policy treats a connection that waits for a name as if it owned it. Raises `RaveError` (Bus,
        AccessDenied).
        """
        (result,) = await self.call(DAEMON, DAEMON_PATH, DAEMON, "RequestName", "su", name, 0)
        if result not in (_PRIMARY_OWNER, _IN_QUEUE, _ALREADY_OWNER):
            raise RaveError(Code.BUS, f"the bus does not give us the name {name}")
        return bool(result != _IN_QUEUE)

    async def match(self, rule: str, handler: Handler, accept: Accept = accept_all) -> Callable[[], Awaitable[None]]:
        """Call `handler` for each signal that fits a match rule; await the result to end that.

        The rule needs type='signal' and may have sender, interface, member, path, path_namespace, arg0 and
        arg0namespace; ValueError for others. With a sender, the handler gets that sender's signals alone, also for a
        well-known name whose owner changes. `accept` may refuse a signal by its header and the size of its frame,
        before it is decoded. Raises `RaveError` (Bus, Timeout).
        """
        return await self._matches.add(rule, handler, accept)

    def take_turns(self, turns: Turns) -> None:
        """From now on pass calls to `turns`, which decides when they are served."""
        self._turns = turns

    def on_large_message(self, handler: Callable[[str], None]) -> None:
        """Call `handler(sender)` for each message of more than 64 KiB that is not read.

        Of such a message the header alone is read. The exception is a reply for which a call waits, if it has no more
        than the `max_reply_bytes` of that call.
        """
        self._large_handler = handler

    def export(self, path: str, *interfaces: Interface) -> None:
        """Put interfaces at a path, in addition to those that are there, and announce them in one InterfacesAdded.

        ValueError for an invalid path, a second instance of an interface there, or an instance that has a
        path already.
        """
        self._objects.add(path, interfaces)

    def unexport(self, path: str) -> None:
        """Remove all interfaces of a path, announced in one InterfacesRemoved; KeyError if there are none."""
        self._objects.remove(path)

    def object_manager(self, path: str) -> None:
        """Make `path` the one that answers GetManagedObjects, and that announces the objects below it."""
        self._objects.manager = path

    def _next_serial(self) -> int:
        self._serial = self._serial % 0xFFFFFFFF + 1
        return self._serial

    def _call_daemon(self, member: str, *args: str) -> Awaitable[list[Any]]:
        return self.call(DAEMON, DAEMON_PATH, DAEMON, member, "s" * len(args), *args)

    def unanswered(self, destination: str) -> int:
        """How many calls that we have given up `destination` has still not answered.

        The bus still waits for these answers: it allows us 128 calls without an answer, and refuses any more.
        """
        return sum(each.destination == destination and each.future.cancelled() for each in self._pending.values())

    async def _exchange(self, call: Message, max_reply_bytes: int) -> Message | None:
        """Send a call and wait for its reply; None when the connection is lost, or is lost meanwhile.

        Raises ValueError for a call that can't be sent, _TooLargeError for a reply that is too large.
        """
        if self._transport.closed:
            return None
        try:
            frame, fds = _encode_unsolicited(call)
        except _TooLargeError as e:
            raise ValueError(f"cannot send {call.member}: {e} bytes are too many") from e
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._pending[call.serial] = _Pending(call.destination, max_reply_bytes, future)
        self._transport.send(frame, fds)
        reply = None
        try:
            reply = await future
        finally:
            # A call that its caller has given up stays here until its answer comes: see `unanswered`.
            if not future.cancelled():
                self._pending.pop(call.serial, None)
            # A reply that arrived just when its caller gave up.
            arrived = reply is None and future.done() and not future.cancelled() and not future.exception()
            if arrived and (unread := future.result()):
                unread.close_fds()
        return reply

    def _send(self, message: Message) -> None:
        """Send a reply or a signal. A signal that is too large for all programs of ours is dropped."""
        try:
            frame, fds = _encode_unsolicited(message) if message.kind is MessageKind.SIGNAL else encode(message)
        except _TooLargeError as e:
            _log.warning("The signal %s of %s is not sent: %s bytes are too many", message.member, message.path, e)
        else:
            self._transport.send(frame, fds)

    def _emit(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        self._send(
            Message(
                kind=MessageKind.SIGNAL,
                serial=self._next_serial(),
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )

    def _on_lost(self, reason: str) -> None:
        _log.warning("lost the connection to the bus: %s", reason)
        self._end()

    def _end(self) -> None:
        self._transport.close()
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_result(None)
        if not self.lost.done():
            self.lost.set_result(None)

    def _on_frame(self, frame: bytes, fds: list[int]) -> None:
        """Process a frame and its descriptors. If that fails the frame is dropped, and the connection goes on."""
        try:
            self._dispatch(frame, fds)
        except Exception:  # noqa: BLE001 - what a peer managed to send must not end our connection
            close_fds(fds)
            if self._failures.take(time.monotonic()) == 0:
                _log.exception("%s", with_incident("A message of the bus was dropped", new_incident()))

    def _dispatch(self, frame: bytes, fds: list[int]) -> None:
        """Pass a frame on by its kind. What is of no use according to its header is not decoded."""
        header = read_header(frame)
        if header is None:
            close_fds(fds)
        elif header.kind is MessageKind.CALL:
            self._on_call(header, frame, fds)
        elif header.kind is MessageKind.SIGNAL:
            self._on_signal(header, frame, fds)
        else:
            self._on_reply(header, frame, fds)

    def _on_large(self, start: bytes, size: int) -> bool:
        """Whether to read a large frame, of which only the header has arrived: only if a call waits for that reply.

        The sender of any other one is reported to the handler of `on_large_message`.
        """
        header = read_header(start)
        if header is None:
            return False
        if header.kind in (MessageKind.RETURN, MessageKind.ERROR) and self._awaited_reply(header, size) is not None:
            return True
        if self._large_handler:
            self._large_handler(header.sender)
        if header.kind is MessageKind.CALL and self._large_refusals.take(time.monotonic()) == 0:
            self.refuse(header, errors.LIMITS_EXCEEDED, "the call has more than 64 kB")
        return False

    def _on_signal(self, header: Header, frame: bytes, fds: list[int]) -> None:
        entries = self._matches.candidates(header, len(frame))
        if entries is None:
            close_fds(fds)
        elif signal := decode(frame, fds):
            self._matches.dispatch(signal, entries)
            signal.close_fds()

    def _on_reply(self, header: Header, frame: bytes, fds: list[int]) -> None:
        future = self._awaited_reply(header, len(frame))
        if future is None:
            close_fds(fds)
        elif reply := decode(frame, fds):
            future.set_result(reply)

    def _awaited_reply(self, header: Header, size: int) -> asyncio.Future[Message | None] | None:
        """The future that waits for a reply of `size` bytes, if there is one; too large a reply ends the call."""
        pending = self._pending.get(header.reply_serial)
        if pending is None or not _may_answer(header.sender, pending.destination):
            return None
        if pending.future.cancelled():
            # A late reply to a call that was given up: the bus has stopped counting it, and so do we.
            del self._pending[header.reply_serial]
        if pending.future.done():
            return None
        if size > pending.max_reply_bytes:
            pending.future.set_exception(_TooLargeError(size))
            return None
        return pending.future

    def _on_call(self, call: Header, frame: bytes, fds: list[int]) -> None:
        if self._turns:
            self._turns.enter(call, frame, fds)
            return
        try:
            target = self.route(call)
        except DBusErrorReply as e:
            close_fds(fds)
            self.refuse(call, e.error_name, str(e))
        else:
            self.begin(call, frame, fds, target)

    def route(self, call: Header) -> Target:
        """The method that a call asks for; raises `DBusErrorReply`."""
        return self._objects.route(call)

    def begin(
        self, call: Header, frame: bytes, fds: list[int], target: Target, turn: Turn | None = None
    ) -> asyncio.Task[None] | None:
        """Serve a call; owns its descriptors. Returns the task that goes on with it, if any. See `turns.Server`."""
        incoming = _IncomingCall(call, frame, fds, turn)
        if isinstance(target, Standard):
            begun = time.perf_counter()
            self._serve_standard(incoming, target)
            if turn:
                turn.charge(time.perf_counter() - begun)
            return None
        if self._served[call.sender] >= _MAX_METHODS_PER_CALLER:
            incoming.close()
            self.refuse(call, errors.LIMITS_EXCEEDED, f"{call.sender} has too many calls running")
            return None
        return self._serve(incoming, *target)

    def _serve_standard(self, incoming: _IncomingCall, target: Standard) -> None:
        try:
            message = incoming.decode()
            try:
                self._answer(message, target.returns, target.answer(self._objects, message))
            finally:
                message.close_fds()
        except DBusErrorReply as e:
            self.refuse(incoming.header, e.error_name, str(e))
        except Exception:  # noqa: BLE001 - a caller must not see our insides
            self._fail_unexpectedly(incoming.header)
        finally:
            incoming.close()

    def _serve(self, incoming: _IncomingCall, interface: Interface, method: Method) -> asyncio.Task[None]:
        work = self._run(incoming, interface, method)
        task = asyncio.get_running_loop().create_task(incoming.turn.run(work) if incoming.turn else work)
        sender = incoming.header.sender
        self._serving.add(task)
        self._served[sender] += 1

        def done(task: asyncio.Task[None]) -> None:
            self._serving.discard(task)
            self._served[sender] -= 1
            if not self._served[sender]:
                del self._served[sender]
            incoming.close()

        task.add_done_callback(done)
        return task

    async def flush(self) -> None:
        """Wait until the bus has read what we have sent."""
        await self._transport.flush()

    async def _run(self, incoming: _IncomingCall, interface: Interface, method: Method) -> None:
        """Serve a call; its arguments are decoded only after the caller was authorized."""
        header = incoming.header
        call = Call(
            sender=header.sender,
            interactive=bool(header.flags & ALLOW_INTERACTIVE_AUTHORIZATION),
            path=header.path,
            member=header.member,
        )
        try:
            await interface.authorize(call, method.action)
            message = incoming.decode()
            try:
                await self._execute(call, message, interface, method, incoming.turn)
            finally:
                message.close_fds()
        except DBusErrorReply as e:
            self.refuse(header, e.error_name, str(e))
        except RaveError as e:
            self._fail(header, e)
        except asyncio.CancelledError:
            self.refuse(header, errors.CANCELLED, "the call was cancelled")
            raise
        except Exception:  # noqa: BLE001 - a caller must not see our insides
            self._fail_unexpectedly(header)

    async def _execute(
        self, call: Call, message: Message, interface: Interface, method: Method, turn: Turn | None
    ) -> None:
        result = await method.function(interface, call, *message.body)
        body = [] if not method.returns else [result] if len(method.returns) == 1 else list(result)
        try:
            if turn:
                await turn.answer(lambda: self._answer(message, method.returns, body))
            else:
                self._answer(message, method.returns, body)
        finally:
            # Duplicates of them were sent.
            close_fds([value for kind, value in zip(method.returns.values(), body, strict=False) if kind == "h"])

    def _answer(self, call: Header, returns: dict[str, str], body: list[Any]) -> None:
        self._reply(call, MessageKind.RETURN, "", "".join(returns.values()), body)

    def _fail(self, call: Header, error: RaveError) -> None:
        self.refuse(call, errors.error_name(error), present(error, Audience.BUS))

    def _fail_unexpectedly(self, call: Header) -> None:
        """Log the exception that is being handled; the caller gets only the id under which it is in the log."""
        incident = new_incident()
        _log.exception("%s", with_incident(f"{call.member} at {call.path} failed", incident))
        self._fail(call, RaveError(Code.INTERNAL, "internal error, see the log", incident=incident))

    def refuse(self, call: Header, error_name: str, text: str) -> None:
        """Answer a call with an error, of which `text` is the sentence for people."""
        self._reply(call, MessageKind.ERROR, error_name, "s", [text[:_MAX_ERROR_CHARS]])

    def _reply(self, call: Header, kind: MessageKind, error_name: str, signature: str, body: list[Any]) -> None:
        if call.flags & NO_REPLY_EXPECTED:
            return
        self._send(
            Message(
                kind=kind,
                serial=self._next_serial(),
                reply_serial=call.serial,
                destination=call.sender,
                error_name=error_name,
                signature=signature,
                body=body,
            )
        )


def _encode_unsolicited(message: Message) -> tuple[bytes, list[int]]:
    """As `encode`, for a call or signal; raises `_TooLargeError` for one that no program of ours reads.

    The service kills a bot that sends one. It measures the frame together with the sender that the bus has added.
    """
    frame, fds = encode(message)
    if len(frame) > MAX_SENT_BYTES:
        close_fds(fds)
        raise _TooLargeError(len(frame))
    return frame, fds


def _may_answer(sender: str, destination: str) -> bool:
    """Whether a reply of `sender` may be one to a call of `destination`.

    Only the daemon may answer in another's place: it answers for itself, and for connections that are gone. Who owns
    a well-known name the daemon alone knows. A reply for which no call waits does not pass it.
    """
    well_known = destination != DAEMON and not destination.startswith(":")
    return well_known or sender in (DAEMON, destination)
