from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ravesvc.api import tls, transport
from ravesvc.api.failures import HttpResponse
from ravesvc.api.transport import HttpRequest, HttpTransport
from ravesvc.config.worker_options import Tls
from ravesvc.errors import Code, RaveError
from tests.unit.api_server import Asked, Reply, Server, serving
from tests.unit.authority import Authority

pytestmark = pytest.mark.slow

ASK = HttpRequest("GET", "/x?deviceId=secret", {"User-Agent": "u"}, None)

Run = Callable[[Any], Any]


def settings(authority: Authority) -> Tls:
    return Tls(ca_file=str(authority.ca_file))


@asynccontextmanager
async def opened(port: int, authority: Authority, patience: float = 15) -> AsyncIterator[HttpTransport]:
    made = HttpTransport("localhost", port, tls.context(settings(authority), "localhost"), patience)
    try:
        yield made
    finally:
        made.close()


def answer(run: Run, server: Server, authority: Authority) -> HttpResponse:
    async def main() -> HttpResponse:
        async with opened(server.port, authority) as made:
            return await made.send(ASK)

    result: HttpResponse = run(main())
    return result


def failure(run: Run, port: int, authority: Authority, patience: float = 15) -> RaveError:
    async def main() -> None:
        async with opened(port, authority, patience) as made:
            await made.send(ASK)

    with pytest.raises(RaveError) as caught:
        run(main())
    assert "secret" not in f"{caught.value!r}{caught.value.__cause__!r}"
    return caught.value


async def arrival(server: Server) -> None:
    await asyncio.get_running_loop().run_in_executor(None, server.arrived.wait, 10)
    server.arrived.clear()


async def no_threads() -> None:
    """Wait until the threads of requests are gone."""
    await until(lambda: not any(thread.name == "rave-api" for thread in threading.enumerate()))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - other threads make it true
            await asyncio.sleep(0.01)


# Bodies.


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_of_any_status(authority: Authority, run: Run, status: int) -> None:
    with serving(authority, Reply(status, b"body", {"Retry-After": "3"})) as server:
        found = answer(run, server, authority)
        assert (found.status, found.body, found.retry_after) == (status, b"body", "3")
        assert found.date
        assert found.date.endswith(" GMT")


def test_gzip(authority: Authority, run: Run) -> None:
    with serving(authority, Reply(200, gzip.compress(b"body"), {"Content-Encoding": "GZIP"})) as server:
        assert answer(run, server, authority).body == b"body"


def test_chunks(authority: Authority, run: Run) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
    with serving(authority, Reply(raw=raw)) as server:
        assert answer(run, server, authority).body == b"body"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(200, b"body", {"Content-Encoding": "gzip"}), "damaged"),
        (Reply(200, gzip.compress(b"body")[:-3], {"Content-Encoding": "gzip"}), "cut short"),
        (Reply(200, zlib.compress(b"body"), {"Content-Encoding": "br"}), "not asked for"),
        (Reply(200, b"x" * (transport.SMALL_ANSWER_BYTES + 1)), "longer than 64 KiB"),
        (
            Reply(200, gzip.compress(b"x" * (transport.SMALL_ANSWER_BYTES + 1)), {"Content-Encoding": "gzip"}),
            "longer than",
        ),
    ],
)
def test_a_body_that_is_of_no_use(authority: Authority, run: Run, reply: Reply, words: str) -> None:
    with serving(authority, reply) as server:
        error = failure(run, server.port, authority)
    assert error.code is Code.BAD_DATA
    assert words in error.message


def test_the_longest_body(authority: Authority, run: Run) -> None:
    with serving(authority, Reply(200, b"x" * transport.SMALL_ANSWER_BYTES)) as server:
        assert len(answer(run, server, authority).body) == transport.SMALL_ANSWER_BYTES


class _Endless:
    """A server that goes on for as long as it is read; `count` is how many bytes were taken of it, or more."""

    def __init__(self, authority: Authority, first: bytes, then: bytes) -> None:
        self.count = 0
        self._then = first, then
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.cert_file, authority.key_file)
        self._listening = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        first, then = self._then
        with suppress(OSError):
            client, _ = self._listening.accept()
            with client:
                client.settimeout(10)
                client.recv(65536)
                client.sendall(first)
                while True:
                    client.sendall(then)
                    self.count += len(then)

    def close(self) -> None:
        self._thread.join(20)
        self._listening.close()
        assert not self._thread.is_alive()


_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 60_000 + b"\r\n\r\n"),
        (_HEAD, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"),
        (_HEAD + b"0\r\n", b"X: y\r\n" * 100),
    ],
    ids=["100 Continue", "100 Continue with headers", "extensions of chunks", "trailers"],
)
def test_an_answer_without_end_is_given_up(authority: Authority, run: Run, first: bytes, then: bytes) -> None:
    """Long before its time is over, which a thread of ours would spend on reading it."""
    server = _Endless(authority, first, then)
    try:
        error = failure(run, server.port, authority)
    finally:
        server.close()
    assert (error.code, error.message) == (Code.BAD_DATA, "the answer does not end")
    # No peer reads what the sockets hold.
    assert server.count < 16 << 20


async def test_an_answer_may_be_as_long_as_the_request_says(authority: Authority) -> None:
    with serving(authority, Reply(200, b"x" * transport.USERS_ANSWER_BYTES)) as server:
        async with opened(server.port, authority) as made:
            answer = await made.send(ASK._replace(max_bytes=transport.USERS_ANSWER_BYTES))
            assert len(answer.body) == transport.USERS_ANSWER_BYTES
            with pytest.raises(RaveError, match="longer than 512 KiB"):
                await made.send(ASK._replace(max_bytes=transport.LIST_ANSWER_BYTES))


# Ways to fail.


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"SSH-2.0-x\r\n\r\n",
    ],
)
def test_a_connection_cut_on_the_way(authority: Authority, run: Run, raw: bytes) -> None:
    with serving(authority, Reply(raw=raw)) as server:
        error = failure(run, server.port, authority)
    assert error.code is Code.NETWORK
    assert error.message == "localhost can't be reached: the connection was cut"
    assert "unsent" not in error.attributes


@pytest.mark.parametrize("size", [b"-5", b"-7fffffff", b"-1"])
def test_a_chunk_of_negative_size(authority: Authority, run: Run, size: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nbody\r\n0\r\n\r\n"
    with serving(authority, Reply(raw=raw)) as server:
        error = failure(run, server.port, authority)
    assert error.code is Code.BAD_DATA
    assert error.message == "the answer of localhost is not proper HTTP"


@pytest.mark.slow
async def test_whatever_bytes_a_server_sends_are_an_answer_or_a_rave_error(authority: Authority) -> None:
    chance = random.Random(12)
    whole = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: x\r\n\r\n2;a=b\r\nbo\r\n2\r\ndy\r\n0\r\nA: b\r\n\r\n"
    )
    odd = [b"-", b"\0", b"\r\n", b"\n", b"9" * 5000, b"\xff", b":", b"0x", b"_", b" ", b"Content-Length: -1\r\n"]

    def mutated(_asked: Asked) -> Reply:
        place = chance.randrange(len(whole))
        return Reply(raw=whole[:place] + chance.choice(odd) + whole[place + chance.randrange(4) :])

    with serving(authority) as server:
        server.answer = mutated
        async with opened(server.port, authority) as made:
            for _ in range(300):
                with suppress(RaveError):
                    await made.send(ASK)
    # A request that finds its connection cut is not heard.
    assert len(server.asked) > 250


def test_headers_that_make_no_sense_are_not_logged(
    authority: Authority, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(authority, Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nno colon\r\n\r\n")) as server:
        assert answer(run, server, authority).status == 200
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", b"body"),
    ],
)
def test_ways_to_say_how_long_a_body_is(authority: Authority, run: Run, raw: bytes, body: bytes) -> None:
    with serving(authority, Reply(raw=raw)) as server:
        assert answer(run, server, authority).body == body


async def test_what_is_left_of_an_answer_is_not_the_next_one(authority: Authority) -> None:
    """One that is too long is not read to its end, so its connection is of no use any more."""
    too_long = Reply(200, b"x" * (transport.SMALL_ANSWER_BYTES + 1_000_000))

    with serving(authority, too_long, Reply(200, b"next")) as server:
        async with opened(server.port, authority) as made:
            with pytest.raises(RaveError):
                await made.send(ASK)
            assert (await made.send(ASK)).body == b"next"
    assert server.asked[0].connection != server.asked[1].connection


def test_nobody_listens(authority: Authority, run: Run) -> None:
    with serving(authority) as server:
        pass
    error = failure(run, server.port, authority)
    assert error.message == "localhost can't be reached: Connection refused"
    assert error.attributes == {"host": "localhost", "unsent": True}


async def test_nobody_listens_any_more(authority: Authority) -> None:
    with serving(authority) as server:
        async with opened(server.port, authority) as made:
            await made.send(ASK)
            server.close()
            with pytest.raises(RaveError) as caught:
                await made.send(ASK)
            assert caught.value.attributes == {"host": "localhost", "unsent": True}


def test_a_certificate_from_nowhere(authority: Authority, run: Run) -> None:
    async def main() -> None:
        made = HttpTransport("localhost", server.port, tls.context(Tls(), "localhost"), 15)
        await made.send(ASK)

    with serving(authority) as server, pytest.raises(RaveError) as caught:
        run(main())
    assert caught.value.code is Code.TLS
    assert caught.value.attributes["unsent"]


def test_a_name_that_is_none(authority: Authority, run: Run) -> None:
    async def main() -> None:
        made = HttpTransport("none.invalid", 443, tls.context(settings(authority), "none.invalid"), 15)
        await made.send(ASK)

    with pytest.raises(RaveError) as caught:
        run(main())
    assert caught.value.code is Code.NETWORK
    assert caught.value.attributes == {"host": "none.invalid", "unsent": True}


def test_a_server_without_tls(authority: Authority, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=plain_text, args=(listener,))
        thread.start()
        error = failure(run, listener.getsockname()[1], authority)
        thread.join()
    assert error.code is Code.TLS
    assert error.hint


def plain_text(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad HttpRequest\r\n\r\n")


async def test_a_fault_of_ours_reaches_whoever_awaits(authority: Authority) -> None:
    with serving(authority) as server, pytest.raises(ValueError, match="control characters"):
        async with opened(server.port, authority) as made:
            await made.send(ASK._replace(method="NO\nLINES"))


# Time.


def test_an_answer_that_does_not_come(authority: Authority, run: Run) -> None:
    with serving(authority) as server:
        server.hang()
        error = failure(run, server.port, authority, patience=0.2)
    assert error.code is Code.TIMEOUT
    assert "unsent" not in error.attributes


def test_a_handshake_that_does_not_come(authority: Authority, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(run, listener.getsockname()[1], authority, patience=0.2)
    assert error.code is Code.TIMEOUT
    assert error.attributes["unsent"]


async def test_an_answer_that_trickles(authority: Authority) -> None:
    """Each byte comes in time, the answer does not."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"

    async def main() -> float:
        begun = time.monotonic()
        async with opened(server.port, authority, patience=0.3) as made:
            with pytest.raises(RaveError) as caught:
                await made.send(ASK)
            assert caught.value.code is Code.TIMEOUT
            took = time.monotonic() - begun
            await no_threads()
            return took

    with serving(authority, Reply(raw=head)) as server:
        handler = server._http.RequestHandlerClass
        send = handler._send  # type: ignore[attr-defined]

        def trickle(self: Any, reply: Reply) -> None:
            send(self, reply)
            for _ in range(1000):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
                time.sleep(0.02)

        handler._send = trickle  # type: ignore[attr-defined]
        assert await main() < 2


async def test_the_loop_goes_on_while_a_request_hangs(authority: Authority) -> None:
    async def main() -> float:
        async with opened(server.port, authority, patience=0.5) as made:
            asking = asyncio.ensure_future(made.send(ASK))
            longest, before = 0.0, time.monotonic()
            while not asking.done():
                await asyncio.sleep(0.005)
                longest, before = max(longest, time.monotonic() - before), time.monotonic()
            assert isinstance(asking.exception(), RaveError)
            return longest

    with serving(authority) as server:
        server.hang()
        longest = await main()
    assert longest < 0.25, f"the loop stood still for {longest:.3f} s"


# Ends.


async def test_a_cancelled_request_leaves_nothing_behind(authority: Authority) -> None:
    with serving(authority) as server:
        server.hang()
        async with opened(server.port, authority) as made:
            asking = asyncio.ensure_future(made.send(ASK))
            await arrival(server)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await no_threads()
            server.release()
            assert (await made.send(ASK)).status == 200
    assert server.asked[0].connection != server.asked[1].connection


async def test_requests_take_turns_and_a_cancelled_one_gives_its_turn_away(authority: Authority) -> None:
    with serving(authority) as server:
        server.hang()
        async with opened(server.port, authority) as made:
            first = asyncio.ensure_future(made.send(ASK))
            await arrival(server)
            second, third = (asyncio.ensure_future(made.send(ASK)) for _ in range(2))
            await asyncio.sleep(0)
            assert len(server.asked) == 1
            second.cancel()
            server.release()
            assert (await first).status == (await third).status == 200
            assert second.cancelled()
    assert len(server.asked) == 2


async def test_a_connection_in_use_is_not_dropped(authority: Authority) -> None:
    with serving(authority) as server:
        server.hang()
        async with opened(server.port, authority) as made:
            asking = asyncio.ensure_future(made.send(ASK))
            await arrival(server)
            made.drop_idle()
            server.release()
            assert (await asking).status == 200
            assert (await made.send(ASK)).status == 200
    assert server.asked[0].connection == server.asked[1].connection


async def test_closing_ends_what_is_under_way_at_once(authority: Authority) -> None:
    with serving(authority) as server:
        server.hang()
        async with opened(server.port, authority) as made:
            requests = [asyncio.ensure_future(made.send(ASK)) for _ in range(2)]
            await arrival(server)
            made.close()
            made.close()
            for outcome in await asyncio.gather(*requests, return_exceptions=True):
                assert isinstance(outcome, RaveError)
                assert outcome.code is Code.CLOSED
            await no_threads()
            with pytest.raises(RaveError):
                await made.send(ASK)
    assert len(server.asked) == 1


async def test_closing_and_cancelling_at_once(authority: Authority) -> None:
    with serving(authority) as server:
        server.hang()
        async with opened(server.port, authority) as made:
            asking = asyncio.ensure_future(made.send(ASK))
            await arrival(server)
            made.close()
            asking.cancel()
            await asyncio.wait([asking])
            await no_threads()


async def test_ending_in_the_middle_of_a_handshake(authority: Authority) -> None:
    """The socket can't be reached then, but no request follows."""

    with serving(authority) as server, socket.create_server(("127.0.0.1", 0)) as front:
        async with opened(front.getsockname()[1], authority, patience=10) as made:
            asking = asyncio.ensure_future(made.send(ASK))
            connection, _ = await asyncio.get_running_loop().run_in_executor(None, front.accept)
            asking.cancel()
            await asyncio.wait([asking])
            with connection, socket.create_connection(("127.0.0.1", server.port)) as back:
                pumps = [
                    threading.Thread(target=pump, args=ends) for ends in ((connection, back), (back, connection))
                ]
                for each in pumps:
                    each.start()
                await no_threads()
                for each in pumps:
                    each.join()
    assert server.asked == []


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


async def test_a_connection_that_the_server_closed_is_replaced(authority: Authority) -> None:
    with serving(authority) as server:
        async with opened(server.port, authority) as made:
            await made.send(ASK)
            line = made._line
            assert line
            assert line.is_connected
            for each in server._sockets:
                socket.socket.shutdown(each, socket.SHUT_RDWR)
            await until(lambda: not line.is_connected)
            assert (await made.send(ASK)).status == 200
    assert server.asked[0].connection != server.asked[1].connection


PROGRAM = """
    import asyncio, signal, socket, sys, time
    from ravesvc.api import tls, transport
    from ravesvc.config.worker_options import Tls

    async def main(port, ca_file):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        made = transport.HttpTransport("localhost", port, tls.context(Tls(ca_file=ca_file), "localhost"), 15)
        print("ready", flush=True)
        try:
            await made.send(transport.HttpRequest("GET", "/", {}, None))
        finally:
            made.close()

    def slow(*args, **options):
        print("resolving", flush=True)
        time.sleep(30)

    if sys.argv[3] == "resolver":
        socket.getaddrinfo = slow
    try:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
    except asyncio.CancelledError:
        pass
"""


@pytest.mark.process
@pytest.mark.parametrize("hanging", ["server", "resolver"])
def test_a_process_ends_at_once_while_a_request_hangs(authority: Authority, hanging: str) -> None:
    with serving(authority) as server:
        server.hang()
        command = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)]
        with subprocess.Popen(
            [*command, str(server.port), str(authority.ca_file), hanging], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            if hanging == "server":
                assert server.arrived.wait(10)
            else:
                assert process.stdout.readline() == b"resolving\n"
            begun = time.monotonic()
            process.terminate()
            assert process.wait(10) == 0
            assert time.monotonic() - begun < 2
