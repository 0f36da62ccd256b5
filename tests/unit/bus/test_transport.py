from __future__ import annotations

import array
import asyncio
import os
import selectors
import signal
import socket
import struct
import tracemalloc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ravesvc.bus import transport
from ravesvc.bus.transport import FrameTransport, open_socket, system_address
from ravesvc.errors import Code, RaveError
from tests.unit.bus_fakes import authenticate, connected, fake_bus, open_fds
from tests.unit.conftest import BusDaemon, until

Run = Callable[[Any], Any]


def frame(size: int = 64, order: bytes = b"l") -> bytes:
    """A frame as far as the transport is concerned, of `size` bytes."""
    body = (size - 16).to_bytes(4, "little" if order == b"l" else "big")
    return order + b"\4\0\1" + body + bytes(8) + bytes(size - 16)


# Where the header of such a frame ends.
FIELDS_END = 32


def with_fields(size: int, order: bytes = b"l") -> bytes:
    """A frame with 13 bytes of header fields, which are padded to 16."""
    number = "<" if order == b"l" else ">"
    start = order + b"\4\0\1" + struct.pack(f"{number}III", size - FIELDS_END, 1, 13)
    return (start + b"f" * 13).ljust(FIELDS_END, b"\0").ljust(size, b"b")


class Ends:
    """A transport and the other end of its socket, which writes and reads in small bites."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.frames: list[tuple[bytes, list[int]]] = []
        self.headers: list[tuple[bytes, int]] = []
        self.unwanted: set[int] = set()  # sizes of frames
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = FrameTransport(
            ours, lambda *got: self.frames.append(got), self._is_wanted, self.lost.set_result
        )

    def __enter__(self) -> Ends:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()
        self.theirs.close()

    def _is_wanted(self, header: bytes, size: int) -> bool:
        self.headers.append((header, size))
        return size not in self.unwanted

    async def drain(self, size: int) -> bytes:
        self.theirs.setblocking(False)
        got = bytearray()
        while len(got) < size:
            got += await asyncio.get_running_loop().sock_recv(self.theirs, size - len(got))
        return bytes(got)

    async def until(self, count: int) -> None:
        await until(lambda: len(self.frames) >= count)


def test_system_bus_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    assert system_address() == "unix:path=/run/dbus/system_bus_socket"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x")
    assert system_address() == "unix:path=/x"


async def test_address_with_escapes_and_alternatives(tmp_path: Path) -> None:
    odd = tmp_path / "a b%"
    odd.mkdir()

    async with fake_bus(odd, authenticate):
        escaped = str(odd / "fake").replace("%", "%25").replace(" ", "%20")
        address = f"tcp:host=x;unix:path=/nowhere;unix:guid=1;unix:path={escaped},guid=12"
        (await open_socket(address)).close()


async def test_abstract_address(tmp_path: Path) -> None:
    async with fake_bus(tmp_path, authenticate, abstract=f"ravesvc-test-{uuid.uuid4()}") as address:
        (await open_socket(address)).close()


@pytest.mark.parametrize("address", ["", "tcp:host=127.0.0.1,port=1", "unix:path=/nowhere/bus", "nonsense"])
async def test_no_bus_there(address: str) -> None:
    with pytest.raises(RaveError) as e:
        await open_socket(address)
    assert e.value.code is Code.BUS


async def test_full_backlog_is_waited_for_without_blocking(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "bus"))
    listener.listen(0)
    listener.setblocking(False)
    filling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    filling.connect(str(tmp_path / "bus"))
    connecting = asyncio.create_task(open_socket(f"unix:path={tmp_path / 'bus'}"))
    await asyncio.sleep(2.5 * transport._BACKLOG_RETRY_S)
    assert not connecting.done()  # and the loop runs: we are here
    loop = asyncio.get_running_loop()
    first, _ = await loop.sock_accept(listener)
    second, _ = await loop.sock_accept(listener)
    assert (await loop.sock_recv(second, 6)) == b"\0AUTH "
    second.close()
    with pytest.raises(RaveError):
        await connecting
    for each in (first, filling, listener):
        each.close()


def test_peer_that_closes_during_authentication(run: Run, tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n")
        writer.write(b"OK 012")

    async def body() -> None:
        async with fake_bus(tmp_path, hang_up) as address:
            with pytest.raises(RaveError, match="ended the connection during authentication") as e:
                await open_socket(address)
            assert e.value.code is Code.BUS

    def stop(*_: object) -> None:
        raise TimeoutError("the loop is stuck, so that no time-out of its own can fire")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    try:
        run(body())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("answer", [b"REJECTED EXTERNAL\r\n", b"ERROR\r\n", b"\r\n", b"x" * 9000])
async def test_refused_authentication(tmp_path: Path, answer: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n")
        writer.write(answer)
        await reader.read()

    async with fake_bus(tmp_path, refuse) as address:
        with pytest.raises(RaveError) as e:
            await open_socket(address)
        assert e.value.code is Code.BUS


async def test_reset_during_authentication(tmp_path: Path) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()  # what we sent stays unread: a reset

    async with fake_bus(tmp_path, reset) as address:
        with pytest.raises(RaveError, match="during authentication"):
            await open_socket(address)


async def test_writer_survives_a_full_socket() -> None:
    with Ends() as ends:
        sent = [frame(200 + n % 7) for n in range(5000)]
        for each in sent:
            ends.transport.send(each, [])
        assert not ends.transport.closed
        flushed = asyncio.create_task(ends.transport.flush())
        assert await ends.drain(sum(map(len, sent))) == b"".join(sent)
        await flushed
        await ends.transport.flush()


async def test_queue_is_bounded() -> None:
    with Ends() as ends:
        block = frame(1024 * 1024)
        for _ in range(16):
            ends.transport.send(block, [])
        assert not ends.transport.closed
        ends.transport.send(block, [])
        assert ends.transport.closed
        assert "takes nothing" in await ends.lost
        ends.transport.send(block, [])  # nothing happens


async def test_descriptors_are_closed_wherever_they_get_stuck() -> None:
    before = open_fds()
    with Ends() as ends:
        read, write = os.pipe()
        ends.transport.send(frame(1024 * 1024), [os.dup(read)])
        ends.transport.send(frame(), [os.dup(read)])  # queued behind it
        ends.transport.close()
        ends.transport.send(frame(), [os.dup(read)])  # after the end
        os.close(read)
        os.close(write)
    assert open_fds() == before


async def test_frames_arrive_whole_with_their_own_descriptors() -> None:
    with Ends() as ends:
        read, write = os.pipe()
        one, two, three = frame(100), frame(5000, b"B"), frame(16)
        ends.theirs.sendall(one + two[:7])
        ends.theirs.sendall(two[7:])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read, write]))]
        ends.theirs.sendmsg([three], rights)
        ends.theirs.sendall(one[:30])
        ends.theirs.sendall(one[30:])
        await ends.until(4)
        assert [got for got, _ in ends.frames] == [one, two, three, one]
        assert [len(fds) for _, fds in ends.frames] == [0, 0, 2, 0]
        for fd in [*ends.frames[2][1]]:
            assert not os.get_inheritable(fd)
            os.close(fd)
        os.close(read)
        os.close(write)


async def test_descriptors_of_an_unfinished_frame_are_closed() -> None:
    before = open_fds()
    with Ends() as ends:
        read, write = os.pipe()
        ends.theirs.sendmsg([frame()[:20]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read]))])
        await until(lambda: ends.transport._received)
        os.close(read)
        os.close(write)
    assert open_fds() == before


@pytest.mark.slow
@pytest.mark.parametrize("order", [b"l", b"B"])
def test_an_unwanted_frame_is_thrown_away_wherever_it_is_cut(
    run: Run, monkeypatch: pytest.MonkeyPatch, order: bytes
) -> None:
    one, unwanted, two = with_fields(40, order), with_fields(90, order), with_fields(50, order)
    header = unwanted[:FIELDS_END]

    async def body(chunk: int) -> None:
        monkeypatch.setattr(transport, "_CHUNK_BYTES", chunk)
        monkeypatch.setattr(transport, "MAX_UNSOLICITED_BYTES", 80)
        with Ends() as ends:
            ends.unwanted = {90}
            ends.theirs.sendall(one + unwanted + two + unwanted + one)
            await until(lambda: [got for got, _ in ends.frames][-1:] == [one] and len(ends.frames) > 2)
            # One that has come as a whole by the time that it is looked at is nothing to be asked about.
            starts = (len(one), len(one + unwanted + two))
            cut = [any(start + FIELDS_END <= end < start + 90 for end in range(0, 1000, chunk)) for start in starts]
            whole = [[] if each else [unwanted] for each in cut]
            assert [got for got, _ in ends.frames] == [one, *whole[0], two, *whole[1], one]
            assert [got for got in ends.headers if got[1] == 90] == [(header, 90)] * sum(cut)
            assert ends.transport._buffer == b""

    for chunk in range(1, 330):
        run(body(chunk))


def test_the_descriptors_of_an_unwanted_frame_are_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(chunk: int) -> None:
        monkeypatch.setattr(transport, "_CHUNK_BYTES", chunk)
        monkeypatch.setattr(transport, "MAX_UNSOLICITED_BYTES", 200)
        with Ends() as ends:
            ends.unwanted = {1000}
            before = open_fds()
            for size in (100, 1000, 100, 1000, 100):
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * (size // 100)))]
                ends.theirs.sendmsg([frame(size)], rights)
            await ends.until(3)
            assert [(len(got), len(fds)) for got, fds in ends.frames] == [(100, 1)] * 3
            for _, fds in ends.frames:
                transport.close_fds(fds)
            assert open_fds() == before

    for chunk in (1, 15, 16, 17, 99, 100, 101, 116, 999):
        run(body(chunk))


@pytest.mark.slow
async def test_of_an_unwanted_frame_nothing_is_kept() -> None:
    size = 30_000_000

    with Ends() as ends:
        ends.unwanted = {size}
        sent = memoryview(frame(size) + frame(100))
        ends.theirs.setblocking(False)
        tracemalloc.start()
        await asyncio.get_running_loop().sock_sendall(ends.theirs, sent)
        await ends.until(1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(ends.frames[0][0]) == 100
        assert peak < 1_000_000


async def test_a_header_without_end_is_not_waited_for() -> None:
    with Ends() as ends:
        fields = transport.MAX_UNSOLICITED_BYTES
        start = b"l\4\0\1" + struct.pack("<III", 8, 1, fields)
        ends.theirs.sendall(start)
        await until(lambda: ends.transport._unwanted_bytes == fields + 8)
        ends.theirs.sendall(bytes(fields + 8) + frame(50))
        await ends.until(1)
        assert not ends.headers
        assert [got for got, _ in ends.frames] == [frame(50)]


async def test_closing_from_within_a_header() -> None:
    with Ends() as ends:
        ends.transport._on_large = lambda *_: ends.transport.close() or False  # type: ignore[func-returns-value]
        ends.theirs.sendall(frame(100_000)[:50])
        await until(lambda: ends.transport.closed)
        await asyncio.sleep(0)
        assert not ends.lost.done()


@pytest.mark.parametrize("chunk", [1024, 64 * 1024], ids=["in parts", "at once"])
async def test_a_flood_leaves_the_loop_time(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Whether the kernel hands it over in parts or at once."""
    monkeypatch.setattr(transport, "_CHUNK_BYTES", chunk)
    monkeypatch.setattr(transport, "_READ_SLICE_S", 0.0)

    with Ends() as ends:
        ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        ends.theirs.sendall(frame(16) * 200)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < len(ends.frames) < 200
        await ends.until(200)


class Echo(Ends):
    """A transport that answers each frame with a much larger one, as GetManagedObjects is."""

    answer = 300_000

    def __init__(self) -> None:
        super().__init__()
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        self.transport._on_frame = self._echo

    def _echo(self, *got: Any) -> None:
        self.frames.append(got)
        self.transport.send(frame(self.answer), [])

    async def until_paused(self) -> None:
        await until(lambda: self.transport._paused)

    def watched(self) -> tuple[bool, bool]:
        """Whether the loop looks out for reading, for writing."""
        events = asyncio.get_running_loop()._selector.get_map().get(self.transport._sock)  # type: ignore[attr-defined]
        return tuple(bool(events and events.events & e) for e in (selectors.EVENT_READ, selectors.EVENT_WRITE))  # type: ignore[return-value]


@pytest.mark.slow
async def test_who_asks_much_and_reads_nothing_has_to_wait() -> None:
    with Echo() as ends:
        ends.theirs.sendall(frame(16) * 20)  # for 6 MB of answers
        await ends.until_paused()
        assert ends.watched() == (False, True)
        heard = len(ends.frames)
        assert heard * Echo.answer < transport._MAX_UNWRITTEN_BYTES + 2 * Echo.answer
        await asyncio.sleep(0.05)
        assert len(ends.frames) == heard, "it goes on reading"
        assert not ends.transport.closed
        await ends.drain(20 * Echo.answer)
        assert len(ends.frames) == 20
        await until(lambda: ends.watched() == (True, False))
        assert not ends.transport._paused
        # And it can happen again.
        ends.theirs.setblocking(True)
        ends.theirs.sendall(frame(16) * 10)
        await ends.until_paused()
        await ends.drain(10 * Echo.answer)


async def test_reading_goes_on_however_the_queue_empties(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every byte that waits as a reason to pause, and answers that just fit the socket, or just don't."""
    monkeypatch.setattr(transport, "_MAX_UNWRITTEN_BYTES", 0)

    with Echo() as ends:
        for size in range(16, 12_000, 400):
            ends.answer = size
            ends.frames.clear()
            ends.theirs.setblocking(True)
            ends.theirs.sendall(frame(16) * 20)
            await ends.drain(20 * size)
            assert len(ends.frames) == 20
            await until(lambda: ends.watched() == (True, False))


async def test_a_pause_in_the_middle_of_a_frame() -> None:
    with Echo() as ends:
        read, write = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read]))]
        ends.theirs.sendmsg([frame(100)[:50]], rights)
        await until(lambda: len(ends.transport._buffer) == 50)
        block = 2 * transport._MAX_UNWRITTEN_BYTES
        ends.transport.send(frame(block), [])
        ends.theirs.sendall(frame(100)[50:] + frame(200))
        await ends.until_paused()
        assert not ends.frames
        await ends.drain(block + 2 * Echo.answer)
        assert [(len(got), len(fds)) for got, fds in ends.frames] == [(100, 1), (200, 0)]
        for fd in (read, write, *ends.frames[0][1]):
            os.close(fd)


async def test_closing_while_paused() -> None:
    before = open_fds()
    with Echo() as ends:
        ends.theirs.sendall(frame(16) * 50)
        await ends.until_paused()
        number, heard = ends.transport._sock.fileno(), len(ends.frames)
        flushing = asyncio.create_task(ends.transport.flush())
        await asyncio.sleep(0)
        ends.transport.close()
        await flushing
        loop = asyncio.get_running_loop()
        assert (loop.remove_reader(number), loop.remove_writer(number)) == (False, False)
        await asyncio.sleep(0)
        assert len(ends.frames) == heard
        assert not ends.lost.done()
    assert open_fds() == before


async def test_the_end_is_noticed_while_paused() -> None:
    with Echo() as ends:
        ends.theirs.sendall(frame(16) * 50)
        await ends.until_paused()
        ends.theirs.close()
        assert await ends.lost
        assert ends.transport.closed


async def test_closing_from_within_a_frame() -> None:
    with Ends() as ends:
        ends.transport._on_frame = lambda *_: ends.transport.close()
        ends.theirs.sendall(frame() + frame())
        await until(lambda: ends.transport.closed)


@pytest.mark.parametrize(
    "nonsense", [b"HTTP/1.1 400 Bad Request\r\n", b"l\1\0\1" + b"\xff" * 12, b"l\1\0\1" + b"\0\0\0\x08" + bytes(8)]
)
async def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    with Ends() as ends:
        ends.theirs.sendall(nonsense)
        assert "it sends" in await ends.lost


async def test_the_other_end_closes() -> None:
    with Ends() as ends:
        ends.theirs.close()
        assert await ends.lost == "it closed the connection"
        ends.transport.close()


async def test_the_other_end_closes_while_we_write() -> None:
    with Ends() as ends:
        ends.transport.send(frame(1024 * 1024), [])
        ends.theirs.close()
        ends.transport._readable = lambda: None  # type: ignore[method-assign]
        await ends.lost
        await ends.transport.flush()


async def test_on_lost_is_not_called_from_within_send() -> None:
    with Ends() as ends:
        ends.theirs.close()
        ends.transport.send(frame(), [])
        assert ends.transport.closed
        assert not ends.lost.done()
        await ends.lost


@pytest.mark.slow
async def test_a_frozen_daemon_gets_everything_in_the_end(bus_daemon: BusDaemon) -> None:
    async with connected(bus_daemon.address, 2) as (sender, receiver):
        got: list[int] = []
        await receiver.match("type='signal',interface='org.example.Flood'", lambda s: got.append(s.body[0]))
        bus_daemon.process.send_signal(signal.SIGSTOP)
        try:
            for n in range(4000):
                sender._emit("/x", "org.example.Flood", "Drop", "us", n, "x" * 1000)
            assert sender._transport._queue
        finally:
            bus_daemon.process.send_signal(signal.SIGCONT)
        await until(lambda: len(got) >= 4000)
        assert got == list(range(4000))
        assert not sender.lost.done()
