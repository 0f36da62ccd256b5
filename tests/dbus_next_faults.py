"""Reproduces the faults of dbus-next's own connection for which ravesvc/bus does without it, one by name.

    .venv/bin/python tests/dbus_next_faults.py full_socket

Each prints what it has seen, and fails if the fault is not there any more. README.md of ravesvc/bus lists them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from dbus_next import Message, MessageType
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio import MessageBus
from dbus_next.service import PropertyAccess, ServiceInterface, dbus_property, method

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"""


class _Stuck(BaseException):
    """The alarm that ends a call which no time-out of the event loop can end."""


@contextlib.contextmanager
def _daemon() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A private bus: its address and its process."""
    with tempfile.TemporaryDirectory() as directory:
        config, path = Path(directory, "bus.conf"), Path(directory, "bus")
        config.write_text(_CONFIG.format(socket=path))
        arguments = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
            assert daemon.stdout
            try:
                yield daemon.stdout.readline().strip(), daemon
            finally:
                daemon.send_signal(signal.SIGCONT)
                daemon.terminate()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise _Stuck

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Thing(ServiceInterface):
    """An object with a method that fails, one that never ends, and a property that can't be read."""

    def __init__(self) -> None:
        super().__init__("org.example.Thing1")
        self.serving: asyncio.Future[asyncio.Task[Any] | None] = asyncio.get_running_loop().create_future()

    @method()
    def Divide(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, N802, UP037
        return 1 // 0

    @method()
    async def Wait(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, N802, UP037
        self.serving.set_result(asyncio.current_task())
        await asyncio.sleep(60)
        return 1

    @dbus_property(access=PropertyAccess.READ)
    def Good(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, N802, UP037
        return 1

    @dbus_property(access=PropertyAccess.READ)
    def Bad(self) -> "u":  # type: ignore[name-defined]  # noqa: F821, N802, UP037
        raise RuntimeError("not now")


@contextlib.asynccontextmanager
async def _served() -> Any:
    """An object on a private bus, and a client: the thing, the service's bus, the client's bus."""
    with _daemon() as (address, _):
        service, client = MessageBus(address), MessageBus(address)
        await service.connect()
        await client.connect()
        thing = _Thing()
        service.export("/org/example/thing", thing)
        try:
            yield thing, service, client
        finally:
            for bus in (service, client):
                bus.disconnect()


def _call(service: MessageBus, member: str, interface: str = "org.example.Thing1", *body: Any) -> Message:
    return Message(
        destination=service.unique_name,
        path="/org/example/thing",
        interface=interface,
        member=member,
        signature="s" * len(body),
        body=list(body),
    )


async def full_socket() -> str:
    """The bus pauses for a moment while much is sent: the connection ends."""
    with _daemon() as (address, daemon):
        bus = MessageBus(address)
        await bus.connect()
        daemon.send_signal(signal.SIGSTOP)
        for _ in range(5000):
            bus.send(Message.new_signal("/org/example", "org.example.Thing1", "Changed", "s", ["x" * 1000]))
        try:
            await asyncio.wait_for(bus.wait_for_disconnect(), 5)
        except BlockingIOError as e:
            return f"5000 signals to a bus that pauses end the connection: {e!r}"
        finally:
            daemon.send_signal(signal.SIGCONT)
        raise AssertionError("the connection goes on")


def _read_and_close(connection: socket.socket) -> None:
    with connection:
        while not connection.recv(512).endswith(b"\r\n"):
            pass


async def closed_in_authentication() -> str:
    """The bus closes the connection during the authentication: connect() runs for ever, and blocks the loop."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/bus")
        listener.listen()
        bus = MessageBus(f"unix:path={directory}/bus")
        threading.Thread(target=_read_and_close, args=[listener.accept()[0]]).start()
        begun, used = time.monotonic(), time.process_time()
        try:
            with _alarm(1.5):
                await asyncio.wait_for(bus.connect(), 0.5)
        except _Stuck:
            took, used = time.monotonic() - begun, time.process_time() - used
            return f"connect() with a time-out of 0.5 s: an alarm after {took:.1f} s, {used:.1f} s of CPU"
        raise AssertionError("connect() has ended")


async def blocking_connect() -> str:
    """The listener's backlog is full, as it is when a bus starts late: the constructor blocks the loop."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"{directory}/bus")
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = sockets.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(f"{directory}/bus")
        begun = time.monotonic()
        try:
            with _alarm(1.5):
                MessageBus(f"unix:path={directory}/bus")
        except _Stuck:
            return f"the constructor has blocked the loop for {time.monotonic() - begun:.1f} s, until an alarm"
        raise AssertionError("the constructor has returned")


async def traceback_to_caller() -> str:
    """A method raises an exception: the caller gets its traceback."""
    async with _served() as (_, service, client):
        reply = await client.call(_call(service, "Divide"))
        assert __file__ in reply.body[0]
        return f"{reply.error_name} to the caller, with {reply.body[0].count('  File ')} places in files"


async def cancelled_method() -> str:
    """A method is cancelled: the caller gets no answer."""
    async with _served() as (thing, service, client):
        call = asyncio.ensure_future(client.call(_call(service, "Wait")))
        (await asyncio.wait_for(thing.serving, 5)).cancel()
        _, waiting = await asyncio.wait([call], timeout=1)
        assert waiting
        call.cancel()
        return "no answer within 1 s after the method was cancelled"


async def call_after_loss() -> str:
    """The bus has gone: a call waits for ever."""
    async with _served() as (_, service, client):
        client.disconnect()
        await client.wait_for_disconnect()
        call = asyncio.ensure_future(client.call(_call(service, "Divide")))
        _, waiting = await asyncio.wait([call], timeout=1)
        assert waiting
        call.cancel()
        return "a call after the end of the connection has neither failed nor returned within 1 s"


async def one_bad_getter() -> str:
    """One property can't be read: GetAll has none."""
    async with _served() as (_, service, client):
        interface = "org.freedesktop.DBus.Properties"
        reply = await client.call(_call(service, "GetAll", interface, "org.example.Thing1"))
        assert reply.message_type is MessageType.ERROR
        return f"GetAll of a good and a bad property: {reply.error_name}"


async def signal_from_object() -> str:
    """InterfacesAdded comes from the path of the new object, not from that of the object manager."""
    async with _served() as (_, service, client):
        seen: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        client.add_message_handler(
            lambda m: seen.set_result(m) if m.member == "InterfacesAdded" and not seen.done() else None
        )
        rule = "type='signal',member='InterfacesAdded'"
        await client.call(
            Message("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "AddMatch", signature="s", body=[rule])
        )
        service.export("/org/example/other", _Good())
        signal_ = await asyncio.wait_for(seen, 5)
        added = signal_.body[0]
        assert signal_.path == added
        return f"InterfacesAdded of {added} comes from {signal_.path}"


class _Good(ServiceInterface):
    """An object without anything."""

    def __init__(self) -> None:
        super().__init__("org.example.Good1")


async def inherited_descriptors() -> str:
    """A descriptor that came with a message is open in programs that are started afterwards."""
    with _daemon() as (address, _):
        receiver = await MessageBus(address, negotiate_unix_fd=True).connect()
        sender = await MessageBus(address, negotiate_unix_fd=True).connect()
        got: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        receiver.add_message_handler(lambda m: got.set_result(m.unix_fds[0]) if m.unix_fds else None)
        message = Message(receiver.unique_name, "/x", "org.example.Thing1", "Take", signature="h", body=[0])
        message.unix_fds = [0]
        await sender.send(message)
        descriptor = await asyncio.wait_for(got, 5)
        assert os.get_inheritable(descriptor)
        return f"descriptor {descriptor} of a message has no close-on-exec flag"


async def socket_stays_open() -> str:
    """After the end of the connection its socket is still open."""
    async with _served() as (_, _, client):
        client.disconnect()
        await client.wait_for_disconnect()
        os.fstat(client._fd)
        return "the socket is open after wait_for_disconnect()"


async def decodes_everything() -> str:
    """A signal for which there is no handler is decoded whole, whatever its size."""
    async with _served() as (_, service, client):
        entries = [[str(i), i] for i in range(60_000)]
        signal_ = Message.new_signal("/x", "org.example.Thing1", "Changed", "a(su)", [entries])
        signal_.destination, signal_.serial = service.unique_name, 1
        frame = signal_._marshall()
        begun = time.perf_counter()
        Unmarshaller(io.BytesIO(frame)).unmarshall()
        alone = time.perf_counter() - begun
        longest, last = 0.0, time.perf_counter()
        client.send(signal_)
        while time.perf_counter() < begun + 10 and longest < alone / 2:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        assert longest >= alone / 2
        return f"a signal of {len(frame)} bytes without a handler blocks the loop for {longest:.2f} s"


FAULTS: dict[str, Callable[[], Coroutine[Any, Any, str]]] = {
    each.__name__: each
    for each in (
        full_socket,
        closed_in_authentication,
        blocking_connect,
        traceback_to_caller,
        cancelled_method,
        call_after_loss,
        one_bad_getter,
        signal_from_object,
        inherited_descriptors,
        socket_stays_open,
        decodes_everything,
    )
}


def main() -> None:
    """Reproduce the named faults, or all."""
    logging.disable()
    for name in sys.argv[1:] or FAULTS:
        print(f"{name}: {asyncio.run(FAULTS[name]())}", flush=True)


if __name__ == "__main__":
    main()
