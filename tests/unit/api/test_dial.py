"""Addresses that don't work, before one that does: HTTP and sockets both find it, soon."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

from ravesvc.api import dial, tls
from ravesvc.api.transport import HttpRequest, HttpTransport
from ravesvc.config.advice import FOR_ONE_PROCESS, FOR_SERVICE, Advice
from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError
from ravesvc.room.peer import Timings
from tests.unit.addresses import (
    GOOD,
    HOST,
    UNREACHABLE,
    handling,
    name_addresses,
    reset,
    say_nothing,
    swallowing,
)
from tests.unit.api_server import serving
from tests.unit.authority import Authority
from tests.unit.conftest import until
from tests.unit.room_server import make_room, mesh_server

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _forget_winners() -> None:
    dial._winners.clear()


Breaking = Callable[[int], AbstractContextManager[Any]]

ASK = HttpRequest("GET", "/", {}, None)


def swallow(address: str) -> Breaking:
    return lambda port: swallowing(address, port)


def take(address: str, handle: Callable[[socket.socket], None]) -> Breaking:
    return lambda port: handling(address, port, handle)


def nothing(_port: int) -> AbstractContextManager[Any]:
    return contextlib.nullcontext()


# Seconds within which the address that works has to be found, on a busy machine too; an attempt as such may take 15.
LIMIT = 5.0

# What is wrong with the addresses that the resolver names first.
WRONG = {
    "swallows": (["::1"], [swallow("::1")]),
    "refuses": (["::1"], [nothing]),
    "unreachable": ([UNREACHABLE], [nothing]),
    "resets": (["127.0.0.2"], [take("127.0.0.2", reset)]),
    "takes and says nothing": (["127.0.0.2"], [take("127.0.0.2", say_nothing)]),
    "three in a row": (
        ["127.0.0.2", "127.0.0.3", "127.0.0.4"],
        [swallow("127.0.0.2"), swallow("127.0.0.3"), swallow("127.0.0.4")],
    ),
    "all kinds": (
        ["::1", UNREACHABLE, "127.0.0.2", "127.0.0.3", "127.0.0.4"],
        [swallow("::1"), take("127.0.0.2", reset), take("127.0.0.3", say_nothing), swallow("127.0.0.4")],
    ),
}


@contextlib.asynccontextmanager
async def transport_to(port: int, authority: Authority, patience: float = 15) -> AsyncIterator[HttpTransport]:
    made = HttpTransport(HOST, port, tls.context(Tls(ca_file=str(authority.ca_file)), HOST), patience)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "breaking"), WRONG.values(), ids=WRONG)
async def test_http_finds_the_address_that_works(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    before: list[str],
    breaking: list[Breaking],
) -> None:
    with serving(authority) as server, ExitStack() as broken:
        for each in breaking:
            broken.enter_context(each(server.port))
        name_addresses(monkeypatch, *before, GOOD)
        async with transport_to(server.port, authority) as made:
            begun = time.monotonic()
            assert (await made.send(ASK)).status == 200
            assert time.monotonic() - begun < LIMIT
            assert (await made.send(ASK)).status == 200
    assert server.asked[0].connection == server.asked[1].connection, "the connection that has won is kept"


@pytest.mark.slow
@pytest.mark.parametrize(("before", "breaking"), WRONG.values(), ids=WRONG)
async def test_a_socket_finds_the_address_that_works(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    before: list[str],
    breaking: list[Breaking],
) -> None:
    async def admit(guest: Any) -> None:
        await guest.admit()
        await guest.hold()

    async with mesh_server(authority, admit) as server:
        with ExitStack() as broken:
            for each in breaking:
                broken.enter_context(each(server.port))
            name_addresses(monkeypatch, *before, GOOD)
            room = make_room(authority, server)
            begun = time.monotonic()
            await room.open()
            assert time.monotonic() - begun < LIMIT
            assert len(server.requests) == 1
            await room.close()


@pytest.mark.slow
async def test_the_others_are_closed_once_one_has_won(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    hung_up: list[bytes] = []

    def note_the_end(made: socket.socket) -> None:
        while made.recv(4096):
            pass
        hung_up.append(b"")

    with serving(authority) as server, handling("127.0.0.2", server.port, note_the_end) as taken:
        name_addresses(monkeypatch, "127.0.0.2", GOOD)
        async with transport_to(server.port, authority) as made:
            await made.send(ASK)
            await until(lambda: hung_up)
    assert len(taken) == 1


async def test_one_that_answers_is_the_only_one_that_is_asked(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(authority) as server, handling("127.0.0.2", server.port, say_nothing) as taken:
        name_addresses(monkeypatch, GOOD, "127.0.0.2")
        async with transport_to(server.port, authority) as made:
            await made.send(ASK)
            await asyncio.sleep(2 * dial.STAGGER_S)  # a second connection would be begun by then
    assert not taken


@pytest.mark.slow
async def test_the_family_that_has_won_is_asked_first_the_next_time(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(authority) as server, handling("::1", server.port, say_nothing) as taken:
        name_addresses(monkeypatch, "::1", GOOD)
        async with transport_to(server.port, authority) as made:
            for _ in range(3):
                assert (await made.send(ASK)).status == 200
                made.drop_idle()
    assert len({asked.connection for asked in server.asked}) == 3
    assert len(taken) == 1


async def test_a_resolver_that_hangs_is_named(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()

    def resolve(*_args: object, **_options: object) -> list[object]:
        given_up.wait(60)
        return []

    monkeypatch.setattr(dial, "RESOLVE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with transport_to(443, authority) as made:
        with pytest.raises(RaveError) as caught:
            await made.send(ASK)
        reason = f"{HOST} can't be reached: the resolver has not answered within 0.2 s"
        assert (caught.value.code, caught.value.message) == (Code.NETWORK, reason)
    given_up.set()
    for thread in threading.enumerate():
        if thread.name == "rave-resolve":
            thread.join()


async def test_a_request_that_is_cancelled_lets_go_of_all_addresses(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bytes] = []

    def note_the_end(made: socket.socket) -> None:
        while made.recv(4096):
            pass
        ended.append(b"")

    with socket.create_server(("127.0.0.4", 0)) as free:
        port = free.getsockname()[1]
        with handling("127.0.0.2", port, note_the_end) as first, handling("127.0.0.3", port, note_the_end) as second:
            name_addresses(monkeypatch, "127.0.0.2", "127.0.0.3")
            async with transport_to(port, authority) as made:
                asking = asyncio.ensure_future(made.send(ASK))
                await until(lambda: len(first) and len(second))
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await until(lambda: len(ended) == 2)


@pytest.mark.slow
async def test_the_overall_limit_of_time_stays(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.4", 0)) as free:
        port = free.getsockname()[1]
        with swallowing("127.0.0.2", port), swallowing("127.0.0.3", port):
            name_addresses(monkeypatch, "127.0.0.2", "127.0.0.3")
            async with transport_to(port, authority, patience=0.4) as made:
                begun = time.monotonic()
                with pytest.raises(RaveError) as caught:
                    await made.send(ASK)
                assert caught.value.code is Code.TIMEOUT
                assert caught.value.attributes["unsent"]
                assert time.monotonic() - begun < 1
            room = make_room(authority, f"{HOST}:{port}", timings=Timings(opening_timeout_s=0.4))
            with pytest.raises(RaveError) as caught:
                await room.open()
            assert caught.value.code is Code.TIMEOUT


async def test_when_none_works_all_reasons_are_told(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((GOOD, 0)) as free:
        port = free.getsockname()[1]
    with socket.socket() as probe, pytest.raises(OSError) as unreachable:  # noqa: PT011 - which one, the machine says
        probe.connect((UNREACHABLE, port))
    reasons = f"{unreachable.value.strerror}; Connection refused"
    name_addresses(monkeypatch, UNREACHABLE, GOOD, "127.0.0.2")
    async with transport_to(port, authority) as made:
        with pytest.raises(RaveError) as caught:
            await made.send(ASK)
        assert caught.value.message == f"{HOST} can't be reached: {reasons}"
        assert caught.value.attributes == {"host": HOST, "unsent": True}
    with pytest.raises(RaveError) as caught:
        await make_room(authority, f"{HOST}:{port}").open()
    assert caught.value.message == f"can't connect to {HOST}:{port}: {reasons}"


async def test_a_certificate_that_is_not_accepted_is_told_before_addresses_that_are_dead(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(authority) as server:
        name_addresses(monkeypatch, "127.0.0.2", GOOD, "127.0.0.3")
        made = HttpTransport(HOST, server.port, tls.context(Tls(), HOST), 15)
        with pytest.raises(RaveError) as caught:
            await made.send(ASK)
        assert caught.value.code is Code.TLS


async def test_a_connection_that_is_reset_before_tls_leaks_nothing() -> None:
    with socket.create_server((GOOD, 0)) as listener, socket.create_connection(listener.getsockname()) as plain:
        made, _ = listener.accept()
        plain.setblocking(False)
        reset(made)
        await until(lambda: select.select([plain], [], [], 0)[0])
        with pytest.raises(ConnectionResetError):
            await dial.shake_hands(plain, ssl.create_default_context(), HOST)
        assert plain.fileno() == -1


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test", "\udcff.test"])
async def test_what_is_no_host_name(authority: Authority, host: str) -> None:
    made = HttpTransport(host, 443, ssl.create_default_context(), 15)
    with pytest.raises(RaveError) as caught:
        await made.send(ASK)
    assert caught.value.code is Code.NETWORK
    assert "this is not a host name" in caught.value.message


async def test_the_families_take_turns_and_thousands_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    four = [f"127.0.{high}.{low}" for high in range(4) for low in range(1, 250)]
    name_addresses(monkeypatch, "::1", "::2", "::1", *four)
    found = await dial.resolve(HOST, 443)
    assert [address[1][0] for address in found[:5]] == ["::1", four[0], "::2", four[1], four[2]]
    assert len(found) == dial.MAX_ADDRESSES


@pytest.mark.parametrize(
    ("advice", "apply"),
    [(FOR_SERVICE, "restart rave-orchestrator and run ravectl roll"), (FOR_ONE_PROCESS, "start ravesvc again")],
)
def test_a_port_that_is_closed_to_bots_is_told_with_what_opens_it(advice: Advice, apply: str) -> None:
    with pytest.raises(RaveError) as caught:
        dial.Ports((443,), advice.apply).require("room.test", 25, None)
    assert caught.value.code is Code.NETWORK
    assert caught.value.hint == f"add 25 to connect_ports in rave.yaml, then {apply}"
