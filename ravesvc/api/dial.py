"""Getting a connection to a host: all of its addresses in a race, through the proxy if there is one.

An address may swallow what is sent to it: broken IPv6, a dead server behind a name with several. So the next address
gets its turn 250 ms after the one before, or as soon as that has failed; the families alternate (RFC 8305). The first
connection that is complete, TLS and all, is used, and the others are closed; nothing has been asked on those yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, NamedTuple, TypeVar

from ravesvc.config import proxy as proxies
from ravesvc.config.worker_options import Proxy
from ravesvc.errors import Code, RaveError

T = TypeVar("T")

# Seconds that an address has before the next one is tried as well: until it takes the connection (RFC 8305, 5), and
# from there to the end of the handshakes, which take several round trips.
STAGGER_S = 0.25
HANDSHAKE_S = 1.0
# No name of Rave's has more; a resolver that names thousands is not worth the time.
MAX_ADDRESSES = 16
# The resolver's time: two servers that don't answer, and then one that does (resolv.conf(5)).
RESOLVE_TIMEOUT_S = 12.0
# The proxy has to accept the connection and to answer within this time.
PROXY_TIMEOUT_S = 10.0
_MAX_PROXY_REPLY_BYTES = 16 << 10

_Address = tuple[socket.AddressFamily, Any]

# The family that has won last, by host and port: it comes first the next time, so that broken IPv6 costs a quarter of
# a second once. Not the address: which one of a family comes first is the resolver's to balance.
_winners: dict[tuple[str, int], socket.AddressFamily] = {}
_MAX_WINNERS = 256


async def dial(
    host: str,
    port: int,
    proxy: Proxy | None,
    finish: Callable[[socket.socket], Awaitable[T]],
    discard: Callable[[T], None],
) -> T:
    """What `finish` makes of the first connection to `host` that it can finish; the caller limits the time.

    `finish` owns the socket that it gets, not blocking, and closes it when it fails; `discard` closes what it has
    made when another connection was quicker. Raises OSError (of which ssl.SSLError and socket.gaierror are kinds),
    or `RaveError` (Network, Timeout) by the proxy, which it names.
    """
    if proxy is None or proxies.bypasses(proxy, host, port):
        proxy, where = None, (host, port)
        addresses = await resolve(*where)
    else:
        where = proxy.host, proxy.port
        try:
            addresses = await resolve(*where)
        except OSError as e:
            raise _unreachable(proxy, e) from None

    async def attempt(address: _Address, taken: Callable[[], None]) -> T:
        made = await _connect(address) if proxy is None else await _through(proxy, address, taken, host, port)
        taken()
        finished = await finish(made)
        _remember(where, address[0])
        return finished

    return await _race(addresses, attempt, discard)


class Ports(NamedTuple):
    """The ports that a bot may connect to; `apply` is what gives others to one that runs (`Advice`)."""

    allowed: Collection[int]
    apply: str

    def require(self, host: str, port: int, proxy: Proxy | None) -> None:
        """Raises `RaveError` (Network) if a bot may not connect to that port.

        The kernel would refuse it as well (`mesh/confinement.py`), but without a word on what to do. Through the
        proxy every port can be reached: what the kernel sees is a connection to the proxy.
        """
        direct = proxy is None or proxies.bypasses(proxy, host, port)
        if direct and port not in self.allowed:
            allowed = ", ".join(map(str, sorted(self.allowed)))
            what = f"port {allowed}" if len(self.allowed) == 1 else f"the ports {allowed}"
            message = f"can't connect to {host}:{port}: bots connect to {what} alone"
            hint = f"add {port} to connect_ports in rave.yaml, then {self.apply}"
            raise RaveError(Code.NETWORK, message, hint=hint, port=port)


async def resolve(host: str, port: int) -> list[_Address]:
    """The addresses of `host`, in the resolver's order, but the families in turn, first the one that has won last.

    Raises OSError. The resolver runs in a daemon thread: an executor's would hold up the end of the process until it
    has given up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[_Address]] = loop.create_future()

    def deliver(found: list[_Address] | OSError) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[_Address] | OSError
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [(family, address) for family, _, _, _, address in infos]
        except OSError as e:
            found = e
        except UnicodeError:
            found = OSError(None, "this is not a host name")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(deliver, found)

    threading.Thread(target=ask, name="rave-resolve", daemon=True).start()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await answer
    except TimeoutError:
        raise OSError(None, f"the resolver has not answered within {RESOLVE_TIMEOUT_S:g} s") from None
    preferred = _winners.get((host, port))
    return _interleave(sorted(found, key=lambda address: address[0] != preferred))[:MAX_ADDRESSES]


async def shake_hands(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """TLS over a connection that does not block; closes it when that fails. Raises OSError."""
    loop = asyncio.get_running_loop()
    context.sslsocket_class = _TlsSocket
    secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(loop.add_reader, loop.remove_reader, secured)
            except ssl.SSLWantWriteError:
                await _ready(loop.add_writer, loop.remove_writer, secured)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the other side has hung up before TLS; `wrap_socket` would leak it then."""

    def getpeername(self) -> Any:
        """See `socket.getpeername`."""
        try:
            return super().getpeername()
        except OSError:
            self.close()
            # Not ENOTCONN, which would count as a socket that is still to be connected.
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None


def reason(error: OSError) -> str:
    """Why, in words."""
    return error.strerror or "the connection was cut"


def _interleave(addresses: Iterable[_Address]) -> list[_Address]:
    """The same, each once, the families in turn."""
    families: dict[socket.AddressFamily, list[_Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address[0], []).append(address)
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


def _remember(where: tuple[str, int], family: socket.AddressFamily) -> None:
    if len(_winners) >= _MAX_WINNERS:
        _winners.clear()
    _winners[where] = family


async def _race(
    addresses: list[_Address],
    attempt: Callable[[_Address, Callable[[], None]], Awaitable[T]],
    discard: Callable[[T], None],
) -> T:
    """The outcome of the first `attempt` that succeeds; raises what is most to the point of all failures.

    An attempt is given what it has to call once its address has taken the connection: the next one waits longer then.
    """
    loop = asyncio.get_running_loop()
    waiting = list(reversed(addresses))
    running: set[asyncio.Future[T]] = set()
    failures: list[Exception] = []
    next_at = 0.0

    def taken() -> None:
        nonlocal next_at
        next_at = max(next_at, loop.time() + HANDSHAKE_S)

    try:
        while waiting or running:
            if waiting and loop.time() >= next_at:
                next_at = loop.time() + STAGGER_S
                running.add(asyncio.ensure_future(attempt(waiting.pop(), taken)))
            pause = max(0.0, next_at - loop.time()) if waiting else None
            done, _ = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                error = each.exception()
                if error is None:
                    running.remove(each)
                    return each.result()
                if not isinstance(error, OSError | RaveError):
                    raise error
                running.remove(each)
                failures.append(error)
                next_at = 0.0
    finally:
        for each in running:
            each.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(late, BaseException):
                discard(late)
    raise _most_telling(failures)


def _most_telling(failures: list[Exception]) -> Exception:
    """One that came far (to the proxy's answer, to TLS) before those of addresses; of these all reasons."""
    for kind in RaveError, ssl.SSLError:
        for error in failures:
            if isinstance(error, kind):
                return error
    reasons = dict.fromkeys(reason(error) for error in failures if isinstance(error, OSError))
    return OSError(None, "; ".join(reasons) or "it has no address")


async def _connect(address: _Address) -> socket.socket:
    """A connection to one address that does not block. Raises OSError."""
    made = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not the loop's sock_connect: for some addresses that asks the resolver again, in an executor.
        with contextlib.suppress(BlockingIOError):
            made.connect(address[1])
        loop = asyncio.get_running_loop()
        await _ready(loop.add_writer, loop.remove_writer, made)
        _check(made)
    except BaseException:
        made.close()
        raise
    return made


def _check(made: socket.socket) -> None:
    if error := made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))


async def _through(proxy: Proxy, address: _Address, taken: Callable[[], None], host: str, port: int) -> socket.socket:
    """A connection to `host` through the proxy at one of its addresses. Raises `RaveError`."""
    made: socket.socket | None = None
    try:
        async with asyncio.timeout(PROXY_TIMEOUT_S):
            made = await _connect(address)
            taken()
            await _ask_proxy(made, proxy, host, port)
    except BaseException as e:
        if made is not None:
            made.close()
        if isinstance(e, TimeoutError) and not e.errno:
            message = f"{proxies.what(proxy)} did not answer within {PROXY_TIMEOUT_S:g} s"
            raise proxies.failure(proxy, message, code=Code.TIMEOUT) from None
        if isinstance(e, OSError):
            raise _unreachable(proxy, e) from None
        raise
    return made


async def _ask_proxy(made: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have the proxy connect to `host`. Raises `RaveError` when it does not, OSError when it is gone."""
    loop = asyncio.get_running_loop()
    try:
        request = proxies.connect_request(proxy, host, port)
    except UnicodeError:
        raise RaveError(Code.NETWORK, f"{host} can't be reached: this is not a host name") from None
    await loop.sock_sendall(made, request)
    answer = b""
    # TLS begins with us, so that nothing may follow the empty line.
    while b"\n\r\n" not in answer and b"\n\n" not in answer and len(answer) < _MAX_PROXY_REPLY_BYTES:
        more = await loop.sock_recv(made, 4096)
        if not more and not answer:
            raise OSError(None, "it closed the connection")
        if not more:
            break
        answer += more
    if error := proxies.refusal(proxy, answer, host, port):
        raise error
    if not answer.endswith((b"\n\r\n", b"\n\n")):
        raise proxies.failure(proxy, f"{proxies.what(proxy)} does not answer as an HTTP proxy does")


def _unreachable(proxy: Proxy, error: OSError) -> RaveError:
    return proxies.failure(proxy, f"{proxies.what(proxy)} can't be reached: {reason(error)}")


async def _ready(
    add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object], made: socket.socket
) -> None:
    """Wait until a socket can be read or written: `add` and `remove` are the loop's methods for that."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    descriptor = made.fileno()
    add(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(descriptor)
