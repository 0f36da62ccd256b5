"""A real worker in our process, in a mesh of the simulator, and what it says on a private bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from ravesvc import names
from ravesvc.bot.last_step import LastStep
from ravesvc.bus import Bus, SignalMessage
from ravesvc.config.worker_options import Servers, Tls
from ravesvc.config.worker_settings import Edition, MeshSettings, Session
from ravesvc.mesh.bus_link import BusLink
from ravesvc.mesh.worker import Worker
from ravesvc.names import ExitStatus
from tests.unit.bus_fakes import connected
from tests.unit.conftest import until
from tests.unit.simulator_server import Served, in_thread

EDITION = Edition("1.2.3", "0123456789abcdef")


def settings_for(served: Served, attempts_allowed: int) -> MeshSettings:
    base = f"https://{served.server}"
    return MeshSettings(
        identity=served.account.identity,
        servers=Servers(api=base, parse=f"{base}/parse", mojo=f"{base}/mojo"),
        tls=Tls(ca_file=str(served.state_dir.ca_file)),
        connect_ports=(int(served.server.partition(":")[2]),),
        command_prefix=("?",),
        typing_delay=0.0,
        max_connection_attempts=attempts_allowed,
        connection_failure_window=0.0,
    )


class BotUnderTest:
    """A worker with this session from its start. `heard` is what it says on the bus."""

    def __init__(self, served: Served, mesh: str, attempts_allowed: int, session: Session | None) -> None:
        self.served = served
        self.control = served.control
        self.mesh = mesh
        self.stopped = asyncio.Event()
        self.heard: list[tuple[Any, ...]] = []
        last_step = LastStep(b"", lambda what, where: None)
        self.worker = Worker(
            mesh,
            settings_for(served, attempts_allowed),
            EDITION,
            session,
            partial(BusLink, secrets={}, last_step=last_step),
        )
        self.running: asyncio.Task[ExitStatus]

    @property
    def words(self) -> list[str]:
        """The signals that it has sent, without what is in them."""
        return [said[0] for said in self.heard]

    def listen(self, signal: SignalMessage) -> None:
        self.heard.append((signal.member, *signal.body))

    async def says(self, *said: Any) -> None:
        await until(lambda: said in self.heard)

    async def connects(self) -> int:
        """Wait for the connection; returns its number."""
        await in_thread(self.control.wait, connected=[self.mesh], timeout=5)
        return (await in_thread(self.control.connections))[self.mesh]

    async def ends(self) -> ExitStatus:
        async with asyncio.timeout(5):
            return await self.running

    async def last_close(self) -> dict[str, Any]:
        await in_thread(self.control.wait, disconnected=[self.mesh], timeout=5)
        return dict((await in_thread(self.control.mesh, self.mesh))["ended"][-1])

    async def answer(self, text: str, **options: Any) -> list[str]:
        return list(await in_thread(self.control.chat, self.mesh, text, wait=5, **options))


async def ask(bus: Bus, mesh: str, member: str) -> list[Any]:
    return await bus.call(names.worker_name(mesh), names.worker_path(mesh), names.WORKER_INTERFACE, member)


@contextlib.asynccontextmanager
async def living(bot: BotUnderTest) -> AsyncIterator[Bus]:
    """A bot that is started, and stopped at the end. Yields a connection to its bus."""
    async with connected(os.environ["DBUS_SYSTEM_BUS_ADDRESS"]) as (bus,):
        await bus.match(f"type='signal',interface='{names.WORKER_INTERFACE}'", bot.listen)
        bot.running = asyncio.create_task(bot.worker.run(bot.stopped))
        try:
            yield bus
        finally:
            bot.stopped.set()
            await bot.ends()


@contextlib.asynccontextmanager
async def bot_of(served: Served, mesh: str, attempts_allowed: int = 1) -> AsyncIterator[tuple[BotUnderTest, Bus]]:
    """A bot that knows the simulator's session."""
    bot = BotUnderTest(served, mesh, attempts_allowed, served.session)
    async with living(bot) as bus:
        yield bot, bus
