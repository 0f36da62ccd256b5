"""Serving: HTTPS and WSS for the clients, the control socket for people and tests."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import ssl
from pathlib import Path

from aiohttp import web

from ravesvc.errors import Code, RaveError
from ravesvc.simulator.account import SimulatedAccount
from ravesvc.simulator.control import ControlApi
from ravesvc.simulator.http_endpoint import HttpEndpoint
from ravesvc.simulator.login import LoginEndpoints
from ravesvc.simulator.party import Party
from ravesvc.simulator.party_calls import PartyCalls
from ravesvc.simulator.people_calls import PeopleCalls
from ravesvc.simulator.provider import SimulatedProvider
from ravesvc.simulator.request_checks import CallChecks
from ravesvc.simulator.rest import Rest
from ravesvc.simulator.socket_endpoint import SocketEndpoint
from ravesvc.simulator.state_dir import StateDir
from ravesvc.simulator.uploads import UploadEndpoints
from ravesvc.simulator.world import World
from ravesvc.systemd.notify import notify, notify_reloading

logger = logging.getLogger(__name__)

_GOING_AWAY = 1001
# Calls that a fault option leaves hanging must not delay the shutdown.
_SHUTDOWN_TIMEOUT_S = 0.2
_MAX_PENDING_CONNECTIONS = 1024
# Larger than any picture: the fault option `upload_limit` decides which pictures are too large.
_MAX_BODY_BYTES = 64 << 20


class Simulator:
    """A simulator that listens on `host:port` (0: any port) and on the control socket at `control`."""

    def __init__(
        self, state_dir: StateDir, account: SimulatedAccount, *, host: str, port: int, control: Path
    ) -> None:
        self.world = World(account)
        self._host = host
        self._port = port
        self._control = control
        self._sockets = SocketEndpoint(self.world)
        self._party = Party(self.world)
        self._runner = _runner(self._app(account))
        self._control_runner = _runner(ControlApi(self.world, self._party, self._relisten).app())
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(state_dir.certificate, state_dir.key)
        self._site: web.TCPSite | None = None

    @property
    def port(self) -> int:
        """The port of `https://`, once it listens."""
        return self._port

    async def start(self) -> None:
        """Listen; raises `RaveError` (Network) when an address is taken."""
        try:
            await self._runner.setup()
            await self._control_runner.setup()
            await self._relisten()
            self._control.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            await web.UnixSite(self._control_runner, self._control).start()
        except OSError as e:
            await self.stop()
            hint = "is another one running?" if e.errno == errno.EADDRINUSE else "see --listen and --control"
            raise RaveError(Code.NETWORK, f"can't listen: {e.strerror or e}", hint=hint) from e
        # Members of the group of the service may control it.
        self._control.chmod(0o660)

    async def stop(self) -> None:
        """Close all sockets with 1001 and stop listening."""
        await self._sockets.close_all(_GOING_AWAY)
        self._party.close()
        self.world.log.close()
        self._hang_up()
        await self._runner.cleanup()
        await self._control_runner.cleanup()

    def _hang_up(self) -> None:
        """Cut the connections that are left: the event loop would end before a TLS shutdown does."""
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def _relisten(self) -> None:
        """Open the port, or close it while a fault refuses calls; sockets that are open stay."""
        if self.world.faults.refusing and self._site is not None:
            await self._site.stop()
            self._site = None
        elif not self.world.faults.refusing and self._site is None:
            self._site = web.TCPSite(
                self._runner, self._host, self._port, ssl_context=self._tls, backlog=_MAX_PENDING_CONNECTIONS
            )
            await self._site.start()
            self._port = self._runner.addresses[0][1]
            self.world.server = f"localhost:{self._port}"

    def _app(self, account: SimulatedAccount) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        endpoint = HttpEndpoint(self.world)
        checks = CallChecks(account.identity, self.world.sessions)
        app.add_routes([web.get("/", self._sockets.handle)])
        app.add_routes(Rest(self.world, endpoint, checks).routes())
        app.add_routes(PartyCalls(self.world, self._party, endpoint, checks).routes())
        app.add_routes(PeopleCalls(self.world, endpoint, checks).routes())
        app.add_routes(UploadEndpoints(self.world, endpoint, checks).routes())
        app.add_routes(SimulatedProvider(self.world).routes())
        app.add_routes(LoginEndpoints(self.world, endpoint, checks, account).routes())
        app.add_routes([web.route("*", "/{path:.*}", self._unknown)])
        return app

    async def _unknown(self, request: web.Request) -> web.Response:
        self.world.log.violation(f"{request.method} {request.path[:80]}", "no such call")
        return web.json_response({"error": {"code": 404, "message": "no such call"}}, status=404)


def _runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)


async def serve(state_dir: StateDir, *, host: str, port: int, control: Path) -> None:
    """Serve until SIGTERM or SIGINT, and start afresh at SIGUSR1, as by a restart; raises `RaveError`."""
    state_dir.init()
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[int]()
    # Not SIGHUP, which is the end of a terminal.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        loop.add_signal_handler(number, signals.put_nowait, number)
    while True:
        simulator = Simulator(state_dir, state_dir.account(), host=host, port=port, control=control)
        await simulator.start()
        logger.info("a Rave on https://%s, steered through %s", simulator.world.server, control)
        notify("READY=1", f"STATUS=A Rave on https://{simulator.world.server}")
        if await signals.get() != signal.SIGUSR1:
            break
        notify_reloading()
        await simulator.stop()
        # The same port as before, because clients have its address.
        port = simulator.port
    notify("STOPPING=1", "STATUS=Closing sockets")
    await simulator.stop()
