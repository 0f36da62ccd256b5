from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc import bus as bus_package
from ravesvc.bus import (
    ALLOW_INTERACTIVE_AUTHORIZATION,
    Bus,
    Call,
    Interface,
    Variant,
    _dbus_next,
    allow_all,
    connection,
    handles_missing_action,
    message,
    method,
    transport,
)
from ravesvc.bus.header import Header, MessageKind
from ravesvc.bus.message import Message, decode, encode
from ravesvc.bus.transport import FrameTransport
from ravesvc.bus.turns import Turns
from ravesvc.errors import Code, RaveError
from ravesvc.names import PolkitAction
from tests.unit.bus_fakes import Lamp, authenticate, connected, fake_bus, open_fds, send_anything
from tests.unit.conftest import BusDaemon, until

Run = Callable[[Any], Any]
LAMP = "/org/example/lamp"
DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def never_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await authenticate(reader, writer)
    await reader.read()


async def close_at_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await authenticate(reader, writer)
    await reader.readexactly(16)


def test_the_library_in_use() -> None:
    assert _dbus_next.dbus_next.__name__ == os.environ.get("RAVESVC_TEST_DBUS", "dbus_next")


def test_only_the_seam_imports_the_library() -> None:
    package = Path(bus_package.__file__).parent
    importers = [f.name for f in package.glob("*.py") if re.search(r"^\s*(from|import) dbus_", f.read_text(), re.M)]
    assert importers == ["_dbus_next.py"]


# Connecting


@pytest.mark.parametrize("serve", [hang, never_hello])
def test_connect_has_a_time_out(
    run: Run, tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT_S", 0.2)

    async def body() -> None:
        before = open_fds()
        async with fake_bus(tmp_path, serve) as address:
            with pytest.raises(RaveError, match="does not answer") as e:
                await Bus.connect(address)
            assert e.value.code is Code.BUS
        await asyncio.sleep(0)
        assert open_fds() == before

    run(body())
    assert not caplog.records


async def test_connect_to_a_bus_that_closes(tmp_path: Path) -> None:
    async with fake_bus(tmp_path, close_at_hello) as address:
        with pytest.raises(RaveError, match="connection to the bus is lost") as e:
            await Bus.connect(address)
        assert e.value.code is Code.BUS


async def test_connect_to_no_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    with pytest.raises(RaveError, match="cannot reach the bus") as e:
        await Bus.connect()
    assert e.value.code is Code.BUS


async def test_connect_finds_the_system_bus(bus_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address)

    before = open_fds()
    bus = await Bus.connect()
    assert re.fullmatch(r":\d+\.\d+", bus.unique_name)
    assert not bus.lost.done()
    await bus.close()
    await bus.close()
    assert bus.lost.result() is None
    assert open_fds() <= before


async def test_names(bus_address: str) -> None:
    async with connected(bus_address, 2) as (one, two):
        await one.request_name("org.example.Name")
        await one.request_name("org.example.Name")
        with pytest.raises(RaveError, match="belongs to another process") as e:
            await two.request_name("org.example.Name")
        assert e.value.code is Code.BUS
        with pytest.raises(RaveError):
            await two.request_name("no name")
        assert (await two.call(*DAEMON, "ListQueuedOwners", "s", "org.example.Name"))[0] == [one.unique_name]


# Calling


def test_call_time_out_leaves_nothing_behind(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with connected(bus_address, 2) as (client, service):
            lamp = Lamp()
            service.export(LAMP, lamp)
            with pytest.raises(RaveError, match=r"Wait of .* gave no answer in 0.05 s") as e:
                await client.call(service.unique_name, LAMP, Lamp.interface, "Wait", timeout=0.05)
            assert e.value.code is Code.TIMEOUT
            assert client.unanswered(service.unique_name) == 1
            lamp.go.set()
            await client.call(
                service.unique_name, LAMP, Lamp.interface, "Wait"
            )  # the late reply came before this one
            assert client.unanswered(service.unique_name) == 0
            calling = asyncio.create_task(client.call(service.unique_name, LAMP, Lamp.interface, "WhoCalls"))
            await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await until(lambda: not client._pending)

    run(body())
    assert not caplog.records


async def test_who_is_gone_owes_no_answer(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp())
        with pytest.raises(RaveError, match="gave no answer"):
            await client.call(service.unique_name, LAMP, Lamp.interface, "Wait", timeout=0.05)
        assert client.unanswered(service.unique_name) == 1
        service._transport.close()
        await until(lambda: client.unanswered(service.unique_name) == 0)


@pytest.mark.slow
async def test_no_more_calls_at_once_than_the_bus_takes(bus_address: str) -> None:
    async with connected(bus_address, 4) as (client, *services):
        lamps = [Lamp() for _ in services]
        for service, lamp in zip(services, lamps, strict=True):
            service.export(LAMP, lamp)
        calls = [
            asyncio.create_task(client.call(service.unique_name, LAMP, Lamp.interface, "Wait"))
            for service in services
            for _ in range(50)
        ]
        await until(lambda: sum(len(lamp.calls) for lamp in lamps) >= 100)
        assert len(client._pending) == 100
        late = asyncio.create_task(client.call(*DAEMON, "GetId", timeout=0.05))
        with pytest.raises(RaveError) as e:
            await late
        assert e.value.code is Code.TIMEOUT
        for lamp in lamps:
            lamp.go.set()
        assert await asyncio.gather(*calls) == [[]] * 150


async def test_call_that_cannot_be_sent(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        for arguments in [("no name", "/", "a.b", "C"), (*DAEMON, "GetId", "u", -1), (*DAEMON, "GetId", "s")]:
            with pytest.raises(RaveError, match="cannot send") as e:
                await bus.call(*arguments)
            assert e.value.code is Code.BUS
        assert not bus._pending


async def test_error_replies(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        with pytest.raises(RaveError, match=r"C of org.example.Nobody failed: .*org.example.Nobody") as e:
            await bus.call("org.example.Nobody", "/", "a.b", "C")
        assert e.value.code is Code.BUS
        assert e.value.attributes["error_name"] == "org.freedesktop.DBus.Error.ServiceUnknown"


async def test_only_who_was_asked_may_answer(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        for destination, sender, counts in [
            (":1.7", ":1.8", False),
            (DAEMON[0], ":1.8", False),
            (":1.7", DAEMON[0], True),
            (":1.7", ":1.7", True),
            ("org.example.Name", ":1.8", True),
        ]:
            asked: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
            bus._pending[77] = connection._Pending(destination, 1000, asked)
            header = Header(kind=MessageKind.RETURN, reply_serial=77, sender=sender)
            frame, _ = encode(Message(kind=MessageKind.RETURN, serial=1, reply_serial=77))
            bus._on_reply(header, frame, [])
            assert asked.done() is counts, (destination, sender)
            bus._on_reply(header, frame, [])  # a second one
        del bus._pending[77]


# Being called


async def test_method_gets_its_caller(bus_address: str) -> None:
    async with connected(bus_address, 4) as (service, *clients):
        lamp = Lamp()
        service.export(LAMP, lamp)
        said = await clients[0].call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "ab", 2)
        assert said == ["abab", 2]
        call = lamp.calls[0]
        assert call == Call(sender=clients[0].unique_name, interactive=False, path=LAMP, member="Say")
        answers = await asyncio.gather(
            *(c.call(service.unique_name, LAMP, Lamp.interface, "WhoCalls") for _ in range(20) for c in clients)
        )
        assert answers == [[c.unique_name] for _ in range(20) for c in clients]


async def test_flags_of_a_call(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        lamp = Lamp()
        service.export(LAMP, lamp)
        for flags, member in [(4, "Say"), (1, "Say"), (1, "Nothing"), (0x85, "Say")]:
            client._send(
                Message(
                    kind=MessageKind.CALL,
                    serial=client._next_serial(),
                    flags=flags,
                    destination=service.unique_name,
                    path=LAMP,
                    interface=Lamp.interface,
                    member=member,
                    signature="su",
                    body=["x", 1],
                )
            )
        sent: list[Message] = []
        service._send = sent.append  # type: ignore[method-assign]
        await until(lambda: len(lamp.calls) == 3 and not service._serving)
        assert [call.interactive for call in lamp.calls] == [True, False, True]
        assert [m.kind for m in sent] == [MessageKind.RETURN]
        del service._send  # type: ignore[method-assign]


async def test_a_caller_that_lets_polkit_ask(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        lamp = Lamp()
        service.export(LAMP, lamp)
        for flags in (ALLOW_INTERACTIVE_AUTHORIZATION, 0):
            await client.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "x", 1, flags=flags)
        assert [call.interactive for call in lamp.calls] == [True, False]


class Faulty(Interface):
    interface = "org.example.Faulty1"

    def __init__(self) -> None:
        super().__init__(allow_all)
        self.running = asyncio.Event()

    @method()
    async def bug(self, call: Call) -> None:
        raise RuntimeError("secret: " + __file__)

    @method(returns={"number": "u"})
    async def wrong_type(self, call: Call) -> str:
        return "x"

    @method(returns={"one": "u", "two": "u"})
    async def wrong_count(self, call: Call) -> tuple[int, ...]:
        return 1, 2, 3

    @method()
    async def cancelled(self, call: Call) -> None:
        raise asyncio.CancelledError

    @method()
    async def denied(self, call: Call) -> None:
        raise RaveError(Code.ACCESS_DENIED, "not you")

    @method()
    async def slow(self, call: Call) -> None:
        self.running.set()
        await asyncio.Event().wait()


async def failure_of(client: Bus, service: Bus, member: str) -> RaveError:
    with pytest.raises(RaveError) as e:
        await client.call(service.unique_name, "/f", Faulty.interface, member, timeout=5)
    return e.value


async def error_of(client: Bus, service: Bus, member: str) -> tuple[str, str]:
    error = await failure_of(client, service, member)
    return str(error.attributes["error_name"]), error.message.partition("failed: ")[2]


def test_exceptions_become_errors(run: Run, bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with connected(bus_address, 2) as (client, service):
            service.export("/f", Faulty())
            for member in ("Bug", "WrongType", "WrongCount"):
                error = await failure_of(client, service, member)
                assert error.code is Code.INTERNAL
                assert error.attributes["error_name"] == "org.ravesvc.Rave1.Error.Internal"
                assert error.attributes["said"] == "internal error, see the log"
                assert re.fullmatch(r"[0-9a-f]{8}", error.incident)
                assert error.incident in caplog.records[-1].getMessage()
                assert caplog.records[-1].exc_info
            assert len(caplog.records) == 3
            caplog.clear()
            assert await error_of(client, service, "Cancelled") == (
                "org.ravesvc.Rave1.Error.Closed",
                "the call was cancelled",
            )
            denied = "org.freedesktop.DBus.Error.AccessDenied"
            assert await error_of(client, service, "Denied") == (denied, "not you")
            with pytest.raises(RaveError) as e:
                await client.call(service.unique_name, "/f", Faulty.interface, "Denied")
            assert e.value.code is Code.ACCESS_DENIED

    run(body())
    assert not caplog.records  # an ordinary refusal is nothing to log


async def test_closing_cancels_and_answers_what_runs(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        faulty = Faulty()
        service.export("/f", faulty)
        call = asyncio.create_task(client.call(service.unique_name, "/f", Faulty.interface, "Slow"))
        await faulty.running.wait()
        await service.close()
        with pytest.raises(RaveError, match="the call was cancelled") as e:
            await call
        assert e.value.code is Code.CLOSED


async def test_closing_from_within_a_method(bus_address: str) -> None:
    class Door(Interface):
        interface = "org.example.Door1"

        @method()
        async def close(self, call: Call) -> None:
            await service.close()

    service: Bus

    async with connected(bus_address, 2) as (client, service):
        service.export("/d", Door(allow_all))
        with pytest.raises(RaveError, match=r"NoReply|gave no answer|disconnected"):
            await client.call(service.unique_name, "/d", Door.interface, "Close", timeout=5)


async def test_one_caller_cannot_take_everything(bus_address: str) -> None:
    async with connected(bus_address, 3) as (greedy, modest, service):
        lamp = Lamp()
        service.export(LAMP, lamp)
        calls = [
            asyncio.create_task(greedy.call(service.unique_name, LAMP, Lamp.interface, "Wait")) for _ in range(70)
        ]
        said = await modest.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "x", 1)
        assert said == ["x", 1]
        await until(lambda: sum(call.done() for call in calls) >= 6)
        lamp.go.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        refused = [r for r in results if isinstance(r, RaveError)]
        assert len(refused) == 6
        assert refused[0].attributes["error_name"] == "org.freedesktop.DBus.Error.LimitsExceeded"
        await until(lambda: not service._serving)
        assert not service._served


async def test_an_oversized_call_is_not_served_and_an_oversized_reply_arrives(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_anything(monkeypatch)

    async with connected(bus_address, 2) as (client, service):
        lamp = Lamp()
        service.export(LAMP, lamp)
        say = (service.unique_name, LAMP, Lamp.interface, "Say", "su")
        with pytest.raises(RaveError) as e:
            await client.call(*say, "x" * 70_000, 1)
        assert e.value.attributes["error_name"] == "org.freedesktop.DBus.Error.LimitsExceeded"
        assert await client.call(*say, "x" * 60_000, 20) == ["x" * 1_200_000, 60_000]
        assert len(lamp.calls) == 1


async def everybody(sender: str) -> str | None:
    return "everybody"


@pytest.mark.slow
@pytest.mark.parametrize("group", [None, everybody])
@pytest.mark.parametrize(
    ("path", "member", "refused"),
    [
        ("/" + "x" * (9 << 20), "Say", False),
        ("/" + "x" * 1_000_000, "Say", False),
        ("/" + "x" * 60_000, "Say", True),
        (LAMP, "x" * 255, True),
    ],
    ids=["path of 9 MiB", "path of 1 MB", "path of 60 kB", "longest member"],
)
async def test_long_names_in_a_call_cost_that_call(
    bus_address: str, path: str, member: str, group: Any, refused: bool
) -> None:
    """A refusal names what was asked for: that of a path of 9 MiB could not be sent, and ended the service."""

    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp())
        if group:
            service.take_turns(Turns(service, group))
        await client.call(service.unique_name, LAMP, "org.freedesktop.DBus.Peer", "Ping")
        errors: list[Message] = []
        client._on_reply = lambda _, frame, fds: errors.append(decode(frame, fds))  # type: ignore[method-assign,assignment,arg-type]
        call = Message(kind=MessageKind.CALL, serial=77, path=path, member=member, destination=service.unique_name)
        client._transport.send(message._encode(call, []), [])
        await client.flush()
        if refused:
            await until(lambda: errors)
            assert "Unknown" in errors[0].error_name
            assert len(errors[0].body[0]) <= 200
        del client._on_reply
        assert await client.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "x", 1) == ["x", 1]
        assert not service.lost.done()


async def test_a_call_with_many_header_fields_is_dropped_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    bus = Bus()
    bus._transport = FrameTransport(ours, bus._on_frame, bus._on_large, bus._on_lost)
    read: list[int] = []
    monkeypatch.setattr(connection, "read_header", lambda frame: read.append(len(frame)))
    fields = b"\x64\x01u\0" + bytes(4)
    frame = struct.pack("<4sIII", b"l\1\0\1", 0, 1, 1_000_000) + fields * 125_000
    with theirs:
        await asyncio.to_thread(theirs.sendall, frame + b"l\1\0\1" + bytes(12))
        await until(lambda: read)
        assert read == [16]
        await bus.close()


async def test_an_exception_over_a_frame_costs_that_frame(bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp())
        call = {"path": LAMP, "member": "Say", "destination": service.unique_name}
        for number, error in enumerate((ValueError("that"), OSError("this"), BlockingIOError())):

            def fail(call: Header, error: Exception = error) -> Any:
                raise error

            service.route = fail  # type: ignore[method-assign]
            before = open_fds()
            client._send(Message(kind=MessageKind.CALL, serial=1000 + number, **call))
            await client.flush()
            await until(lambda: caplog.records)
            assert re.search(r"was dropped \(error [0-9a-f]{8}\)$", caplog.records[0].getMessage())
            caplog.clear()
            del service.route
            assert open_fds() == before
            assert await client.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "x", 1) == ["x", 1]


async def test_a_reply_larger_than_its_caller_is_ready_for_is_not_read(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp())
        say = (service.unique_name, LAMP, Lamp.interface, "Say", "su")
        assert await client.call(*say, "x" * 100, 9, max_reply_bytes=1024) == ["x" * 900, 100]
        read: list[int] = []
        decode = connection.decode
        monkeypatch.setattr(connection, "decode", lambda frame, fds: read.append(len(frame)) or decode(frame, fds))
        with pytest.raises(RaveError) as e:
            await client.call(*say, "x" * 1000, 9, max_reply_bytes=1024)
        assert e.value.code is Code.BAD_DATA
        assert "which is too much" in e.value.message
        assert read
        assert max(read) < 2048, "the call, but not the reply"
        assert not client._pending


async def test_a_call_that_none_of_ours_would_read_is_not_sent(bus_address: str) -> None:
    async with connected(bus_address, 2) as (sender, service):
        service.export(LAMP, Lamp())
        large: list[str] = []
        service.on_large_message(large.append)
        with pytest.raises(RaveError, match=r"cannot send Say: 70\d{3} bytes are too many"):
            await sender.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", "x" * 70_000, 1)
        longest = "x" * 64_000
        said = await sender.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", longest, 1)
        assert said == [longest, 64_000]
        assert not large


async def test_what_the_bus_adds_to_calls_and_signals_makes_none_too_large(bus_address: str) -> None:
    """It adds the sender after we have measured; and who gets one that is too large then holds us for a stranger."""

    async with connected(bus_address, 2) as (sender, service):
        large: list[str] = []
        service.on_large_message(large.append)
        service.export(LAMP, Lamp())
        ticks: list[int] = []
        await service.match(
            "type='signal',interface='org.example.Clock'", lambda signal: ticks.append(len(signal.body[0]))
        )
        # Around 64 KiB with the header, which has some 150 bytes; the sender takes 16 or more.
        for length in range(65_300, 65_541, 3):
            text = "x" * length
            with contextlib.suppress(RaveError):
                await sender.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", text, 1)
            sender._emit("/clock", "org.example.Clock", "Tick", "s", text)
        assert not large
        longest = "x" * 64_000
        sender._emit("/clock", "org.example.Clock", "Tick", "s", longest)
        assert await sender.call(service.unique_name, LAMP, Lamp.interface, "Say", "su", longest, 1)
        assert ticks == [64_000]
        assert not large


async def test_large_frames_that_nobody_wants_are_thrown_away_before_they_are_whole(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_anything(monkeypatch)

    async with connected(bus_address, 2) as (sender, service):
        service.export(LAMP, Lamp())
        say = (service.unique_name, LAMP, Lamp.interface, "Say", "su")
        heard: list[str] = []
        await service.match("type='signal',interface='org.example.Clock'", lambda s: heard.append(s.body[0]))
        sizes: list[int] = []
        on_frame = service._transport._on_frame
        service._transport._on_frame = lambda frame, fds: sizes.append(len(frame)) or on_frame(frame, fds)  # type: ignore[func-returns-value]
        large: list[str] = []
        service.on_large_message(large.append)
        for text in ("x" * 1_000_000, "now"):
            sender._emit("/clock", "org.example.Clock", "Tick", "s", text)
        with pytest.raises(RaveError, match="more than 64 kB"):
            await sender.call(*say, "x" * 1_000_000, 1)
        assert large == [sender.unique_name] * 2
        # A reply is wanted, for all its size, if its caller says so.
        with pytest.raises(RaveError, match="which is too much") as e:
            await sender.call(*say, "x" * 50_000, 20, max_reply_bytes=100_000)
        assert e.value.code is Code.BAD_DATA
        assert await sender.call(*say, "x" * 50_000, 20) == ["x" * 1_000_000, 50_000]
        assert heard == ["now"]
        assert max(sizes) < 64 * 1024


async def test_large_replies_that_are_not_wanted_are_told(bus_address: str) -> None:
    """The bus keeps them for us as it keeps calls and signals."""

    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp())
        say = (service.unique_name, LAMP, Lamp.interface, "Say", "su", "x" * 1000)
        large: list[str] = []
        client.on_large_message(large.append)
        assert await client.call(*say, 500) == ["x" * 500_000, 1000]
        assert not large, "it was waited for"
        with pytest.raises(RaveError, match="which is too much"):
            await client.call(*say, 500, max_reply_bytes=64 * 1024)
        assert large == [service.unique_name]
        given_up = asyncio.create_task(client.call(*say, 500))
        # Not a moment longer than until it asks: a millisecond later the reply could be there.
        while not client._pending:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        given_up.cancel()
        await until(lambda: large == [service.unique_name] * 2)
        assert given_up.cancelled()


async def test_a_large_reply_that_comes_too_late_is_not_read_either(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        asked: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        bus._pending[77] = connection._Pending(":1.7", 16, asked)
        asked.cancel()
        frame, fds = encode(Message(kind=MessageKind.RETURN, serial=1, reply_serial=77, destination=bus.unique_name))
        bus._on_frame(frame, fds)
        del bus._pending[77]


MANAGED = ("/org/example", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
REPLY = 200_000


class Greedy:
    """A caller that asks for all objects a hundred times, 20 MB, and reads nothing until told to."""

    count = 100

    def __init__(self, client: Bus, service: Bus) -> None:
        lamp = Lamp()
        lamp.set(Name="x" * REPLY)
        service.object_manager(MANAGED[0])
        service.export(LAMP, lamp)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._loop.remove_reader(client._transport._sock)
        self.answers = asyncio.gather(*(client.call(service.unique_name, *MANAGED) for _ in range(self.count)))

    async def read(self) -> list[list[Any]]:
        self._loop.add_reader(self._client._transport._sock, self._client._transport._readable)
        return await self.answers


@pytest.mark.slow
async def test_who_does_not_read_its_answers_keeps_nobody_else_waiting(bus_address: str) -> None:
    async with connected(bus_address, 3) as (client, modest, service):
        greedy = Greedy(client, service)
        await until(lambda: service._serial > Greedy.count and not service._transport._queue)
        said = await modest.call(service.unique_name, LAMP, Lamp.interface, "WhoCalls", timeout=5)
        assert said == [modest.unique_name]
        assert not greedy.answers.done()
        assert not service.lost.done()
        assert len(await greedy.read()) == Greedy.count


@pytest.mark.slow
async def test_a_bus_that_is_full_of_unread_answers_is_not_lost(bus_daemon: BusDaemon) -> None:
    """The daemon takes no more from us than it may keep, so that all calls have to wait; but only that."""
    limit = '<limit name="max_incoming_bytes">1000000</limit></busconfig>'
    bus_daemon.stop()
    bus_daemon.socket.unlink()
    bus_daemon.config.write_text(bus_daemon.config.read_text().replace("</busconfig>", limit))
    bus_daemon.start()

    async with connected(bus_daemon.address, 3) as (client, modest, service):
        greedy = Greedy(client, service)
        await until(lambda: service._transport._paused)
        waiting = asyncio.create_task(modest.call(service.unique_name, LAMP, Lamp.interface, "WhoCalls"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert service._transport._queued < transport._MAX_UNWRITTEN_BYTES + 2 * REPLY
        assert not service.lost.done()
        assert len(await greedy.read()) == Greedy.count
        assert await waiting == [modest.unique_name]
        assert not service._transport._paused


async def test_a_reply_too_large_for_the_bus(bus_address: str, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(bus_address, 2) as (client, service):
        lamp = Lamp()
        lamp.set(Name="x" * 9_000_000)
        service.export(LAMP, lamp)
        properties = "org.freedesktop.DBus.Properties"
        with pytest.raises(RaveError, match="internal error") as e:
            await client.call(service.unique_name, LAMP, properties, "GetAll", "s", "")
        assert e.value.code is Code.INTERNAL
        assert not service.lost.done()
    assert "too many" in caplog.text


# Who may call


async def test_a_method_without_action_is_refused(bus_address: str) -> None:
    asked: list[tuple[str, str | None]] = []

    class Asker:
        async def polkit(self, call: Call, action: str | None) -> None:
            asked.append((call.member, action))
            if action == PolkitAction.OPERATE:
                raise RaveError(Code.ACCESS_DENIED, "polkit says no")

        @handles_missing_action
        async def verified(self, call: Call, action: str | None) -> None:
            asked.append((call.member, action))

    async with connected(bus_address, 2) as (client, service):
        for path, authorizer in [("/polkit", Asker().polkit), ("/verified", Asker().verified)]:
            lamp = Lamp(authorizer)
            lamp.go.set()
            service.export(path, lamp)

        async def call(path: str, member: str) -> str:
            try:
                await client.call(service.unique_name, path, Lamp.interface, member)
            except RaveError as e:
                return str(e.attributes["error_name"])
            return "allowed"

        denied = "org.freedesktop.DBus.Error.AccessDenied"
        assert await call("/polkit", "WhoCalls") == "allowed"
        assert await call("/polkit", "Wait") == denied
        assert await call("/polkit", "Unnamed") == denied
        assert await call("/verified", "Unnamed") == "allowed"
        assert asked == [("WhoCalls", PolkitAction.READ), ("Wait", PolkitAction.OPERATE), ("Unnamed", None)]


async def test_nothing_is_decoded_of_a_message_that_its_header_refuses(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of 7000 words takes some 100 ms to decode, a header 0.05."""
    words = ["x"] * 7000

    async def polkit(call: Call, action: str | None) -> None:
        raise RaveError(Code.ACCESS_DENIED, "polkit says no")

    async with connected(bus_address, 2) as (client, service):
        service.export(LAMP, Lamp(polkit))
        decoded: list[str] = []
        decode = connection.decode

        def spy(frame: bytes, fds: list[int]) -> Message | None:
            message = decode(frame, fds)
            if message and message.kind in (MessageKind.CALL, MessageKind.SIGNAL):
                decoded.append(message.member)
            return message

        monkeypatch.setattr(connection, "decode", spy)

        async def refused(path: str, interface: str, member: str, signature: str, *args: Any) -> str:
            with pytest.raises(RaveError) as e:
                await client.call(service.unique_name, path, interface, member, signature, *args)
            return str(e.value.attributes["error_name"]).rpartition(".")[2]

        assert await refused("/nowhere", Lamp.interface, "Say", "as", words) == "UnknownObject"
        assert await refused(LAMP, "org.example.Other1", "Say", "as", words) == "UnknownInterface"
        assert await refused(LAMP, Lamp.interface, "Sing", "as", words) == "UnknownMethod"
        assert await refused(LAMP, Lamp.interface, "Say", "as", words) == "InvalidArgs"
        assert await refused(LAMP, Lamp.interface, "Say", "su", "x" * 60_000, 1) == "AccessDenied"
        here = {"path": LAMP, "interface": Lamp.interface, "signature": "as", "body": [words]}
        client._send(
            Message(kind=MessageKind.SIGNAL, serial=9, destination=service.unique_name, member="Dim", **here)
        )
        assert await client.call(service.unique_name, LAMP, "org.freedesktop.DBus.Peer", "Ping") == []
        assert decoded == ["Ping"]


# Losing the bus


def test_losing_the_bus(run: Run, bus_daemon: BusDaemon, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with connected(bus_daemon.address, 2) as (client, service):
            lamp = Lamp()
            service.export(LAMP, lamp)
            calls = [
                asyncio.create_task(client.call(service.unique_name, LAMP, Lamp.interface, "Wait")) for _ in range(3)
            ]
            await until(lambda: len(lamp.calls) >= 3)
            forgotten = client.lost  # noqa: F841 - it is not awaited
            bus_daemon.process.send_signal(signal.SIGKILL)
            for call in calls:
                with pytest.raises(RaveError, match="connection to the bus is lost") as e:
                    await call
                assert e.value.code is Code.BUS
            await service.lost
            start = time.process_time(), time.monotonic()
            with pytest.raises(RaveError, match="connection to the bus is lost"):
                await client.call(*DAEMON, "GetId")
            lamp.set(Level=1)
            lamp.emit("Switched", True, "x")
            service.unexport(LAMP)
            lamp.go.set()
            await asyncio.sleep(0.3)
            assert time.process_time() - start[0] < 0.2, "the processor is busy with a dead connection"

    run(body())
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2
    assert "lost the connection to the bus: it closed the connection" in caplog.text


async def test_an_unreadable_message_is_ignored(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        bus._on_frame(b"l\1\0\1junk", [])
        assert await bus.call(*DAEMON, "GetId")


async def test_a_reply_that_came_before_the_loss_counts(bus_daemon: BusDaemon) -> None:
    async with connected(bus_daemon.address) as (bus,):
        take_reply = bus._on_reply

        def lose(header: Header, frame: bytes, fds: list[int]) -> None:
            take_reply(header, frame, fds)
            bus._end()

        bus._on_reply = lose  # type: ignore[method-assign]
        assert await bus.call(*DAEMON, "GetId")


async def test_losing_a_frozen_bus(bus_daemon: BusDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FLUSH_TIMEOUT_S", 0.1)

    async with connected(bus_daemon.address) as (bus,):
        bus_daemon.process.send_signal(signal.SIGSTOP)
        for _ in range(200):
            bus._emit("/x", "a.b", "C", "s", "x" * 10000)
        await bus.close()  # gives up flushing
        assert bus.lost.done()


async def test_close_sends_what_was_said(bus_address: str) -> None:
    async with connected(bus_address, 2) as (listener, speaker):
        heard: list[int] = []
        await listener.match("type='signal',interface='a.b'", lambda s: heard.append(s.body[0]))
        for n in range(500):
            speaker._emit("/x", "a.b", "C", "us", n, "x" * 5000)
        await speaker.close()
        await until(lambda: len(heard) >= 500)


# Descriptors


class Pipes(Interface):
    interface = "org.example.Pipes1"
    last: list[int]

    @method(takes={"to": "h", "text": "s"})
    async def write(self, call: Call, to: int, text: str) -> None:
        self.last = [to]
        os.write(to, text.encode())

    @method(returns={"file": "h", "size": "u"})
    async def file(self, call: Call) -> tuple[int, int]:
        return os.open("/proc/self", os.O_RDONLY), 7

    @method(takes={"sender": "s"}, returns={"credentials": "a{sv}"})
    async def credentials(self, call: Call, sender: str) -> dict[str, Variant]:
        fd = os.open("/proc/self", os.O_RDONLY)
        asyncio.get_running_loop().call_soon(os.close, fd)
        return {"ProcessFD": Variant("h", fd), "UnixUserID": Variant("u", 1)}


async def test_descriptors_travel_and_none_leaks(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        pipes = Pipes(allow_all)
        service.export("/pipes", pipes)
        asked = (service.unique_name, "/pipes", Pipes.interface)
        before = open_fds()
        read, write = os.pipe()
        await client.call(*asked, "Write", "hs", write, "hello")
        assert os.read(read, 9) == b"hello"
        (credentials,) = await client.call(*asked, "Credentials", "s", "x")
        assert f"{credentials['ProcessFD']} /proc/{os.getpid()}" in open_fds()
        assert credentials["UnixUserID"] == 1
        os.close(credentials["ProcessFD"])
        file, size = await client.call(*asked, "File")
        assert (f"{file} /proc/{os.getpid()}" in open_fds(), size) == (True, 7)
        os.close(file)
        for refused in [("/nothing", "Write"), ("/pipes", "Nothing"), ("/pipes", "Credentials")]:
            with pytest.raises(RaveError):
                await client.call(service.unique_name, refused[0], Pipes.interface, refused[1], "hs", write, "x")
        client._emit("/x", "a.b", "C", "h", write)
        await service.match("type='signal',interface='a.b'", print)
        client._emit("/x", "a.b", "C", "h", write)
        abandoned = asyncio.create_task(client.call(*asked, "Credentials", "s", "x"))
        await asyncio.sleep(0)
        assert client._pending
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        await client.call(*asked, "Write", "hs", write, "bye")
        os.close(read)
        os.close(write)
        await asyncio.sleep(0)
        assert open_fds() == before


async def test_descriptors_of_a_reply_that_comes_as_its_caller_gives_up(bus_address: str) -> None:
    async with connected(bus_address, 2) as (client, service):
        service.export("/pipes", Pipes(allow_all))
        before = open_fds()
        calling = asyncio.create_task(
            client.call(service.unique_name, "/pipes", Pipes.interface, "Credentials", "s", "x")
        )
        take_reply = client._on_reply

        def give_up(header: Header, frame: bytes, fds: list[int]) -> None:
            take_reply(header, frame, fds)
            assert calling.cancel()

        client._on_reply = give_up  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert open_fds() == before


async def test_serials_wrap(bus_address: str) -> None:
    async with connected(bus_address) as (bus,):
        bus._serial = 0xFFFFFFFE
        assert len(await asyncio.gather(*(bus.call(*DAEMON, "GetId") for _ in range(3)))) == 3
        assert bus._serial == 2
